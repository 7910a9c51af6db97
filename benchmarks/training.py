"""Images a second on one core: our training step, a tutorial's loop, and the arithmetic alone.

tutorial_0, tutorial_1: what a user would write - torchvision's data set, transforms, a DataLoader
with 0 or 1 workers, an eager model in the default layout, torch.optim.Adam, `loss.item()` at each
step - in an environment as it comes.
ours: one step of the trainer that a job takes - batch, forward, backward, optimiser - with as many
seeds together as the study says, in the environment of a training job.
floor: forward and backward of the same packed network on a fixed batch, and nothing else; in the
process of ours, for two of them differ by where their memory happens to lie, and step by step.
plain: as ours, but with PyTorch's own kernels (KERNELS=torch).
ceiling: a matrix product as large as the multiplications and additions of forward and backward:
what the core could do at most, were nothing ever read or written but in its cache.

Each other contestant is a process of its own; all have one thread. Within a round they take turns,
so that a noisy machine is as noisy for each, in an order of the round's own: after its turn a
worker goes on with batches for the next one, and who comes then has to share memory with it.
Reported are the median of the rounds' ratios and their quartiles.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tables

from bnorder import kernels
from bnorder.errors import UserError, exit_cleanly

BATCH = 128
STEPS = 16  # of each contestant in a round: a worker has two batches ready before the first
PROCESSES = {"ours": ("ours", "floor")} | {
    name: (name,) for name in ("plain", "ceiling", "tutorial_0", "tutorial_1")
}  # and who takes steps in each
CONTESTANTS = [name for names in PROCESSES.values() for name in names]
JOB_ENVIRONMENT = {  # as workflow/rules/train.smk sets it
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training.csv"))
    parser.add_argument("--data", type=Path, default=Path("results/data/mnist.pt"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--serve", choices=PROCESSES, help=argparse.SUPPRESS)
    parser.add_argument("--arm", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.arm, arguments.data)
    else:
        measure_all(arguments.out, arguments.data, arguments.rounds)


def arms() -> list[Any]:
    from bnorder.study import load_study

    return load_study("studies/article.yaml", {"activations": ["relu", "elu"]}).arms()


def replicas(name: str) -> int:
    """Seeds that a contestant trains at once."""
    from bnorder.study import load_study

    return 1 if name.startswith("tutorial") else load_study("studies/article.yaml").seeds_together


def measure_all(out: Path, data: Path, rounds: int) -> None:
    start, rows = time.monotonic(), []
    machine = tables.this_machine() | {"kernels": kernels.name()}
    for number, arm in enumerate(arms()):
        row = {"ordering": arm.ordering, "activation": arm.activation, "depth": arm.depth}
        rows.append(row | {"steps": STEPS} | measure(number, data, rounds))
        tables.write(out, rows, machine, list(row))
        left = (time.monotonic() - start) / len(rows) * (len(arms()) - len(rows))
        short = {k: v for k, v in rows[-1].items() if "_q" not in k}
        print(f"{short}, {left // 60:.0f}:{left % 60:02.0f} left", flush=True)
    for other in CONTESTANTS[1:]:
        ratios = [row[f"ours_per_{other}"] for row in rows]
        middle = statistics.median(ratios)
        print(f"ours per {other}: {min(ratios):.2f} to {max(ratios):.2f}, {middle:.2f}")


def measure(number: int, data: Path, rounds: int) -> dict[str, float]:
    """Median rates of the contestants for one arm, and our ratios with quartiles over rounds."""
    workers = {process: start_worker(process, number, data) for process in PROCESSES}
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number_of_round in range(rounds):
        for process in random.Random(number_of_round).sample(list(PROCESSES), len(PROCESSES)):
            for name, seconds in zip(PROCESSES[process], turn(workers[process]), strict=True):
                rates[name].append(STEPS * BATCH * replicas(name) / seconds)
    for worker in workers.values():
        worker.communicate()
    row = {name: float(round(statistics.median(values))) for name, values in rates.items()}
    for other in CONTESTANTS[1:]:
        ratios = [a / b for a, b in zip(rates["ours"], rates[other], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        row[f"ours_per_{other}"] = round(middle, 3)
        row[f"ours_per_{other}_q1"] = round(low, 3)
        row[f"ours_per_{other}_q3"] = round(high, 3)
    return row


def start_worker(name: str, number: int, data: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--serve", name, "--arm", str(number), "--data", str(data)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    environment["OMP_NUM_THREADS"] = "1"
    if not name.startswith("tutorial"):
        environment |= JOB_ENVIRONMENT
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def turn(worker: "subprocess.Popen[str]") -> list[float]:
    """Seconds that each contestant of a process took in its turn."""
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write("go\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise UserError("a contestant stopped; what it said stands above")
    return [float(seconds) for seconds in line.split()]


def serve(process: str, number: int, data_file: Path) -> None:
    """Take a turn for each line on standard input."""
    from bnorder import data
    from bnorder.study import load_study

    arm, dataset = arms()[number], data.load(data_file)
    recipe = load_study("studies/article.yaml").recipe
    if process in ("ours", "plain"):
        trainer = our_trainer(arm, recipe, dataset, "fused" if process == "ours" else "torch")
        steps = [our_step(trainer)]
        if process == "ours":
            steps.append(floor_step(trainer))
    elif process == "ceiling":
        steps = [ceiling_step(arm, recipe, dataset)]
    else:
        steps = [tutorial_step(arm, recipe, dataset, workers=int(process[-1]))]
    take_turn(steps, 3)
    for _ in sys.stdin:
        print(*take_turn(steps, STEPS), flush=True)


def take_turn(steps: Sequence[Callable[[], None]], times: int) -> list[float]:
    """Seconds of so many steps of each, one after the other."""
    seconds = [0.0 for _ in steps]
    for _ in range(times):
        for number, step in enumerate(steps):
            start = time.perf_counter()
            step()
            seconds[number] += time.perf_counter() - start
    return seconds


def our_trainer(arm: Any, recipe: Any, dataset: Any, own: str) -> Any:
    """The trainer of a job, with as many seeds as the study says."""
    import torch

    from bnorder import jobs
    from bnorder.study import load_study

    study, device = load_study("studies/article.yaml", {"kernels": own}), torch.device("cpu")
    here = jobs.kernels_here(study, device)
    if here.split()[0] != own:
        raise UserError(f"kernels: {here}; expected {own}, in a process of one thread")
    kind = jobs.trainer_kind(device, study.probes, here, recipe)
    return kind(arm, recipe, dataset, range(study.seeds_together), device)


def our_step(trainer: Any) -> Callable[[], None]:
    import itertools

    from bnorder.training import Tally

    order, steps, tally = trainer._next_order(), itertools.count(), Tally()

    def step() -> None:
        number = next(steps)
        trainer._train_step(order[number % len(order)], number, tally)

    return step


def floor_step(trainer: Any) -> Callable[[], None]:
    images, labels = trainer.images.batch(trainer._next_order()[0])

    def step() -> None:
        trainer.losses(images, labels)[0].sum().backward()
        for parameter in trainer.network.parameters():
            parameter.grad = None

    return step


def ceiling_step(arm: Any, recipe: Any, dataset: Any) -> Callable[[], None]:
    """Matrix products of the shape that suits the core best, 512 in each direction but one."""
    import torch

    seeds = replicas("ceiling")
    rows = seeds * BATCH * multiply_adds(arm, recipe, dataset.shape) // 512**2
    left, right = torch.randn(rows, 512), torch.randn(512, 512)
    out = torch.empty(rows, 512)

    def step() -> None:
        torch.mm(left, right, out=out)

    return step


def multiply_adds(arm: Any, recipe: Any, shape: tuple[int, int, int]) -> int:
    """Multiplications with additions that an image costs, forwards and backwards.

    Backwards costs twice forwards: by the inputs and by the weights. Classifier and elementwise
    layers are left out; so is the gradient by the pixels, which only some orders need.
    """
    import torch

    from bnorder.network import Network

    network, counts = Network(arm, recipe, shape, 10, [0]), list[int]()

    def count(layer: Any, _: Any, output: Any) -> None:
        passes = 3 if counts else 2
        counts.append(passes * output.numel() * layer.weight[0].numel())

    for layer in network.body.children():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    return sum(counts)


def tutorial_step(
    arm: Any, recipe: Any, dataset: Any, workers: int, device: Any = "cpu"
) -> Callable[[], None]:
    """The loop of a tutorial on the same layers, pooling behind the block as one would write it."""
    import torch
    from torch import nn

    model = tutorial_model(arm, recipe, dataset.shape[1]).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    criterion = nn.CrossEntropyLoss()
    batches = endless(loader(dataset, workers))
    running_loss = 0.0

    def step() -> None:
        nonlocal running_loss
        images, labels = (part.to(device) for part in next(batches))
        optimiser.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimiser.step()
        running_loss += loss.item()

    return step


def tutorial_model(arm: Any, recipe: Any, side: int) -> Any:
    from torch import nn

    activation = {"relu": nn.ReLU, "elu": nn.ELU}[arm.activation]
    layers: list[nn.Module] = []
    channels = 1
    for block in range(arm.depth):
        for layer in arm.ordering.split("-"):
            if layer == "conv":
                layers.append(nn.Conv2d(channels, recipe.width, 3, padding=1, bias=False))
                channels = recipe.width
            elif layer == "bn":
                layers.append(nn.BatchNorm2d(channels))
            else:
                layers.append(activation())
        if block < recipe.downsample_blocks:
            layers.append(nn.MaxPool2d(2))
            side //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, 10))


def loader(dataset: Any, workers: int) -> Any:
    """torchvision's MNIST with the usual transforms, on the same images."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    class SameImages(datasets.MNIST):
        def __init__(self, transform: object) -> None:
            datasets.VisionDataset.__init__(self, tempfile.gettempdir(), transform=transform)
            self.data, self.targets = dataset.train_images[:, 0], dataset.train_labels

    usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    images = SameImages(usual)
    persistent = workers > 0
    return DataLoader(
        images, BATCH, shuffle=True, num_workers=workers, persistent_workers=persistent
    )


def endless(batches: Any) -> Iterator[Any]:
    while True:
        yield from batches


if __name__ == "__main__":
    exit_cleanly(main)
