"""Published runs, trained once more: do their numbers come out again, and when not, how far off?"""

import csv
import hashlib
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass, fields, replace
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from bnorder import kernels
from bnorder.errors import UserError
from bnorder.files import replacing
from bnorder.records import Record, code_hash, write_text
from bnorder.statistics.facts import GPU
from bnorder.study import Run, Study

FOLDER = Path("report/confirmation")
SEED = 20231101  # of the draw of runs
# How a run is trained again. `again`: as it was; the others change one thing, and only one. Between
# a CPU and a GPU kernels, threads and seeds as one network change with the device.
CONDITIONS = (
    "again",
    "other_machine",
    "other_threads",
    "other_kernels",
    "alone",
    "packed",
    "other_device",
)


@dataclass(frozen=True)
class Comparison:
    """A published run beside the same run trained again."""

    run: str
    record: str  # digest of the published record
    condition: str
    device: str
    threads: int
    together: int  # seeds trained as one network
    correct: int  # of the test set, as published
    correct_again: int
    n_test: int
    same_curve: bool  # every count and every loss of the curve, to the last bit


def draw(records: Sequence[Record], n: int) -> list[Record]:
    """`n` random runs of as many arms as there are; the same ones every time."""
    generator = random.Random(SEED)
    by_arm: dict[str, list[Record]] = {}
    for record in records:
        by_arm.setdefault(record.run.arm.id, []).append(record)
    arms = sorted(by_arm)
    generator.shuffle(arms)
    rounds = [generator.sample(by_arm[arm], len(by_arm[arm])) for arm in arms]
    deepest = max(map(len, rounds), default=0)
    drawn = [runs[i] for i in range(deepest) for runs in rounds if i < len(runs)]
    return drawn[:n]


@dataclass(frozen=True)
class How:
    """Where, with how many threads, seeds as one network and which kernels a run is trained."""

    device: str
    threads: int
    together: int
    kernels: str


@dataclass(frozen=True)
class Training:
    """Some seeds of one arm that are trained once more, and the records that they are held to."""

    runs: tuple[Run, ...]
    condition: str
    how: How
    published: tuple[Record, ...]


def plan(
    study: Study,
    drawn: Sequence[Record],
    published: Sequence[Record],
    standing: Sequence[Comparison],
    conditions: Sequence[str],
) -> list[Training]:
    """The trainings that compare the drawn runs under each condition that this machine offers.

    Seeds that were trained as one network are trained and compared together; a line says where it
    is not known which they were. What has its row of this kind of device in `standing` is not
    planned again. Raises UserError for records of other code than the code here, which could not
    be told from another machine's rounding.
    """
    code = code_hash(study.probes)
    for record in drawn:
        if record.code_hash != code:
            raise UserError(
                f"{record.run.id} was trained by other code ({record.code_hash}, now {code}): run "
                "and publish the study anew, then confirm it"
            )
    done = {(row.record, row.condition, row.device) for row in standing}
    by_run = {record.run: record for record in published}
    found: dict[tuple[object, ...], Training] = {}
    for condition in conditions:
        for record in drawn:
            how = _changed(record, condition)
            if how is None or (digest(record), condition, device_here(how.device)) in done:
                continue
            runs = tuple(pack_of(study, record, how.together, by_run))
            if not runs:
                why = f"which {how.together} seeds were one network is not known from the records"
                print(f"{condition:<14} {record.run.id}: passed over; {why}", flush=True)
                continue
            held_to = tuple(by_run[run] for run in runs if run in by_run)
            found[runs, condition] = Training(runs, condition, how, held_to)
    return list(found.values())


def left_to_train(
    drawn: Sequence[Record],
    trainings: Sequence[Training],
    standing: Sequence[Comparison],
    path: Path,
) -> str:
    """One line: how many of the drawn runs are still to be trained here, and why none, if none."""
    here = {device_here(kind) for kind in ("cpu", "cuda")} - {""}
    planned = {run for training in trainings for run in training.runs}
    left = sum(record.run in planned for record in drawn)
    said = f"{left} of {len(drawn)} runs are left to train on {' or '.join(sorted(here))}"
    if left:
        return f"{said}, in {len(trainings)} trainings"
    digests = {digest(record) for record in drawn}
    if not any(row.record in digests and row.device in here for row in standing):
        others = {record.provenance.torch for record in drawn} - {torch_here()}
        why = f" (torch {torch_here()} here, {', '.join(sorted(others))} there)" if others else ""
        return f"{said}: this machine offers nothing that they could be compared under{why}"
    return (
        f"{said}: {path} has them from such a device; to train them once more, name a folder for "
        f'another table: make confirm STUDY={path.stem} ARGS="--out FOLDER"'
    )


@cache
def device_here(kind: str) -> str:
    """The name of this machine's device of a kind, `cpu` or `cuda`; empty where it has none."""
    import torch

    from bnorder import jobs

    if kind == "cuda" and not torch.cuda.is_available():
        return ""
    return jobs.provenance(torch.device(kind)).device


