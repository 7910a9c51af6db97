"""Everything that this project wants to know of a GPU, checked and timed in one call.

Needs torch and the library's few dependencies, not Snakemake. Writes into --out:
checks.csv     what a job takes (the fused kernels, captured) against the same again, PyTorch's own
               kernels captured and plain, and the CPU, with the largest differences; and how far
               TF32 and bf16 move the results;
replicas.csv   ways to convolve packed replicas, and whether each is exact;
training.csv   images a second of what a job takes, of PyTorch's own kernels captured and plain, and
               of a tutorial's loop, for each order, depth 2 and 5, ReLU and ELU, with the bandwidth
               and arithmetic it comes to;
article.csv    wall seconds of the whole article study in one process, from its start, with nothing
               compiled before.
A part that fails says why, and the others go on; what is measured is written row by row. Where a
call is shorter than all of it, --only takes parts of it, and --results keeps the article study's
records, with which a second call goes on. Without a GPU, --rehearse runs the same code on the CPU
with tiny numbers, and on any data set.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from training import multiply_adds, tutorial_step

from bnorder import data, fused_gpu, jobs, training
from bnorder.blocks import Shape
from bnorder.captured import CapturedTrainer, Replayed
from bnorder.errors import UserError, exit_cleanly
from bnorder.files import replacing
from bnorder.network import Network
from bnorder.study import Arm, Recipe, Run, load_study
from bnorder.training import Trainer

# Ceilings from the makers' data sheets: bytes and float32 operations a second (no tensor cores), by
# the card's whole name, since its PCIe and NVL editions have others. Other cards get no shares.
CEILINGS = {
    "NVIDIA H100 80GB HBM3": (3.35e12, 67e12),
    "NVIDIA H200": (4.8e12, 67e12),
    "NVIDIA A100-SXM4-80GB": (2.04e12, 19.5e12),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"))
    parser.add_argument("--data", type=Path, default=Path("results/data/mnist.pt"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--rehearse", action="store_true", help="tiny numbers, also on a CPU")
    parser.add_argument(
        "--results", type=Path, help="keep the article study's records here, and go on with them"
    )
    arguments = parser.parse_args()
    device = jobs.pick_device()
    if device.type != "cuda" and not arguments.rehearse:
        raise UserError("no GPU is visible; with --rehearse the same code runs on the CPU")
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(device, data.load(arguments.data), arguments.rounds, arguments.rehearse)
    bench.results = arguments.results
    failed = [name for name in arguments.only if not measured(name, bench, arguments.out)]
    if failed:
        raise UserError(f"failed: {', '.join(failed)}; the reasons stand above")


def measured(name: str, bench: "Bench", out: Path) -> bool:
    """Measure a part, its rows written one by one: the command may be cut. False if it fails."""
    start, rows = time.monotonic(), list[dict[str, Any]]()
    try:
        for row in PARTS[name](bench):
            rows.append(row | bench.machine)
            write(out / f"{name}.csv", rows)
    except Exception:  # the time on a borrowed GPU is short: the other parts are still worth having
        traceback.print_exc()
        return False
    print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    return True


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    import csv

    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)


class Bench:
    """What all parts share: device, data, recipe, how many steps and rounds."""

    def __init__(
        self, device: torch.device, dataset: data.Dataset, rounds: int, rehearse: bool
    ) -> None:
        self.device, self.dataset, self.rounds = device, dataset, rounds
        changes: dict[str, Any] = {}
        if rehearse:
            changes = {"datasets": [dataset.name], "seeds": 2, "orderings": ["conv-bn-act"]}
            changes |= {"activations": ["relu"], "depths": [2], "train_images": 256, "epochs": 1}
        self.study = load_study("studies/article.yaml", changes)
        if dataset.name not in self.study.datasets:
            raise UserError(
                f"--data holds {dataset.name}; expected {self.study.datasets[0]}, or --rehearse"
            )
        self.recipe, self.seeds = self.study.recipe, self.study.seeds
        self.steps = 2 if rehearse else 100
        self.changes = changes
        own = jobs.kernels_here(self.study, device)
        self.ours = jobs.trainer_kind(device, False, own, self.recipe)
        self.machine = vars(jobs.provenance(device)) | {"kernels": own}
        self.results: Path | None = None
        training.set_exactness(self.recipe)

    def arms(self) -> list[Arm]:
        """One arm of each order, ReLU or ELU, at each depth."""
        return [arm for arm in self.study.arms() if arm.activation in ("relu", "elu")]

    def deep_arms(self) -> list[Arm]:
        depth = max(self.study.depths)
        return [arm for arm in self.arms() if arm.depth == depth and arm.activation == "relu"]

    def short(self, **changes: Any) -> Recipe:
        """The recipe for one epoch of at most 12,800 images."""
        images = min(12_800, self.recipe.train_images or 12_800)
        return replace(self.recipe, train_images=images, epochs=1, **changes)

    def seconds(self, action: Callable[[], None]) -> float:
        """Seconds of `action` until the device is done with it."""
        training.wait_for(self.device)
        start = time.perf_counter()
        action()
        training.wait_for(self.device)
        return time.perf_counter() - start


def checks(bench: Bench) -> Iterator[dict[str, Any]]:
    """Largest differences in test accuracy (pp) and final test loss between two ways to train."""
    cpu, seeds = torch.device("cpu"), bench.seeds[:3]
    ways: dict[str, Callable[[Arm], list[Any]]] = {
        "ours": lambda arm: trained(bench, bench.ours, arm, seeds, bench.device),
        "ours again": lambda arm: trained(bench, bench.ours, arm, seeds, bench.device),
        "captured": lambda arm: trained(bench, CapturedTrainer, arm, seeds, bench.device),
        "plain, packed": lambda arm: trained(bench, Trainer, arm, seeds, bench.device),
        "plain, alone": lambda arm: [
            record
            for seed in seeds
            for record in trained(bench, Trainer, arm, [seed], bench.device)
        ],
        "CPU, alone": lambda arm: [
            record for seed in seeds for record in trained(bench, Trainer, arm, [seed], cpu)
        ],
        "tf32": lambda arm: trained(
            bench, CapturedTrainer, arm, seeds, bench.device, precision="tf32"
        ),
        "bf16": lambda arm: trained(
            bench, CapturedTrainer, arm, seeds, bench.device, precision="bf16"
        ),
    }
    for arm in bench.deep_arms():
        reference = ways["ours"](arm)
        for name, way in list(ways.items())[1:]:
            found = way(arm)
            pairs = [
                (a.curve[-1], b.curve[-1], a.n_test) for a, b in zip(reference, found, strict=True)
            ]
            yield {
                "ordering": arm.ordering,
                "ours_against": name,
                "seeds": len(seeds),
                "max_accuracy_difference_pp": max(
                    100 * abs(a.test_correct - b.test_correct) / n for a, b, n in pairs
                ),
                "mean_accuracy_difference_pp": statistics.fmean(
                    100 * (b.test_correct - a.test_correct) / n for a, b, n in pairs
                ),
                "max_loss_difference": max(
                    abs((a.test_loss or 0) - (b.test_loss or 0)) for a, b, _ in pairs
                ),
            }


def trained(
    bench: Bench, kind: type[Trainer], arm: Arm, seeds: Any, device: torch.device, **changes: Any
) -> list[Any]:
    recipe = bench.short(**changes)
    training.set_exactness(recipe)
    try:
        runs = [Run(arm, seed) for seed in seeds]
        records = jobs.train(runs, recipe, bench.dataset, device, "check", kind=kind)
    finally:
        training.set_exactness(bench.recipe)
    return records


def training_rates(bench: Bench) -> Iterator[dict[str, Any]]:
    """Rates of the ways to train, taking turns; images of all replicas count.

    The clock runs for some steps of an epoch, whose order was drawn before: all its steps share it.
    The tutorial, much the slowest, takes a fifth as many.
    """
    for arm in bench.arms():
        ways = {
            "ours": steps_of(bench, arm, bench.ours),
            "captured": steps_of(bench, arm, CapturedTrainer),
            "plain": steps_of(bench, arm, Trainer),
            "tutorial": tutorial_steps(bench, arm),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(bench.rounds + 1):
            for name, (images, next_steps) in ways.items():
                with as_torch_comes() if name == "tutorial" else nullcontext():
                    rate = images / bench.seconds(next_steps())
                if turn:  # the first one warms up
                    rates[name].append(rate)
        row: dict[str, Any] = {
            "ordering": arm.ordering,
            "activation": arm.activation,
            "depth": arm.depth,
            **{name: round(statistics.median(values)) for name, values in rates.items()},
        }
        for other in ("captured", "plain", "tutorial"):
            ratios = [a / b for a, b in zip(rates["ours"], rates[other], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            row |= {f"ours_per_{other}": middle}
            row |= {f"ours_per_{other}_q1": low, f"ours_per_{other}_q3": high}
        yield row | achieved(bench, arm, row["ours"])
        training.wait_for(bench.device)


# A way to train: the images of some steps; what prepares them, and gives what takes them.
Way = tuple[int, Callable[[], Callable[[], None]]]


@contextmanager
def as_torch_comes() -> Iterator[None]:
    """cuDNN as a tutorial finds it: convolutions in TF32, any algorithm."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32, cudnn.deterministic = True, False
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before


