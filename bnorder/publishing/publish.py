"""From a study's records to what is published: tables, verdicts, reports, and what made them."""

import csv
import json
import os
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bnorder import __version__
from bnorder.devices import processor
from bnorder.errors import UserError
from bnorder.files import write_atomically
from bnorder.publishing.published import (
    MANIFEST,
    STUDY,
    published_records,
    published_study,
    read_manifest,
    read_tables,
    sha256,
    write_sums,
    write_tables,
)
from bnorder.records import Provenance, Record, source_hash
from bnorder.study import Study

FORMAT = 1
STEPS = 6  # that are said: two of scripts/publish.py, then four of `publish`
COSTS = "costs.csv"
# Of a job's run time. A job that took its runs over, or went on from late in one, measured less.
LEAST_SHARE = 0.03
LIBRARIES = ("numpy", "pandas", "scipy", "statsmodels", "matplotlib", "weasyprint", "pyarrow")


Say = Callable[[int, str], None]


def silent(step: int, what: str) -> None:
    """Says nothing of the steps."""


@dataclass(frozen=True)
class Cost:
    """What one training job cost as the workflow measured it, in its last attempt."""

    job: str
    runs: int
    seconds: float
    processor_seconds: float
    memory_mb: float


def publish(
    study: Study,
    records: Sequence[Record],
    costs: Sequence[Cost],
    out: Path,
    *,
    allow_missing: bool = False,
    say: Say = silent,
) -> Path:
    """Write the folder `out`/<study>/ whole or not at all, and return it.

    Statistics and report are made from the published tables, as FROM=published makes them. Where
    runs are missing they are about the seeds that all arms have; with `allow_missing`, about all
    runs that there are. The records of the others are published too, so that nothing is lost.
    say: is told the number of each step out of STEPS, and what it does.
    Raises UserError where there is nothing to report on.
    """
    reported = study if allow_missing else whole_seeds(study, records)
    folder, scratch = out / study.name, out / f".{study.name}.{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        (scratch / STUDY).write_text(reported.as_yaml(), encoding="utf-8")
        shutil.copyfile(study.claims, scratch / "claims.yaml")
        say(3, f"packing the records of {len(records)} runs")
        write_tables(records, scratch)
        write_costs(costs, scratch / COSTS)
        write_sums(scratch)
        counts = _build(reported, scratch, say)
        manifest = _manifest(study, reported, records, counts, costs, scratch)
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        write_atomically(scratch / MANIFEST, text.encode())
        write_sums(scratch)
        _put_in_place(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _put_in_place(scratch: Path, folder: Path) -> None:
    """`scratch` becomes `folder`. The old one is deleted last, and comes back if that fails."""
    old = scratch.with_name(f"{scratch.name}.old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)  # of a killed process with our number
        folder.rename(old)
    try:
        scratch.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def whole_seeds(study: Study, records: Sequence[Record]) -> Study:
    """The study with the seeds for which every arm has a record; raises UserError without any."""
    ours = {run.id for run in study.runs()}
    present = Counter(record.run.seed for record in records if record.run.id in ours)
    arms = len(study.arms())
    seeds = tuple(seed for seed in study.seeds if present[seed] == arms)
    if not seeds:
        raise UserError(
            f"{study.name}: {present.total()} of {len(ours)} runs are there, and no seed has all "
            "its arms; train on, or publish what there is with ALLOW_MISSING=1"
        )
    return replace(study, seeds=seeds)


def _build(study: Study, folder: Path, say: Say) -> dict[str, Any]:
    """verdicts.json, report.html and report.pdf into `folder`, from its tables; counts of runs."""
    from bnorder import records
    from bnorder.report.document import render
    from bnorder.statistics.analysis import analyse, load_inputs

    say(4, "tables of the runs")
    work = folder / "work"
    tables, analysis = work / "tables", work / "analysis"
    records.write_tables(study, published_records(study, folder), tables)
    selection = tables / "selection.parquet" if study.selecting else None
    if study.selecting:
        found = published_records(study.selecting, folder)
        records.write_selection(study.selecting, found, tables)
    inputs = load_inputs(tables / "runs.parquet", study=folder / STUDY, selection=selection)
    probes = tables / "probes.parquet" if study.probes else None
    say(5, "statistics and verdicts")
    analyse(inputs, analysis, curves=tables / "curves.parquet", probes=probes)
    say(6, "the report, as HTML and PDF")
    report = render(folder / STUDY, tables, analysis, work / "report")
    for path in (analysis / "verdicts.json", report.html, report.pdf):
        shutil.move(path, folder / path.name)
    page = (folder / report.html.name).read_text(encoding="utf-8")
    for path in report.figures:  # tables that are too large for the page, which names them
        if path.suffix == ".csv" and f"figures/{path.name}" in page:
            (folder / "figures").mkdir(exist_ok=True)
            shutil.move(path, folder / "figures" / path.name)
    pictures = [path for path in report.figures if path.suffix == ".png"]
    shutil.move(pictures[0], folder / "answer.png")  # the first: accuracy, every run a dot
    shutil.rmtree(work)
    counts: dict[str, Any] = json.loads((folder / "verdicts.json").read_text("utf-8"))["runs"]
    return counts


def _manifest(
    planned: Study,
    reported: Study,
    records: Sequence[Record],
    counts: Mapping[str, Any],
    costs: Sequence[Cost],
    folder: Path,
) -> dict[str, Any]:
    """Everything that made the folder's files."""
    library = sorted(Path(__file__).parents[1].rglob("*.py"))
    runs = sum(len(part.runs()) for part in planned.parts())
    return {
        "format": FORMAT,
        "study": planned.name,
        "study_sha256": sha256(folder / STUDY),
        "claims": {"file": planned.claims, "sha256": sha256(folder / "claims.yaml")},
        "published": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "runs": {
            "planned": runs,
            "published": len(records),
            "reported": counts["present"],
            "missing_in_report": len(counts["missing"]),
            "diverged": counts["diverged"],
        },
        "jobs": sum(len(part.jobs()) for part in planned.parts()),
        "seeds": {"planned": list(planned.seeds), "reported": list(reported.seeds)},
        "complete": len(records) == runs and reported.seeds == planned.seeds,
        "code": {
            "numbers": sorted({record.code_hash for record in records}),
            "library": source_hash(library),
        },
        "data": {record.run.arm.dataset: record.data_sha256 for record in records},
        "trained_with": _machines(records),
        "cost": _cost(records, costs),
        "published_with": {name: _version(name) for name in ("python", *LIBRARIES)},
        "published_on": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "cores": os.cpu_count(),
        },
    }


def _machines(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Versions and devices that trained, with the number of runs of each and their seconds."""
    found: dict[Provenance, list[float]] = {}
    for record in records:
        found.setdefault(record.provenance, []).append(record.cost.wall_seconds)
    names = [f.name for f in fields(Provenance)]
    return [
        dict(zip(names, astuple(made), strict=True))
        | {"runs": len(seconds), "run_seconds": round(sum(seconds), 1)}
        for made, seconds in found.items()
    ]


def _cost(records: Sequence[Record], costs: Sequence[Cost]) -> dict[str, Any]:
    """Seconds of the runs, and of the jobs whose processor time the workflow measured."""
    return {
        "run_seconds": round(sum(record.cost.wall_seconds for record in records), 1),
        "measured_jobs": len(costs),
        "measured_runs": sum(cost.runs for cost in costs),
        "measured_job_seconds": round(sum(cost.seconds for cost in costs), 1),
        "measured_processor_seconds": round(sum(cost.processor_seconds for cost in costs), 1),
    }


def _version(package: str) -> str:
    if package == "python":
        return platform.python_version()
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


# What jobs cost


def measured_costs(
    study: Study, records: Sequence[Record], results: Path, folder: Path
) -> list[Cost]:
    """A line a job: as published before in `folder`, if with the same records, else as measured.

    A job that was restored from published records has trained nothing here.
    """
    try:
        published = _published_costs(folder)
        before = {r.run.id: r for r in read_tables(folder)} if published else {}
        jobs_before = _jobs(published_study(folder)) if published else {}
    except (UserError, KeyError, TypeError, ValueError):  # damaged, and about to be replaced
        published, before, jobs_before = {}, {}, {}
    now = {r.run.id: r for r in records}
    same = {run for run in before if run in now and before[run].cost == now[run].cost}
    # Jobs may have had other sizes when they were measured.
    costs = [cost for name, cost in published.items() if same >= jobs_before.get(name, {""})]
    for name, runs in _jobs(study).items():
        if runs <= now.keys() and not runs & same:
            spent = sum(now[run].cost.wall_seconds for run in runs)
            found = _benchmark(name, len(runs), results / "benchmarks" / "train")
            costs += [cost for cost in found if cost.processor_seconds > LEAST_SHARE * spent]
    return costs


def _jobs(study: Study) -> dict[str, set[str]]:
    """The runs of each job of a study and of its selection."""
    jobs = (job for part in study.parts() for job in part.jobs())
    return {job.name: {run.id for run in job.runs} for job in jobs}


def _benchmark(job: str, runs: int, folder: Path) -> list[Cost]:
    """One line, or none where the workflow has measured nothing."""
    try:
        with (folder / f"{job}.tsv").open(encoding="utf-8") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        numbers = (float(row["s"]), float(row["cpu_time"]), float(row["max_rss"]))
    except (OSError, StopIteration, KeyError, ValueError):
        return []
    return [Cost(job, runs, *numbers)]


def _published_costs(folder: Path) -> dict[str, Cost]:
    if not (folder / COSTS).exists():
        return {}
    with (folder / COSTS).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        row["job"]: Cost(
            row["job"],
            int(row["runs"]),
            float(row["seconds"]),
            float(row["processor_seconds"]),
            float(row["memory_mb"]),
        )
        for row in rows
    }


def write_costs(costs: Sequence[Cost], path: Path) -> None:
    """One line a job, under the names of `Cost`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f.name for f in fields(Cost)])
        writer.writerows(astuple(cost) for cost in costs)


def planned_study(study: Study, folder: Path, overrides: Container[str] = ()) -> Study:
    """A published study with all the seeds that were planned, not only those reported on.

    overrides: the keys of the study that its user has set; seeds among them are left as they are.
    """
    if "seeds" in overrides:
        return study
    return replace(study, seeds=tuple(read_manifest(folder)["seeds"]["planned"]))
