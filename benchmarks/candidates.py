"""What else could make a training step faster on a CPU, each tried beside the step that is used.

Each candidate is the step of `Trainer`, with PyTorch's own kernels and for one seed, with one thing
changed, in a process of its own; it takes turns with the unchanged step, so that a noisy machine is
as noisy for both. Reported: the median over rounds of the candidate's rate to the used step's, with
quartiles. Above 1 it pays.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tables
from training import BATCH, JOB_ENVIRONMENT, STEPS, turn

from bnorder.errors import exit_cleanly

ARMS = (("conv-bn-act", 2), ("conv-bn-act", 5), ("conv-act-bn", 2), ("conv-act-bn", 5))
Step = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/candidates.csv"))
    parser.add_argument("--data", type=Path, default=Path("results/data/mnist.pt"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--only", nargs="+", choices=list(CANDIDATES)[1:], metavar="CANDIDATE")
    parser.add_argument("--serve", choices=CANDIDATES, help=argparse.SUPPRESS)
    parser.add_argument("--arm", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.arm, arguments.data)
    else:
        names = arguments.only or list(CANDIDATES)[1:]
        measure_all(names, arguments.out, arguments.data, arguments.rounds)


def measure_all(names: Sequence[str], out: Path, data: Path, rounds: int) -> None:
    start, rows, machine = time.monotonic(), [], tables.this_machine()
    for name in names:
        for number, (ordering, depth) in enumerate(ARMS):
            row = {"candidate": name, "ordering": ordering, "depth": depth}
            rows.append(row | measure(name, number, data, rounds))
            tables.write(out, rows, machine, list(row))
            left = (time.monotonic() - start) * (len(names) * len(ARMS) / len(rows) - 1)
            print(f"{rows[-1]}, {left // 60:.0f}:{left % 60:02.0f} left", flush=True)


def measure(name: str, number: int, data: Path, rounds: int) -> dict[str, object]:
    """The candidate's rate to the used step's; empty, with the reason, where it does not run."""
    used, candidate = start("used", number, data), start(name, number, data)
    try:
        turns = [(turn(used), turn(candidate)) for _ in range(rounds)]
    except (ValueError, BrokenPipeError):
        candidate.kill()
        return {"ratio": None, "failed": last_line(candidate)}
    finally:
        used.communicate()
    candidate.communicate()
    seeds = int(name[0]) if name.endswith("seeds together") else 1
    low, middle, high = statistics.quantiles([seeds * a / b for a, b in turns], n=4)
    rate = statistics.median(seeds * STEPS * BATCH / b for _, b in turns)
    return {
        "ratio": round(middle, 3),
        "ratio_q1": round(low, 3),
        "ratio_q3": round(high, 3),
        "images_per_second": round(rate),
        "failed": "",
    }


def last_line(process: "subprocess.Popen[str]") -> str:
    lines = (process.communicate()[1] or "").strip().splitlines()
    return lines[-1][:100] if lines else "it ended without a word"


def start(name: str, number: int, data: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--serve", name, "--arm", str(number), "--data", str(data)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    environment["OMP_NUM_THREADS"] = "1"
    if name != "the allocator as it comes":
        environment |= JOB_ENVIRONMENT
    environment.pop("GLIBC_TUNABLES", None)
    if name == "huge pages":
        environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    pipe = subprocess.PIPE
    stderr = None if name == "used" else pipe
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=stderr, text=True, env=environment
    )


def serve(name: str, number: int, data_file: Path) -> None:
    """Take a turn for each line on standard input."""
    from bnorder import data
    from bnorder.study import Arm, load_study

    ordering, depth = ARMS[number]
    arm, recipe = (
        Arm("mnist", ordering, "relu", depth, "base"),
        load_study("studies/article.yaml").recipe,
    )
    step = CANDIDATES[name](arm, recipe, data.load(data_file))
    for _ in range(3):
        step()
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(STEPS):
            step()
        print(time.perf_counter() - begin, flush=True)


def used(arm: Any, recipe: Any, dataset: Any, change: Callable[[Any], None] | None = None) -> Step:
    """One step of `Trainer`, whose parts `change` may have altered."""
    import itertools

    import torch

    from bnorder.training import Tally, Trainer

    trainer = Trainer(arm, recipe, dataset, [0], torch.device("cpu"))
    if change:
        change(trainer)
    order, steps, tally = trainer._next_order(), itertools.count(), Tally()

    def step() -> None:
        number = next(steps)
        trainer._train_step(order[number % len(order)], number, tally)

    return step


def default_layout(arm: Any, recipe: Any, dataset: Any) -> Step:
    """Channels first, as images come, instead of channels last."""
    import torch

    def change(trainer: Any) -> None:
        trainer.network.to(memory_format=torch.contiguous_format)
        forward = trainer.network.forward
        trainer.network.forward = lambda images: forward(images.contiguous())

    return used(arm, recipe, dataset, change)


def torch_adam(arm: Any, recipe: Any, dataset: Any, **options: bool) -> Step:
    """Adam as `torch.optim` has it; only its step is timed here, not its import."""
    import torch

    class Stepper:
        def __init__(self, network: torch.nn.Module) -> None:
            parameters = network.parameters()
            self.adam = torch.optim.Adam(parameters, lr=recipe.learning_rate, **options)

        def step(self, _: float) -> None:
            self.adam.step()
            self.adam.zero_grad()

    def change(trainer: Any) -> None:
        trainer.optimiser = Stepper(trainer.network)

    return used(arm, recipe, dataset, change)


def pooling_last(arm: Any, recipe: Any, dataset: Any) -> Step:
    """Pooling behind each block's activation, never before it."""
    from bnorder import network

    network.MONOTONE = ()  # type: ignore[assignment]
    return used(arm, recipe, dataset)


