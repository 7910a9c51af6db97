"""How near to a core's peak the convolutions of the article's networks are, and what they cost.

Sixteen channels in and out, two seeds packed, by PyTorch's own kernels and by ours, forwards and
backwards (by inputs and by weights), beside a matrix product of as many multiplications and
additions. They take turns, in one process of one thread; medians with quartiles.
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tables

from bnorder import kernels
from bnorder.errors import exit_cleanly

BATCH, SEEDS, WIDTH, TIMES = 128, 2, 16, 8  # TIMES: calls of a turn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/convolving.csv"))
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    machine = tables.this_machine() | {"kernels": kernels.name()}
    rows = [row for size in (14, 7) for row in measured(size, arguments.rounds)]
    tables.write(arguments.out, rows, machine, ["size", "pass", "by"])
    for row in rows:
        print(", ".join(f"{k} {v}" for k, v in row.items()))


def measured(size: int, rounds: int) -> list[dict[str, Any]]:
    """Microseconds an image, and the share of a matrix product's rate, of each pass."""
    actions = passes(size)
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            for _ in range(TIMES):
                action()
            if turn:  # the first one warms up
                seconds[name].append((time.perf_counter() - start) / TIMES)
    rows = []
    for name, by in itertools.product(("forward", "backward"), ("torch", "fused")):
        products, taken = 1 if name == "forward" else 2, seconds[f"{name} by {by}"]
        shares = [products * a / b for a, b in zip(seconds["product"], taken, strict=True)]
        low, middle, high = statistics.quantiles(shares, n=4)
        each = 1e6 * statistics.median(taken) / (BATCH * SEEDS)
        row = {"size": size, "pass": name, "by": by, "microseconds": round(each, 2)}
        row |= {"share": round(middle, 3), "share_q1": round(low, 3), "share_q3": round(high, 3)}
        rows.append(row)
    return rows


def passes(size: int) -> dict[str, Callable[[], object]]:
    """A convolution's passes by either kind of kernels, and a matrix product as large as one."""
    import torch

    from bnorder.fused import Stage

    def images() -> Any:
        shape = (BATCH, SEEDS * WIDTH, size, size)
        return torch.randn(shape).contiguous(memory_format=torch.channels_last)

    x, dy, weight = images(), images(), torch.randn(SEEDS * WIDTH, WIDTH, 3, 3)
    weight = weight.contiguous(memory_format=torch.channels_last)
    rows = BATCH * SEEDS * size**2 * WIDTH**2 * 9 // 512**2
    left, right, out = torch.randn(rows, 512), torch.randn(512, 512), torch.empty(rows, 512)
    how = ([0], [1, 1], [1, 1], [1, 1], False, [0, 0], SEEDS, [True, True, False])
    layer = torch.nn.Conv2d(SEEDS * WIDTH, SEEDS * WIDTH, 3, padding=1, groups=SEEDS, bias=False)
    layer.to(memory_format=torch.channels_last)
    ours, inputs = Stage([layer]), x.clone().requires_grad_()
    y = ours(inputs)

    def forward() -> object:
        with torch.inference_mode():
            return ours(x)

    def backward() -> object:
        return torch.autograd.grad(y, (inputs, layer.weight), dy, retain_graph=True)

    return {
        "forward by torch": lambda: torch.conv2d(x, weight, padding=1, groups=SEEDS),
        "backward by torch": lambda: torch.ops.aten.convolution_backward(dy, x, weight, *how),
        "forward by fused": forward,
        "backward by fused": backward,
        "product": lambda: torch.mm(left, right, out=out),
    }


if __name__ == "__main__":
    exit_cleanly(main)
