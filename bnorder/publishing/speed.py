"""The page on speed, from the tables that `make bench` leaves in benchmarks/results/."""

import csv
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

RESULTS = Path("benchmarks", "results")
Row = Mapping[str, str]

HEAD = """\
# What the study costs

`make bench` measures it and writes the tables of `benchmarks/results/`; this
page is made from them by `make pages`. Nothing is timed in the tests. Ratios are medians of
rounds in which the contestants took turns, with quartiles: a noisy machine is as noisy for both.
"""
AIM = 4  # times the rate of the tutorial's loop
FLOOR_AIM = 0.95  # times the floor's
TRAINING = """
## A training step

*Ours* is a step of the training loop as jobs run it: taking the batch, forward, backward,
optimiser. The *floor* is forward and backward of the same network on a batch that never changes.
The *tutorial* is what one would write first: torchvision's data set with transforms, a `DataLoader`
(with no worker, or with one of its own core), an eager model, `torch.optim.Adam`, `loss.item()` in
each step. The *ceiling* is a matrix product of as many multiplications and additions as the
network's convolutions need, forwards and backwards: the most that the core could do, were nothing
else to be done. A worker has two batches ready when its turn begins, work that is not counted: the
fewer the steps of a turn, the more that favours the tutorial with a worker.
One thread each ([benchmarks/training.py](../benchmarks/training.py)).

Where a table says *fused*, layers, loss and optimiser are kernels of this project
([bnorder/fused.c](../bnorder/fused.c)), as jobs on a CPU have them; *plain* is then the same with
PyTorch's own (`KERNELS=torch`). Tables that do not say so are of before, with PyTorch's own.
The fused convolutions multiply less than the ceiling's product does (see below).
"""
CANDIDATES = """
## What was tried

Each is the step of one seed with one thing changed, beside the unchanged one; above 1 it is faster
([benchmarks/candidates.py](../benchmarks/candidates.py)). Two threads in one process have to
reach 2, for two processes do. The step is with PyTorch's own kernels; *fused* is with those of
[bnorder/fused.c](../bnorder/fused.c), which jobs have. Huge pages are
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`, which changes no number: jobs set it, unless the shell that
starts them sets another.
"""
CONVOLVING = """
## Convolutions on one core

A convolution of two seeds, sixteen channels in and out, by PyTorch's own kernels and by ours, by
which four outputs take 16 products of numbers instead of 36
([bnorder/winograd.h](../bnorder/winograd.h)); backwards is by inputs and by weights. The share is
of the rate of a matrix product with as many multiplications and additions as PyTorch's takes,
counted as if the zeros around an image were multiplied, too: above 1 none could be so fast without
leaving some out ([benchmarks/convolving.py](../benchmarks/convolving.py)).
"""
ROUNDING = """
## How exact the kernels are

How far a training batch's gradients (their vector's length) and running statistics (the greatest)
are from those of float64, as a share of them, with the first weights
([benchmarks/rounding.py](../benchmarks/rounding.py)). Whether a run's accuracy moves with the
kernels is another question: published runs that were trained again with the others answer it in
[README.md](../README.md).
"""
PROBING = """
## Probes

What reading the probes adds to a run of the article's recipe: the same run with and without, one
after the other, in processor seconds; median of the pairs, with the least and the greatest
([benchmarks/probing.py](../benchmarks/probing.py)).
"""
STUDY = """
## A whole study

Wall seconds of all processes of a study, and what they went into
([benchmarks/study.py](../benchmarks/study.py)). The fewer seeds a job has (`SEEDS_PER_JOB`), the
more jobs have to start.
"""
SCALE = """
## As the grid grows

Made-up records through the real programs ([benchmarks/scale.py](../benchmarks/scale.py)): wall
seconds, and the process's peak memory in MB.
"""
GPU = """
## On a GPU

[benchmarks/gpu.py](../benchmarks/gpu.py) checks and times everything in one call. *Ours* is what a
job takes: all seeds of an arm as one network, its layers computed by kernels of this project
([bnorder/fused.cu](../bnorder/fused.cu)), a step captured once and launched as one. *Captured* is
the same with PyTorch's own kernels, *plain* without capturing either; images of all seeds count.
The *tutorial* trains one seed, as above, on the same GPU.
"""
NO_GPU = """\
**It has not been run on a GPU yet**: its code runs on the CPU under test (`--rehearse`).
"""