def steps_of(bench: Bench, arm: Arm, kind: type[Trainer]) -> Way:
    trainer = kind(arm, bench.recipe, bench.dataset, bench.seeds, bench.device)
    images = bench.steps * bench.recipe.batch_size * len(bench.seeds)

    def next_captured() -> Callable[[], None]:
        assert isinstance(trainer, CapturedTrainer)
        trainer._begin_epoch()
        return partial(repeat, partial(trainer.take_step, trainer._step), bench.steps)

    def next_plain() -> Callable[[], None]:
        order, tally = trainer._next_order(), training.Tally()

        def steps() -> None:
            for step in range(bench.steps):
                trainer._train_step(order[step], step, tally)

        return steps

    return images, next_captured if isinstance(trainer, CapturedTrainer) else next_plain


def tutorial_steps(bench: Bench, arm: Arm) -> Way:
    step = tutorial_step(arm, bench.recipe, bench.dataset, workers=0, device=bench.device)
    steps = -(-bench.steps // 5)
    return steps * bench.recipe.batch_size, lambda: partial(repeat, step, steps)


def achieved(bench: Bench, arm: Arm, images_per_second: float) -> dict[str, float]:
    """Least traffic and arithmetic that the rate implies, as shares of the card's ceilings.

    Traffic: each layer of the body reads its input and writes its output once forwards, and twice
    that backwards; arithmetic: multiplications and additions of the convolutions.
    """
    network = Network(arm, bench.recipe, bench.dataset.shape, 10, [0])
    operations, floats = 2 * multiply_adds(arm, bench.recipe, bench.dataset.shape), 0

    def count(layer: Any, inputs: Any, output: Any) -> None:
        nonlocal floats
        floats += 3 * (inputs[0].numel() + output.numel())

    for layer in network.body.children():
        layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, *bench.dataset.shape))
    bandwidth, arithmetic = 4 * floats * images_per_second, operations * images_per_second
    row = {"bytes_per_second": bandwidth, "operations_per_second": arithmetic}
    if bench.machine["device"] in CEILINGS:
        most_bytes, most_operations = CEILINGS[bench.machine["device"]]
        row["share_of_bandwidth"] = bandwidth / most_bytes
        row["share_of_arithmetic"] = arithmetic / most_operations
    return row


