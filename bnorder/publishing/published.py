"""Published results: a study's records as small tables with checksums, and back again."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from bnorder.checkpoints import finished_file, finished_files
from bnorder.errors import UserError
from bnorder.files import replacing, write_atomically
from bnorder.records import (
    Cost,
    Evaluation,
    Probe,
    Provenance,
    Record,
    code_hash,
    record_problem,
    write_records,
)
from bnorder.study import Arm, Run, Study, dataset_slug, load_study

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing
    import pyarrow  # type: ignore[import-untyped]

PUBLISHED = Path("report/published")
STUDY, MANIFEST, SUMS = "study.yaml", "manifest.json", "SHA256SUMS"
RECORDS, PROBES = "records.parquet", "probes.parquet"
BITS = 11  # that a reading keeps: within 1 part in 2,048, far inside the spread over seeds


def published_folder(source: str, study: str) -> Path:
    """Where the published results of `study` lie; source: `published`, or a folder of them.

    Raises UserError that lists what there is.
    """
    base = PUBLISHED if source == "published" else Path(source)
    if (base / study / STUDY).is_file():
        return base / study
    there = ", ".join(folder.name for folder in published_studies(base)) or "none"
    raise UserError(f"{base / study}: no published results; {base} has: {there}")


# Records as tables


def write_tables(records: Sequence[Record], folder: Path) -> None:
    """records.parquet, one row a run with its whole curve, and probes.parquet, one row a number.

    `read_tables` gives the same records; only what probes read comes back rounded to three digits,
    at a quarter of the size. Without probes there is no second file.
    """
    _write(_records_table(records), folder / RECORDS)
    if any(record.probes for record in records):
        table = _probes_table(records)
        split = {"value": "BYTE_STREAM_SPLIT"}  # numbers that end in zero bits compress better so
        texts = [name for name in table.column_names if name not in split]
        _write(table, folder / PROBES, column_encoding=split, use_dictionary=texts)


def _write(table: "pyarrow.Table", path: Path, **how: Any) -> None:
    import pyarrow.parquet  # type: ignore[import-untyped]

    with replacing(path) as partial:
        pyarrow.parquet.write_table(table, partial, compression="zstd", compression_level=19, **how)


def _records_table(records: Sequence[Record]) -> "pyarrow.Table":
    import pyarrow

    columns = [("run", pyarrow.string()), *_columns(Arm), ("seed", pyarrow.int64())]
    columns += _columns(Record, {"curve": pyarrow.list_(_struct(Evaluation))})
    return pyarrow.Table.from_pylist(
        [_as_row(record) for record in records], schema=pyarrow.schema(columns)
    )


def _columns(
    kind: type, special: Mapping[str, "pyarrow.DataType"] | None = None
) -> list[tuple[str, "pyarrow.DataType"]]:
    """Name and type of a dataclass's fields; a Record's run and probes stand elsewhere."""
    import pyarrow

    types = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        int | None: pyarrow.int64(),
        float | None: pyarrow.float64(),
    }
    hints, special = get_type_hints(kind), special or {}
    names = [f.name for f in fields(kind) if hints[f.name] is not Run and f.name != "probes"]
    return [
        (name, special.get(name) or types.get(hints[name]) or _struct(hints[name]))
        for name in names
    ]


def _struct(kind: type) -> "pyarrow.DataType":
    import pyarrow

    return pyarrow.struct(_columns(kind))


def _as_row(record: Record) -> dict[str, Any]:
    row = asdict(replace(record, probes=()))
    run = row.pop("run")
    return {"run": record.run.id, **run["arm"], "seed": run["seed"], **row}


def _probes_table(records: Sequence[Record]) -> "pyarrow.Table":
    import pyarrow

    numbers = [(record.run.id, probe) for record in records for probe in record.probes]
    texts = {
        "run": [run for run, _ in numbers],
        "layer_name": [p.name for _, p in numbers],
        "probe": [p.probe for _, p in numbers],
    }
    columns = {name: pyarrow.array(values).dictionary_encode() for name, values in texts.items()}
    columns["step"] = pyarrow.array([p.step for _, p in numbers], pyarrow.int32())
    columns["layer"] = pyarrow.array([p.layer for _, p in numbers], pyarrow.int32())
    columns["value"] = pyarrow.array(_rounded([p.value for _, p in numbers]))
    return pyarrow.table(columns)


def _rounded(values: Sequence[float]) -> "np.typing.NDArray[np.float32]":
    """Numbers to BITS significant bits, which single precision holds; what is not finite stays."""
    import numpy as np

    fraction, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    rounded: np.typing.NDArray[np.float64] = np.ldexp(np.round(fraction * 2**BITS), exponent - BITS)
    return rounded.astype(np.float32)


def read_tables(folder: Path) -> list[Record]:
    """The records that `write_tables` wrote, their files checked against SHA256SUMS.

    Raises UserError for a file that is missing, altered or no such table.
    """
    verify(folder)
    rows = _read(folder / RECORDS).to_pylist()
    try:
        probes = _probes(_read(folder / PROBES)) if (folder / PROBES).exists() else {}
        return [_as_record(row, tuple(probes.get(row["run"], ()))) for row in rows]
    except (TypeError, KeyError) as error:
        raise UserError(f"{folder / RECORDS}: no table of records ({error})") from None


def _read(path: Path, columns: Sequence[str] | None = None) -> "pyarrow.Table":
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path).read(columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({error}); fetch it again, or make it anew with "
            "`make publish`"
        ) from None


def _probes(table: "pyarrow.Table") -> dict[str, list[Probe]]:
    """What was read in each run; by columns, since there may be millions of rows."""
    names = ("run", "step", "layer", "layer_name", "probe", "value")
    columns = [table[name].combine_chunks() for name in names]
    columns = [c.dictionary_decode() if hasattr(c, "dictionary") else c for c in columns]
    values = [c.to_numpy(zero_copy_only=False).tolist() for c in columns]
    found: dict[str, list[Probe]] = {}
    for run, *reading in zip(*values, strict=True):
        found.setdefault(run, []).append(Probe(*reading))
    return found


def _as_record(row: Mapping[str, Any], probes: tuple[Probe, ...]) -> Record:
    values = dict(row)
    arm = Arm(**{f.name: values.pop(f.name) for f in fields(Arm)})
    values["run"] = Run(arm, values.pop("seed"))
    values["curve"] = tuple(Evaluation(**point) for point in values["curve"])
    values |= {"cost": Cost(**values["cost"]), "provenance": Provenance(**values["provenance"])}
    return Record(**values, probes=probes)


# Checksums


def write_sums(folder: Path) -> None:
    """SHA256SUMS of all files of a folder, as `sha256sum --check` reads it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
    lines = (f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    write_atomically(folder / SUMS, "".join(lines).encode())


def verify(folder: Path) -> None:
    """Raise UserError at the first file that SHA256SUMS lists and that is not what it was."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / SUMS}: cannot be read ({error})") from None
    for digest, _, name in (line.partition("  ") for line in lines):
        path = folder / name
        if not path.is_file() or sha256(path) != digest:
            raise UserError(
                f"{path}: missing or altered: its SHA-256 is not the one in {SUMS}; fetch it "
                "again, or make it anew with `make publish`"
            )


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# What a study takes from them


def published_records(study: Study, folder: Path) -> list[Record]:
    """The published records of a study's runs, in its order; other runs are passed over.

    The code that made them need not be the code here, but it must be one for all.
    Raises UserError for a record of another configuration, other data or other code than the rest.
    """
    ours = _of_runs(study, read_tables(folder))
    found, problems = _accepted(study, ours, ours[0].code_hash if ours else "")
    if problems:
        raise UserError(f"{folder / RECORDS}: {problems[0]}; see study.yaml beside it")
    return found


def _of_runs(study: Study, records: Iterable[Record]) -> list[Record]:
    """The records of a study's runs, in its order."""
    by_id = {record.run.id: record for record in records}
    return [by_id[run.id] for run in study.runs() if run.id in by_id]


def _accepted(
    study: Study, records: Iterable[Record], code: str, data: dict[str, str] | None = None
) -> tuple[list[Record], list[str]]:
    """Those records that are the study's own, and what is wrong with the others.

    The first record of a run is the one. data: data set -> checksum, as far as they are known.
    """
    expected = {run.id: study.config_hash(run.arm) for run in study.runs()}
    found: dict[str, Record] = {}
    data = {} if data is None else data
    problems = []
    for record in records:
        problem = record_problem(record, expected, found, code, data)
        if problem:
            problems.append(problem)
        else:
            found[record.run.id] = record
    return list(found.values()), problems


@dataclass(frozen=True)
class Restored:
    """What a study took over: runs that its jobs had not, and runs left to train."""

    runs: int
    missing: int


def restore(study: Study, folders: Sequence[Path], results: Path) -> Restored:
    """Put records where training goes on from, so that it does only what is missing.

    They are taken for runs that `study` trains with the same configuration, code and data: first
    those that lie in `results`, whichever job they are of; then published ones, whichever study
    they were published with; the first of `folders` that has a run gives it. A training job checks
    its data as well. Records of finished jobs stay as they are.
    Raises UserError where no record fits.
    """
    fitting = _fitting(study, folders, results)
    if not fitting:
        raise UserError(
            f"{', '.join(map(str, folders))}: no record is of a run of {study.name} with this "
            f"configuration and this code ({code_hash(study.probes)}); nothing was changed"
        )
    taken = left = 0
    for job in (job for part in study.parts() for job in part.jobs()):
        path = finished_file(results / "checkpoints", job.name)
        known = {run.id: fitting[run.id] for run in job.runs if run.id in fitting}
        done = _fit_among(known, results / "records" / f"{job.name}.jsonl")
        if len(done) == len(job.runs):
            continue
        taken += len(known) - len(done | _fit_among(known, path))
        left += len(job.runs) - len(known)
        if known:
            write_records(path, known.values())
    return Restored(taken, left)


def _fitting(study: Study, folders: Sequence[Path], results: Path) -> dict[str, Record]:
    """The records that `study` can take for its own, by run."""
    runs = {run.id for part in study.parts() for run in part.runs()}
    here = [*sorted(results.glob("records/*.jsonl")), *finished_files(results / "checkpoints")]
    found = [record for path in here for record in _finished(path)]
    for folder in folders:
        if not runs.isdisjoint(_read(folder / RECORDS, ["run"])["run"].to_pylist()):
            found += [record for record in read_tables(folder) if record.run.id in runs]
    data = _cached_data(study, results.parent / "data")
    return {
        record.run.id: record
        for part in study.parts()
        for record in _accepted(part, found, code_hash(part.probes), data)[0]
    }


def _cached_data(study: Study, folder: Path) -> dict[str, str]:
    """Data set -> checksum of those whose data are here."""
    found = {}
    for dataset in study.datasets:
        with suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged
            text = (folder / f"{dataset_slug(dataset)}.json").read_text(encoding="utf-8")
            found[dataset] = str(json.loads(text)["sha256"])
    return found


def _fit_among(known: Mapping[str, Record], path: Path) -> set[str]:
    """The runs of which a file has records with the same configuration, code and data."""
    hashes = attrgetter("config_hash", "code_hash", "data_sha256")
    return {
        record.run.id
        for record in _finished(path)
        if record.run.id in known and hashes(record) == hashes(known[record.run.id])
    }


def _finished(path: Path) -> list[Record]:
    """A file's records; what is damaged is trained again."""
    found = []
    with suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                found.append(Record.from_line(line))
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """What made a folder's files; raises UserError where it is missing or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError("expected a mapping")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / MANIFEST}: cannot be read ({error}); fetch it again, or make it anew with "
            "`make publish`"
        ) from None
    return manifest


def published_studies(base: Path = PUBLISHED) -> list[Path]:
    """The folders of all published studies, by name; not what a killed publication left."""
    folders = (path.parent for path in base.glob(f"*/{STUDY}"))
    return sorted(folder for folder in folders if not folder.name.startswith("."))


def published_study(folder: Path) -> Study:
    return load_study(folder / STUDY)