def speed_page(root: Path) -> str:
    """The page's text; a table that was not measured is said to be missing."""
    tables = {path.stem: _rows(path) for path in sorted((root / RESULTS).glob("*.csv"))}
    parts = [HEAD, ""]
    for name, words, table in (
        ("training", TRAINING, partial(_by_machine, _training)),
        ("candidates", CANDIDATES, partial(_by_machine, _candidates)),
        ("convolving", CONVOLVING, partial(_convolving, tables.get("training", []))),
        ("rounding", ROUNDING, partial(_by_machine, _rounding)),
        ("probing", PROBING, _probing),
        ("study", STUDY, _study),
        ("scale", SCALE, partial(_by_machine, _scale)),
    ):
        rows = tables.get(name, [])
        parts += [words, *(table(rows) if rows else ["", "*Not measured.*", ""])]
    gpu = {path.stem: _rows(path) for path in sorted((root / RESULTS / "gpu").glob("*.csv"))}
    parts += [GPU, *(_gpu(gpu) if gpu else [NO_GPU])]
    return "\n".join(part.strip("\n") if part else "" for part in parts).strip() + "\n"


def _rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *map(" | ".join, rows)]
    return ["", *(f"| {line} |" for line in lines), ""]


def _by_machine(lines: Callable[[Sequence[Row]], list[str]], rows: Sequence[Row]) -> list[str]:
    """One table for each machine that measured, and for each version of torch on it."""
    machines = dict.fromkeys(map(_machine, rows))
    return [line for m in machines for line in lines([row for row in rows if _machine(row) == m])]


def _machine(row: Row) -> str:
    kernels = row.get("kernels") or "torch"
    own = "" if kernels == "torch" else f", {kernels}"
    return f"{row['device']}, torch {row['torch']}{own}."


def _ratio(row: Row, name: str) -> str:
    middle, low, high = (float(row[name + end]) for end in ("", "_q1", "_q3"))
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def _training(rows: Sequence[Row]) -> list[str]:
    others = {"floor": "floor", "tutorial_0": "tutorial", "tutorial_1": "tutorial, 1 worker"}
    heads = ["order", "activation", "depth", "ours, images/s"]
    others |= {k: k for k in ("ceiling", "plain") if rows[0].get(f"ours_per_{k}")}
    heads += [f"ours per {words}" for words in others.values()]
    body = [
        [r["ordering"], r["activation"], r["depth"], f"{float(r['ours']):,.0f}"]
        + [_ratio(r, f"ours_per_{other}") for other in others]
        for r in rows
    ]
    medians = {o: [float(r[f"ours_per_{o}"]) for r in rows] for o in others}
    said = ", ".join(
        f"{statistics.median(v):.2f} times the {others[o]} ({min(v):.2f} to {max(v):.2f})"
        for o, v in medians.items()
    )
    limit = [_limit(rows)] if "ceiling" in others else []
    turns = f"Over all arms, in turns of {rows[0]['steps']} steps"
    return ["", f"{_machine(rows[0])} {turns}: {said}.", *limit, *_table(heads, body)]


def _limit(rows: Sequence[Row]) -> str:
    """How much of the ceiling the aim would take, and why the step stays below it."""
    aim = statistics.median(
        AIM * float(r["ours_per_ceiling"]) / float(r["ours_per_tutorial_0"]) for r in rows
    )
    ours = statistics.median(float(r["ours_per_ceiling"]) for r in rows)
    bare = [float(r["ours_per_tutorial_0"]) for r in rows if "bn" not in r["ordering"].split("-")]
    without = f" Without any BN it is {statistics.median(bare):.2f} times." if bare else ""
    ratios = [float(r["ours_per_tutorial_0"]) for r in rows]
    reached = sum(ratio >= AIM for ratio in ratios)
    many = "all" if reached == len(rows) else f"{reached} of"
    met = f"is met by {many} {len(rows)} arms" if reached else "is not met"
    near = sum(float(r["ours_per_floor"]) >= FLOOR_AIM for r in rows)
    return (
        f"The aim of {FLOOR_AIM} times the floor is met by {near} of {len(rows)} arms. "
        f"The aim of {AIM} times the tutorial {met}: it takes {100 * aim:.0f} % of the "
        f"ceiling, and this step takes {100 * ours:.0f} %. BN, activation, pooling and the "
        "convolution of one channel read and write memory without computing "
        f"much.{without}"
    )


def _candidates(rows: Sequence[Row]) -> list[str]:
    arms = list(dict.fromkeys((r["ordering"], r["depth"]) for r in rows))
    found = {(r["candidate"], r["ordering"], r["depth"]): r for r in rows}
    body = []
    for name in dict.fromkeys(r["candidate"] for r in rows):
        cells = [found.get((name, *arm)) for arm in arms]
        said = [_ratio(c, "ratio") if c and c["ratio"] else "did not run" for c in cells]
        body.append([name, *said])
    heads = ["candidate", *(f"{ordering}, depth {depth}" for ordering, depth in arms)]
    return ["", _machine(rows[0]), *_table(heads, body)]