@cache
def kernels_here(kind: str) -> str:
    """This machine's fused kernels for `cpu` or `cuda` by name; PyTorch's where it has none."""
    import torch

    from bnorder import jobs

    try:
        return jobs.fused_kernels(torch.device(kind))
    except kernels.Unavailable:
        return kernels.TORCH


@cache
def torch_here() -> str:
    """The version of torch that trains here."""
    import torch

    return str(torch.__version__)


def confirm(
    study: Study,
    trainings: Sequence[Training],
    standing: Sequence[Comparison],
    path: Path,
    workers: int = 1,
) -> Iterator[list[Comparison]]:
    """Do them with `workers` threads in all, each in a process.

    `path` then holds the rows of `standing`, and the new ones as they come.

    Raises UserError when a process is killed; what was compared before stands in `path`.
    """
    from bnorder.whole_study import cached_dataset

    for name in {training.runs[0].arm.dataset for training in trainings}:
        cached_dataset(name, Path("results"), study.data_dirs)  # once, before all want it
    rows = {_key(row): row for row in standing}
    for threads in sorted({training.how.threads for training in trainings}):
        alike = [training for training in trainings if training.how.threads == threads]
        for new in _side_by_side(study, alike, max(1, workers // threads), path):
            rows |= {_key(row): row for row in new}
            _write(path, list(rows.values()))
            yield new


def hold(
    trained: Sequence[Record],
    published: Sequence[Record],
    standing: Sequence[Comparison],
    path: Path,
) -> list[Comparison]:
    """Runs that a reader has trained, each beside its published record, also in `path`.

    Left out are records that are the published ones, taken over, and runs of which more than one
    thing was different: what a difference comes from would not be known.
    """
    again = {record.run: record for record in trained}
    rows = []
    for record in published:
        mine = again.get(record.run)
        condition = condition_of(mine, record) if mine and mine.cost != record.cost else ""
        if mine and condition:
            rows.append(_held(mine, record, condition, mine.cost.replicas))
    if rows:
        _write(path, list({_key(row): row for row in [*standing, *rows]}.values()))
    return rows


def is_anew(trained: Sequence[Record], published: Sequence[Record]) -> bool:
    """Whether all runs were trained again, and none is the published one, taken over."""
    costs = {record.run: record.cost for record in published}
    return len(trained) == len(costs) and all(costs[r.run] != r.cost for r in trained)


def keep_verdicts(verdicts: Path, trained: Sequence[Record], path: Path) -> None:
    """Note in `path` what verdicts a reader's own runs of a whole study came to, by device.

    verdicts: the reader's own verdicts.json; a page compares them with the published ones.
    """
    found = json.loads(verdicts.read_text(encoding="utf-8"))["verdicts"]
    devices = ", ".join(sorted({record.provenance.device for record in trained}))
    standing = read_verdicts(path)
    standing[devices] = {
        claim["id"]: {"verdict": claim["verdict"], "too_small": claim["too_small"]}
        for claim in found
    }
    write_text(path, json.dumps(standing, indent=1, sort_keys=True) + "\n")


def read_verdicts(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """What `keep_verdicts` noted: by device, then by claim."""
    if not path.exists():
        return {}
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def condition_of(again: Record, record: Record) -> str:
    """The condition that a run was trained again under; none where more than one thing changed.

    But between a CPU and a GPU several things do.
    """
    here, was = again.provenance, record.provenance
    together, before = again.cost.replicas, record.cost.replicas
    moved = "other_machine" if is_gpu(here.device) == is_gpu(was.device) else "other_device"
    packing = "alone" if together == 1 else "packed" if before == 1 else "other"
    if any(getattr(again, name) != getattr(record, name) for name in _SAME):
        return ""
    if moved == "other_device":
        return moved
    changes = [
        *([moved] if here.device != was.device else []),
        *(["other_threads"] if here.threads != was.threads else []),
        *([packing] if together != before else []),
        *(["other_kernels"] if here.kernels != was.kernels else []),
        *(["other"] if here.torch != was.torch else []),
    ]
    if not changes:
        return "again"
    return changes[0] if len(changes) == 1 and changes[0] in CONDITIONS else ""


_SAME = ("config_hash", "code_hash", "data_sha256")  # else the runs are not the same run


def _key(row: Comparison) -> tuple[str, str, str]:
    """A run compared on two kinds of device has two rows."""
    return row.run, row.condition, row.device


def _side_by_side(
    study: Study, trainings: Sequence[Training], workers: int, path: Path
) -> Iterator[list[Comparison]]:
    with ProcessPoolExecutor(workers, get_context("spawn"), _end_with_the_parent) as pool:
        futures = [pool.submit(compare, study, training) for training in trainings]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                f"a training process was killed; {path} has what was compared before. Give the "
                "same command again, with --workers 1 if memory ran out"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_the_parent() -> None:
    """A worker whose parent was killed would train on for nobody."""

    def watch() -> None:
        parent = parent_process()
        if parent:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def compare(study: Study, training: Training) -> list[Comparison]:
    """Train once more and hold each run to its published record."""
    import torch

    from bnorder import jobs
    from bnorder.training import set_exactness
    from bnorder.whole_study import cached_dataset

    torch.set_num_threads(training.how.threads)
    device = torch.device(training.how.device)
    arm = training.runs[0].arm
    recipe = study.recipe_for(arm.variant)
    set_exactness(recipe)
    dataset = cached_dataset(arm.dataset, Path("results"), study.data_dirs)
    if dataset.sha256 != training.published[0].data_sha256:
        raise UserError(
            f"data set {arm.dataset}: other images than those of the published runs; expected the "
            "same, compare its checksum with that in the report"
        )
    if training.how.kernels != kernels.TORCH:
        jobs.require_fused(device)
    kind = jobs.trainer_kind(device, study.probes, training.how.kernels, recipe)
    trained = jobs.train(
        training.runs, recipe, dataset, device, training.published[0].config_hash, kind=kind
    )
    again = {record.run: record for record in trained}
    return [
        _held(again[record.run], record, training.condition, len(trained))
        for record in training.published
    ]


def _held(again: Record, record: Record, condition: str, together: int) -> Comparison:
    return Comparison(
        run=record.run.id,
        record=digest(record),
        condition=condition,
        device=again.provenance.device,
        threads=again.provenance.threads,
        together=together,
        correct=record.curve[-1].test_correct,
        correct_again=again.curve[-1].test_correct,
        n_test=record.n_test,
        same_curve=again.curve == record.curve,
    )


def _changed(record: Record, condition: str) -> How | None:
    """How a run is trained under a condition; None where that would change nothing, or too much."""
    here, cpu = device_here("cuda"), device_here("cpu")
    was, on_gpu = record.provenance, is_gpu(record.provenance.device)
    same_machine = was.device in (here, cpu)
    kind, other_kind = ("cuda", "cpu") if on_gpu else ("cpu", "cuda")
    how = How(kind, was.threads, record.cost.replicas, was.kernels)
    fused = was.kernels != kernels.TORCH
    other = kernels.TORCH if fused else kernels_here(kind)
    there = kernels_here(other_kind) if fused else kernels.TORCH
    changes = {
        "again": how,
        "other_machine": how,
        "other_threads": replace(how, threads=how.threads + (not on_gpu)),
        "other_kernels": how if record.probes else replace(how, kernels=other),
        "alone": replace(how, together=1),
        "packed": replace(how, together=max(2, how.together)),
        "other_device": replace(how, device=other_kind, kernels=there),
    }
    found = changes[condition]
    if was.torch != torch_here() or was.kernels not in (kernels.TORCH, kernels_here(kind)):
        return None
    changed = found != how or condition in ("again", "other_machine")
    if not changed or (found.device == "cuda" and not here):
        return None
    if condition != "other_device" and same_machine == (condition == "other_machine"):
        return None
    return found


def is_gpu(device: str) -> bool:
    """Is this the name of a GPU?"""
    return GPU.search(device) is not None


def digest(record: Record) -> str:
    """What tells a published record from one that takes its place later."""
    return hashlib.sha256(record.as_line().encode()).hexdigest()[:16]


def pack_of(
    study: Study, record: Record, together: int, published: Mapping[Run, Record]
) -> list[Run]:
    """The `together` seeds that are one network with a record's run; none where that is unknown.

    Jobs and whole studies take an arm's seeds in order, so many at a time, and what is left over
    together. Hence those of as large a network as the record's, in order, are its packs, if whole.
    """
    runs = [Run(record.run.arm, seed) for seed in study.seeds]
    size = record.cost.replicas
    alike = [run for run in runs if run in published and published[run].cost.replicas == size]
    if together == size and len(alike) % size:
        return []
    start = together * (alike.index(record.run) // together)
    pack = alike[start : start + together]
    return pack if len(pack) == together else []


def read(path: Path) -> list[Comparison]:
    """The rows that stand in a file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(raw) for raw in csv.DictReader(file)]


def standing(path: Path, published: Sequence[Record]) -> list[Comparison]:
    """The rows of a file that are held to a record as it is published now."""
    digests = {digest(record) for record in published}
    return [row for row in read(path) if row.record in digests]


def _row(raw: Mapping[str, str]) -> Comparison:
    counts = ("threads", "together", "correct", "correct_again", "n_test")
    values: dict[str, object] = {f.name: raw[f.name] for f in fields(Comparison)}
    values |= {name: int(raw[name]) for name in counts}
    return Comparison(**values | {"same_curve": raw["same_curve"] == "True"})  # type: ignore[arg-type]


def _write(path: Path, rows: Sequence[Comparison]) -> None:
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f.name for f in fields(Comparison)])
        writer.writerows(astuple(row) for row in rows)
