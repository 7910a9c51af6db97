"""How far gradients and running statistics are from those of float64, by whose kernels.

The first training batch of the article's networks, with their first weights, forwards and
backwards: with PyTorch's own kernels, and with those of fused.c. The difference from the same in
float64, as a share of it: of the vector of all gradients its length, of running means and variances
the greatest. No time is measured.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tables
from training import arms

from bnorder import kernels
from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rounding.csv"))
    parser.add_argument("--data", type=Path, default=Path("results/data/mnist.pt"))
    arguments = parser.parse_args()

    import torch

    from bnorder import data

    torch.set_num_threads(1)
    dataset = data.load(arguments.data)
    machine = tables.this_machine() | {"kernels": kernels.name()}
    rows = [row(arm, dataset) for arm in arms()]
    tables.write(arguments.out, rows, machine, ["ordering", "activation", "depth"])
    for found in rows:
        print(", ".join(f"{k} {v}" for k, v in found.items()))


def row(arm: Any, dataset: Any) -> Mapping[str, Any]:
    """Both kinds' differences from float64 for one arm."""
    import torch

    from bnorder import jobs
    from bnorder.study import load_study
    from bnorder.training import Trainer

    study, cpu = load_study("studies/article.yaml"), torch.device("cpu")
    jobs.fused.require()
    seeds = range(study.seeds_together)
    make: Callable[[Any], Any] = lambda kind: kind(arm, study.recipe, dataset, seeds, cpu)  # noqa: E731
    plain, fused, exact = make(Trainer), make(jobs.FusedTrainer), make(Trainer)
    exact.network.double()
    images, labels = plain.images.batch(plain._next_order()[0])
    true = after_a_batch(exact.network, images.double(), labels)
    said: dict[str, Any] = {n: getattr(arm, n) for n in ("ordering", "activation", "depth")}
    for name, trainer in (("torch", plain), ("fused", fused)):
        gradient, statistics = after_a_batch(trainer.network, images, labels)
        off = (gradient - true[0]).norm() / true[0].norm()
        said[f"gradient_{name}"] = f"{float(off):.2g}"
        worst = [
            (a - b).abs().max() / b.abs().max() for a, b in zip(statistics, true[1], strict=True)
        ]
        said[f"statistics_{name}"] = f"{float(max(worst)):.2g}" if worst else ""
    return said


def after_a_batch(network: Any, images: Any, labels: Any) -> tuple[Any, list[Any]]:
    """All gradients as one vector, and the running statistics, in float64."""
    import torch

    from bnorder.training import cross_entropy

    cross_entropy(network(images), labels).sum().backward()
    gradient = torch.cat([p.grad.double().flatten() for p in network.parameters()])
    buffers = [b.double() for name, b in network.named_buffers() if "running" in name]
    return gradient, buffers


if __name__ == "__main__":
    exit_cleanly(main)