def _convolving(training: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """A table for each machine, and what they leave of the time that the aim allows there."""
    return [
        line
        for machine in dict.fromkeys(map(_machine, rows))
        for line in _convolutions([r for r in rows if _machine(r) == machine], training)
    ]


def _convolutions(rows: Sequence[Row], training: Sequence[Row]) -> list[str]:
    heads = ["pixels", "pass", "by", "microseconds an image and seed", "share of a product's rate"]
    body = [
        [f"{r['size']} x {r['size']}", r["pass"], r["by"], r["microseconds"], _ratio(r, "share")]
        for r in rows
    ]
    each = {
        (by, size): sum(
            float(r["microseconds"]) for r in rows if r["by"] == by and r["size"] == size
        )
        for by in ("torch", "fused")
        for size in ("14", "7")
    }
    torchs, ours = (each[by, "14"] + 3 * each[by, "7"] for by in ("torch", "fused"))
    left = [
        1e6 / (AIM * float(r["tutorial_0"]))
        for r in training
        if r["depth"] == "5" and r["device"] == rows[0]["device"]
    ]
    said = (
        "A network of 5 blocks has one of 14 x 14 pixels and three of 7 x 7: "
        f"{torchs:.0f} microseconds an image by PyTorch's kernels, {ours:.0f} by ours."
    )
    if left:
        said += (
            f" {AIM} times the tutorial would leave {min(left):.0f} to {max(left):.0f} for all of "
            "it, by the order and the activation."
        )
    return ["", f"{_machine(rows[0])} {said}", *_table(heads, body)]


def _rounding(rows: Sequence[Row]) -> list[str]:
    kinds = {"torch": "PyTorch's own", "fused": "fused"}
    names = [(f"{what}_{kind}", kind) for what in ("gradient", "statistics") for kind in kinds]
    body = [
        [r["ordering"], r["activation"], r["depth"], *(_power(r[name]) for name, _ in names)]
        for r in rows
    ]
    with_bn = [r for r in rows if r["statistics_torch"]]
    said = ", ".join(
        f"{_power(str(statistics.median(float(r[f'gradient_{kind}']) for r in with_bn)))} with "
        f"{words} kernels"
        for kind, words in kinds.items()
    )
    said = f"{_machine(rows[0])} The median over the arms with BN is a gradient off by {said}."
    heads = [f"{name.split('_')[0]}, {kinds[kind]}" for name, kind in names]
    return ["", said, *_table(["order", "activation", "depth", *heads], body)]


def _power(share: str) -> str:
    """A small share as it is read: 1.7e-02."""
    return f"{float(share):.1e}" if share else "-"


def _probing(rows: Sequence[Row]) -> list[str]:
    body = []
    for arm in dict.fromkeys(r["arm"] for r in rows):
        pairs = [r for r in rows if r["arm"] == arm]
        ratios = [float(r["ratio"]) for r in pairs]
        said = f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"
        seconds = statistics.median(float(r["seconds"]) for r in pairs)
        body.append([arm, str(len(pairs)), f"{seconds:.0f} s", said])
    return _table(["arm", "pairs", "without", "with per without"], body)


def _study(rows: Sequence[Row]) -> list[str]:
    lines: list[str] = []
    for name in dict.fromkeys(r["study"] for r in rows):
        parts = [r for r in rows if r["study"] == name]
        first = parts[0]
        wall = f"{_clock(float(first['wall_seconds'] or 0))} from `make report` to the end; "
        said = f"**{name}**: {first['runs']} runs in {first['jobs']} jobs; "
        said += (wall if first["wall_seconds"] else "") + _machine(first)
        wanted = ("training steps", "evaluation", "probes")
        rest = sum(float(r["share"]) for r in parts if r["part"] not in wanted)
        said += f" Outside training, evaluation and probes: {100 * rest:.1f} %."
        body = [
            [r["part"], f"{float(r['seconds']):.1f}", f"{100 * float(r['share']):.1f} %"]
            for r in parts
        ]
        lines += ["", said, *_table(["part", "seconds", "share"], body)]
    return lines


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.2f} h"


def _scale(rows: Sequence[Row]) -> list[str]:
    sizes = list(dict.fromkeys(r["runs"] for r in rows))
    found = {(r["stage"], r["runs"]): r for r in rows}
    body = [
        [stage]
        + [
            f"{float(r['seconds']):.1f} s, {float(r['peak_mb']):,.0f} MB" if r else "not measured"
            for r in (found.get((stage, size)) for size in sizes)
        ]
        for stage in dict.fromkeys(r["stage"] for r in rows)
    ]
    by_size = {r["runs"]: r for r in rows}
    for kind in ("html", "pdf"):
        megabytes = [float(by_size[size][f"{kind}_bytes"]) / 1e6 for size in sizes]
        body.append([kind.upper(), *(f"{value:.2f} MB" for value in megabytes)])
    return ["", _machine(rows[0]), *_table(["", *(f"{int(size):,} runs" for size in sizes)], body)]