def replicas(bench: Bench) -> Iterator[dict[str, Any]]:
    """Forward and backward of one packed convolution, by each way to compute it.

    What is exact is computed on the CPU. On a GPU each is captured: Python's part does not count.
    """
    batch, width = bench.recipe.batch_size, bench.recipe.width
    side, s = bench.dataset.shape[1], len(bench.seeds)
    for size in (side, side // 2, side // 4):
        shape = (batch, s * width, size, size)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(shape, generator=generator)
        w = torch.randn(s * width, width, 3, 3, generator=generator)
        exact = F.conv2d(x.double(), w.double(), padding=1, groups=s)
        for name, (convolve, layout) in WAYS.items():
            if convolve is fused_convolution and bench.device.type != "cuda":
                continue
            xs, ws = (t.to(bench.device, memory_format=layout).requires_grad_() for t in (x, w))
            once = partial(forward_and_backward, convolve, xs, ws, s)
            replay = Replayed(bench.device)
            many = partial(repeat, partial(replay, once), bench.steps)
            error = float((once().double().cpu() - exact).abs().max() / exact.abs().max())
            many()
            seconds = sorted(bench.seconds(many) / bench.steps for _ in range(bench.rounds))
            yield {
                "way": name,
                "size": size,
                "replicas": s,
                "microseconds": 1e6 * statistics.median(seconds),
                "microseconds_least": 1e6 * seconds[0],
                "microseconds_most": 1e6 * seconds[-1],
                "relative_error": error,
            }


def forward_and_backward(
    convolve: Callable[..., torch.Tensor], x: torch.Tensor, w: torch.Tensor, replicas: int
) -> torch.Tensor:
    out = convolve(x, w, replicas)
    out.backward(out.detach())  # type: ignore[no-untyped-call]
    x.grad = w.grad = None
    return out.detach()


def repeat(action: Callable[[], object], times: int) -> None:
    for _ in range(times):
        action()


def grouped(x: torch.Tensor, w: torch.Tensor, replicas: int) -> torch.Tensor:
    return F.conv2d(x, w, padding=1, groups=replicas)


def fused_convolution(x: torch.Tensor, w: torch.Tensor, replicas: int) -> torch.Tensor:
    inputs, outputs = w.shape[1], len(w) // replicas
    shape = Shape(inputs, outputs, x.shape[2], x.shape[3], w.shape[2])
    out: torch.Tensor = fused_gpu.Convolve.apply(shape, replicas, x, w, None)
    return out


def unfolded(x: torch.Tensor, w: torch.Tensor, replicas: int) -> torch.Tensor:
    """A batched matrix product of each replica's weights and patches."""
    batch, _, height, width = x.shape
    patches = F.unfold(x.reshape(batch * replicas, -1, height, width), 3, padding=1)
    patches = patches.view(batch, replicas, -1, height * width).transpose(0, 1)
    patches = patches.permute(0, 2, 1, 3).flatten(2)  # (S, inputs, batch * positions)
    out = torch.bmm(w.view(replicas, -1, patches.shape[1]), patches)
    out = out.view(replicas, -1, batch, height * width).permute(2, 0, 1, 3)
    return out.reshape(batch, -1, height, width)


def mapped(x: torch.Tensor, w: torch.Tensor, replicas: int) -> torch.Tensor:
    """`torch.vmap` over replicas of the plain convolution."""
    batch, _, height, width = x.shape
    xs = x.view(batch, replicas, -1, height, width)
    ws = w.view(replicas, -1, *w.shape[1:])
    convolve = torch.vmap(lambda a, b: F.conv2d(a, b, padding=1), in_dims=(1, 0), out_dims=1)
    out: torch.Tensor = convolve(xs, ws)
    return out.flatten(1, 2)


WAYS: dict[str, tuple[Callable[..., torch.Tensor], torch.memory_format]] = {
    "fused.cu": (fused_convolution, torch.channels_last),
    "grouped, channels last": (grouped, torch.channels_last),
    "grouped, channels first": (grouped, torch.contiguous_format),
    "matrix product of patches": (unfolded, torch.contiguous_format),
    "vmap": (mapped, torch.contiguous_format),
}


def article(bench: Bench) -> Iterator[dict[str, Any]]:
    """The whole article study by scripts/train_study.py, in a process of its own."""
    from bnorder.records import collect

    study = bench.study
    with tempfile.TemporaryDirectory(prefix="bnorder-gpu-") as folder:
        results = bench.results or Path(folder)
        cache = results / "data" / f"{bench.dataset.name}.pt"
        if not cache.exists():
            data.save(bench.dataset, cache)
        before = len(collect(study, results / study.name / "records"))
        command = [sys.executable, "scripts/train_study.py", "--study", "article"]
        command += ["--results", str(results)]
        for key, value in bench.changes.items():
            command += ["--set", f"{key}={value}"]
        start = time.monotonic()
        subprocess.run(command, check=True, env=os.environ | {"TMPDIR": folder})
        seconds = time.monotonic() - start
        records = collect(study, results / study.name / "records")
    runs = len(records) - before
    yield {
        "runs": runs,
        "wall_seconds": seconds,
        "train_seconds": sum(record.cost.train_seconds for record in records),
        "evaluate_seconds": sum(record.cost.evaluate_seconds for record in records),
        "images_per_second": runs * study.recipe.epochs * records[0].n_train / seconds,
    }


PARTS = {
    "replicas": replicas,
    "checks": checks,
    "training": training_rates,
    "article": article,
}

if __name__ == "__main__":
    exit_cleanly(main)