def pooling_by_slices(arm: Any, recipe: Any, dataset: Any) -> Step:
    """Pooling as three elementwise maxima of four slices, which needs no indices."""
    import torch
    from torch import nn

    class Slices(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            top = torch.maximum(x[:, :, ::2, ::2], x[:, :, ::2, 1::2])
            return torch.maximum(top, torch.maximum(x[:, :, 1::2, ::2], x[:, :, 1::2, 1::2]))

    def change(trainer: Any) -> None:
        body = trainer.network.body
        for name, layer in list(body.named_children()):
            if isinstance(layer, nn.MaxPool2d):
                setattr(body, name, Slices())

    return used(arm, recipe, dataset, change)


def compiled(arm: Any, recipe: Any, dataset: Any) -> Step:
    """`torch.compile` of forward and backward; what compiling takes is not in the ratio."""
    import torch

    def change(trainer: Any) -> None:
        trainer.network.forward = torch.compile(trainer.network.forward)

    return used(arm, recipe, dataset, change)


def fused_kernels(arm: Any, recipe: Any, dataset: Any) -> Step:
    """Our own kernels for the network; see bnorder/fused.py."""
    from bnorder.fused import fuse, require

    require()
    return used(arm, recipe, dataset, lambda trainer: fuse(trainer.network))


def in_bf16(arm: Any, recipe: Any, dataset: Any) -> Step:
    """bfloat16 where autocast takes it; other numbers, which a recipe has to ask for."""
    from dataclasses import replace

    return used(arm, replace(recipe, precision="bf16"), dataset)


def two_threads(arm: Any, recipe: Any, dataset: Any) -> Step:
    """Two threads in one process: above 2 it would beat two processes."""
    import torch

    torch.set_num_threads(2)
    return used(arm, recipe, dataset)


def packed(arm: Any, recipe: Any, dataset: Any, seeds: int) -> Step:
    """Seeds as one grouped network, as on a GPU; images of all of them count."""
    import torch

    from bnorder.training import Tally, Trainer

    trainer = Trainer(arm, recipe, dataset, range(seeds), torch.device("cpu"))
    order, tally = trainer._next_order(), Tally()
    return lambda: trainer._train_step(order[len(tally.losses) % len(order)], 0, tally)


CANDIDATES: dict[str, Callable[[Any, Any, Any], Step]] = {
    "used": used,
    "channels first": default_layout,
    "torch.optim's Adam": torch_adam,
    "torch.optim's Adam, fused": lambda *a: torch_adam(*a, fused=True),
    "the allocator as it comes": used,
    "pooling behind the activation": pooling_last,
    "pooling by slices": pooling_by_slices,
    "torch.compile": compiled,
    "fused": fused_kernels,
    "bf16": in_bf16,
    "huge pages": used,
    "two threads in one process": two_threads,
    "2 seeds together": lambda *a: packed(*a, seeds=2),
    "5 seeds together": lambda *a: packed(*a, seeds=5),
}

if __name__ == "__main__":
    exit_cleanly(main)
