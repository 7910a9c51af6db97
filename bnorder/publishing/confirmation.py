"""Published runs, trained once more: do their numbers come out again, and when not, how far off?"""

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from bnorder.errors import UserError
from bnorder.files import replacing
from bnorder.records import Record, code_hash
from bnorder.study import Run, Study

FOLDER = Path("report/confirmation")
GPUS = ("NVIDIA", "Instinct", "Radeon")  # in a device's name
SEED = 20231101  # of the draw of runs
# How a run is trained again. `again`: as it was; the others change one thing.
CONDITIONS = ("again", "other_threads", "alone", "packed", "other_device")


@dataclass(frozen=True)
class Comparison:
    """A published run beside the same run trained again."""

    run: str
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


def confirm(
    study: Study, records: Sequence[Record], path: Path, conditions: Sequence[str]
) -> Iterator[Comparison]:
    """Train each run again under each condition that this machine offers; keep rows in `path`.

    Rows that stand there are not made again. Raises UserError for records of other code than the
    code here, which could not be told from another machine's rounding.
    """
    code = code_hash(study.probes)
    for record in records:
        if record.code_hash != code:
            raise UserError(
                f"{record.run.id} was trained by other code ({record.code_hash}, now {code}): run "
                "and publish the study anew, then confirm it"
            )
    rows = {(row.run, row.condition): row for row in read(path)}
    for record in records:
        for condition in conditions:
            if (record.run.id, condition) in rows:
                continue
            row = _compare(study, record, condition)
            if row:
                rows[record.run.id, condition] = row
                _write(path, list(rows.values()))
                yield row


def _compare(study: Study, record: Record, condition: str) -> Comparison | None:
    """None where the machine has not what the condition needs, or it changes nothing."""
    import torch

    from bnorder import jobs
    from bnorder.training import set_exactness
    from bnorder.whole_study import cached_dataset

    how = _changed(study, record, condition)
    if how is None:
        return None
    torch.set_num_threads(how.threads)
    device = torch.device(how.device)
    runs = pack_of(study, record.run, how.together)
    recipe = study.recipe_for(record.run.arm.variant)
    set_exactness(recipe)
    dataset = cached_dataset(record.run.arm.dataset, Path("results"), study.data_dirs)
    kind = jobs.trainer_kind(device, study.probes)
    trained = jobs.train(runs, recipe, dataset, device, record.config_hash, kind=kind)
    again = trained[runs.index(record.run)]
    return Comparison(
        run=record.run.id,
        condition=condition,
        device=again.provenance.device,
        threads=again.provenance.threads,
        together=len(runs),
        correct=record.curve[-1].test_correct,
        correct_again=again.curve[-1].test_correct,
        n_test=record.n_test,
        same_curve=again.curve == record.curve,
    )


@dataclass(frozen=True)
class _How:
    device: str
    threads: int
    together: int


def _changed(study: Study, record: Record, condition: str) -> _How | None:
    """How a run is trained under a condition; None where that is how it was, or impossible."""
    from bnorder import jobs

    here = jobs.pick_device().type
    was = "cuda" if any(name in record.provenance.device for name in GPUS) else "cpu"
    how = _How(was, record.provenance.threads, record.cost.replicas)
    changes = {
        "again": how,
        "other_threads": replace(how, threads=how.threads + (was == "cpu")),
        "alone": replace(how, together=1),
        "packed": replace(how, together=max(2, how.together)),
        "other_device": replace(how, device="cpu" if was == "cuda" else here),
    }
    found = changes[condition]
    if (found == how and condition != "again") or found.device == "cuda" != here:
        return None
    return found


def pack_of(study: Study, run: Run, together: int) -> list[Run]:
    """The seeds that train with a run when `together` of a job's seeds are one network."""
    job = next(seeds for seeds in study.seed_groups if run.seed in seeds)
    seeds = job if together > 1 else (run.seed,)
    start = together * (seeds.index(run.seed) // together)
    return [Run(run.arm, seed) for seed in seeds[start : start + together]]


def read(path: Path) -> list[Comparison]:
    """The rows that stand in a file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(raw) for raw in csv.DictReader(file)]


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
