"""A whole study trained in one process, without Snakemake: what a borrowed GPU is good for.

Each arm's seeds train together where there is a GPU, one arm after another, so that Python starts
once and the data are read once. The records are those that the workflow's jobs would have written,
in the same places: a later `make report` finds them there and trains only what is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from bnorder import checkpoints, data, jobs
from bnorder.data import Dataset
from bnorder.records import Record, collect, write_records, write_text
from bnorder.study import Arm, Job, Run, Study, dataset_slug

Report = Callable[[float, float, Arm], None]  # (runs done, images a second, the arm in training)


def train_study(study: Study, results: Path, report: Report, together: int | None = None) -> int:
    """Train the runs that `results`/<study>/records lacks; gives their number.

    A study's selection is trained before the study itself. together: seeds in one network at
    most, where there is a GPU; all of them unless said.
    Raises UserError, as `records.collect` does, for a record that is not to be trusted.
    """
    folder, trained = results / study.name, 0
    write_text(folder / "study.yaml", study.as_yaml())
    for part in reversed(study.parts()):
        trained += _train_part(part, folder, partial(_after, report, trained), together)
    return trained


def _after(report: Report, before: int, done: float, images_per_second: float, arm: Arm) -> None:
    report(before + done, images_per_second, arm)


def _train_part(study: Study, folder: Path, report: Report, together: int | None) -> int:
    """As `train_study`, for one of a study's parts."""
    done = {record.run.id: record for record in collect(study, folder / "records")}
    before = len(done)
    for name, arms in groupby(study.arms(), key=lambda arm: arm.dataset):
        todo = [job for arm in arms for job in _lacking(study, arm, done, together)]
        dataset = None
        if todo:
            dataset = cached_dataset(name, folder.parent, study.data_dirs).on(jobs.pick_device())
        for job in todo:
            assert dataset
            seen = partial(_seen, report, len(done) - before, job.arms[0])
            trained = jobs.train_job(study, job, dataset, seen, folder / "checkpoints")
            checkpoints.keep(folder / "checkpoints", job.name, trained)
            done |= {record.run.id: record for record in trained}
            _write_whole_jobs(study, job.arms[0], folder / "records", done)
        for job in todo:
            checkpoints.forget(folder / "checkpoints", job.name)
    return len(done) - before


def cached_dataset(name: str, results: Path, data_dirs: Sequence[str]) -> Dataset:
    """The data set from its cache in `results`/data, made where it is not there or is stale."""
    path = results / "data" / f"{dataset_slug(name)}.pt"
    if not path.exists() or data.is_stale(name, path):
        data.save(data.prepare(name, data_dirs), path)
    return data.load(path)


def _lacking(study: Study, arm: Arm, done: Mapping[str, Record], together: int | None) -> list[Job]:
    """The arm's runs that are not done, `together` seeds at a time."""
    seeds = [seed for seed in study.seeds if Run(arm, seed).id not in done]
    size = together or len(seeds) or 1
    return [Job((arm,), tuple(seeds[i : i + size])) for i in range(0, len(seeds), size)]


def _seen(report: Report, before: int, arm: Arm, done: float, images_per_second: float) -> None:
    report(before + done, images_per_second, arm)


def _write_whole_jobs(study: Study, arm: Arm, folder: Path, done: Mapping[str, Record]) -> None:
    """Write the records of the workflow's jobs that `arm` has completed."""
    for job in study.jobs():
        path = folder / f"{job.name}.jsonl"
        if arm in job.arms and all(run.id in done for run in job.runs) and not path.exists():
            write_records(path, [done[run.id] for run in job.runs])