def _gpu(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    lines: list[str] = []
    for name, table in (
        ("article", _gpu_article),
        ("training", _gpu_training),
        ("checks", _gpu_checks),
        ("replicas", _gpu_replicas),
    ):
        lines += table(tables[name]) if name in tables else ["", f"*{name}: not measured.*"]
    return lines


def _gpu_article(rows: Sequence[Row]) -> list[str]:
    (row,) = rows
    seconds = {name: float(row[f"{name}_seconds"]) for name in ("wall", "train", "evaluate")}
    said = (
        f"**The article study**, {int(row['runs'])} runs by `scripts/train_study.py`, took "
        f"{seconds['wall']:.0f} s from the start of its process, with nothing compiled before: "
        f"{seconds['train']:.0f} s of training steps, {seconds['evaluate']:.0f} s of evaluation; "
        f"{float(row['images_per_second']):,.0f} training images a second in all. {_machine(row)}"
    )
    return ["", said]


def _gpu_training(rows: Sequence[Row]) -> list[str]:
    others = ("captured", "plain", "tutorial")
    heads = ["order", "activation", "depth", "ours, images/s", "tutorial, images/s"]
    heads += [f"ours per {other}" for other in others]
    body = [
        [r["ordering"], r["activation"], r["depth"]]
        + [f"{float(r[name]):,.0f}" for name in ("ours", "tutorial")]
        + [_ratio(r, f"ours_per_{other}") for other in others]
        for r in rows
    ]
    said = ", ".join(f"{_median(rows, f'ours_per_{other}')} times the {other}" for other in others)
    limit: list[str] = []
    if rows[0].get("share_of_bandwidth"):
        limit = [_gpu_limit(rows)]
    return ["", f"**A training step.** {_machine(rows[0])} {said}.", *limit, *_table(heads, body)]


def _gpu_limit(rows: Sequence[Row]) -> str:
    """What the rate is of the card's ceilings, and why it is no more."""
    return (
        "Were each layer's input and output read and written just once, that would be "
        f"{_median(rows, 'share_of_bandwidth', 100)} % of the card's bandwidth, and the "
        f"convolutions are {_median(rows, 'share_of_arithmetic', 100)} % of its float32 arithmetic "
        "without tensor cores, which would round. What lies between: BN needs a batch's sums "
        "before it can go on and reads its input again, a step is dozens of kernels one after the "
        "other, and images of 7 x 7 pixels leave processors idle."
    )


def _median(rows: Sequence[Row], name: str, scale: float = 1) -> str:
    """The median over arms, with the least and the greatest."""
    values = sorted(scale * float(row[name]) for row in rows)
    digits = 1 if values[-1] < 100 else 0
    low, middle, high = (
        f"{value:.{digits}f}" for value in (values[0], statistics.median(values), values[-1])
    )
    return f"{middle} ({low} to {high})"


def _gpu_checks(rows: Sequence[Row]) -> list[str]:
    heads = ["order", "against", "seeds", "largest difference, pp", "mean, pp", "test loss"]
    body = [
        [r["ordering"], r["ours_against"], r["seeds"]]
        + [f"{float(r['max_accuracy_difference_pp']):.2f}"]
        + [f"{float(r['mean_accuracy_difference_pp']):+.2f}"]
        + [f"{float(r['max_loss_difference']):.4f}"]
        for r in rows
    ]
    said = (
        "How far an epoch of 100 steps of ours is from the same in other ways, in test accuracy "
        "and loss, deepest network, ReLU: where nothing differs it is the same to the last bit; "
        "another order of sums, another device and less precision each move some answers. "
        f"{_machine(rows[0])}"
    )
    return ["", f"**Checks.** {said}", *_table(heads, body)]


def _gpu_replicas(rows: Sequence[Row]) -> list[str]:
    heads = ["way", "pixels", "microseconds", "relative error"]
    body = [
        [r["way"], f"{r['size']} x {r['size']}"]
        + [f"{float(r['microseconds']):,.0f} ({_span(r, 'microseconds')})"]
        + [f"{float(r['relative_error']):.1e}"]
        for r in rows
    ]
    said = (
        f"Forward and backward of one convolution of {rows[0]['replicas']} replicas, sixteen "
        f"channels in and out each: median, least and most. {_machine(rows[0])}"
    )
    return ["", f"**Ways to convolve packed replicas.** {said}", *_table(heads, body)]


def _span(row: Row, name: str) -> str:
    return f"{float(row[name + '_least']):,.0f}–{float(row[name + '_most']):,.0f}"
