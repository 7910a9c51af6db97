"""What a training job has done so far, on disk: a killed job goes on from there, bit for bit.

Two files beside the job's records-to-be: the records of its finished runs, and one checkpoint of
the run in training. Either is used only if it is whole and belongs to this very job, code, data
and machine; anything else is named, ignored and written over.
"""

import glob
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from bnorder.files import replacing
from bnorder.locks import hold_job
from bnorder.records import Record, write_records

SECONDS_BETWEEN = 10.0  # least time between two checkpoints of a run
T = TypeVar("T")
State = dict[str, Any]  # of tensors, numbers, strings, and lists and dictionaries of these


@dataclass
class JobFiles:
    """The progress of one job.

    folder, name: where the files lie and how they begin; identity: what must agree for them to be
    used, such as hashes, versions and device; finished: records of whole runs by run id.
    """

    folder: Path
    name: str
    identity: Mapping[str, str]
    seconds_between: float = SECONDS_BETWEEN
    finished: dict[str, Record] = field(default_factory=dict)
    _written: float = field(default_factory=time.monotonic)
    _unsaved: bool = False

    @property
    def records_file(self) -> Path:
        return _paths(self.folder, self.name)[0]

    @property
    def state_file(self) -> Path:
        return _paths(self.folder, self.name)[1]

    def load_finished(self, hashes: Mapping[str, str]) -> None:
        """Take up the runs that an earlier attempt finished; `hashes`: run id -> config hash."""
        records = _trusted(self.records_file, lambda: self._read_finished(hashes))
        if records:
            self.finished = {record.run.id: record for record in records}
            print(f"{len(records)} runs were finished before", flush=True)

    def _read_finished(self, hashes: Mapping[str, str]) -> list[Record]:
        lines = self.records_file.read_text(encoding="utf-8").splitlines()
        records = [Record.from_line(line) for line in lines]
        ours = [record for record in records if self._fits(record, hashes)]
        others, reason = len(records) - len(ours), "of another study, code or data"
        if others and not ours:
            raise ValueError(reason)
        if others:
            print(f"{self.records_file.name}: {others} records are not used ({reason})", flush=True)
        return ours

    def _fits(self, record: Record, hashes: Mapping[str, str]) -> bool:
        ours = (hashes.get(record.run.id), self.identity["code"], self.identity["data"])
        return (record.config_hash, record.code_hash, record.data_sha256) == ours

    def add(self, records: Iterable[Record]) -> None:
        """Note finished runs, and write them when it is time."""
        self.finished |= {record.run.id: record for record in records}
        self._unsaved = True
        if self._is_due() and self._save_finished():
            self.state_file.unlink(missing_ok=True)

    def save_if_due(self, runs: list[str], make_state: Callable[[], State]) -> None:
        """Write the checkpoint of `runs`, trained together, when it is time."""
        if not self._is_due():
            return
        import torch

        if self._unsaved:
            self._save_finished()
        content = {"identity": dict(self.identity), "runs": runs, "state": make_state()}
        try:
            with replacing(self.state_file) as partial:
                torch.save(content, partial)
        except (OSError, RuntimeError) as error:  # torch raises the latter on a full disk
            _say_unwritten(self.state_file, error)
        self._written = time.monotonic()

    def _is_due(self) -> bool:
        return time.monotonic() - self._written >= self.seconds_between

    def _save_finished(self) -> bool:
        """Write them if that can be; on a full disk training goes on, and its end tries again."""
        self._written = time.monotonic()
        try:
            write_records(self.records_file, self.finished.values())
        except OSError as error:
            _say_unwritten(self.records_file, error)
        else:
            self._unsaved = False
        return not self._unsaved

    def load_state(self, runs: list[str]) -> State | None:
        """The checkpoint of `runs`, or None where there is none that can be trusted."""
        return _trusted(self.state_file, lambda: self._read_state(runs))

    def _read_state(self, runs: list[str]) -> State | None:
        import torch

        with zipfile.ZipFile(self.state_file) as archive:
            if archive.testzip():  # torch.load asks for no checksum
                raise ValueError("its checksum does not match its content")
        content = torch.load(self.state_file, weights_only=True)
        for key, value in self.identity.items():
            if content["identity"].get(key) != value:
                raise ValueError(f"made with another {key}")
        state: State = content["state"]
        return state if content["runs"] == runs else None


def _say_unwritten(path: Path, error: Exception) -> None:
    print(f"{path.name} is not written ({str(error)[:100]})", flush=True)


def _trusted(path: Path, read: Callable[[], T | None]) -> T | None:
    """What `read` gives; None, and a line that names the file, where it cannot be trusted."""
    try:
        return read()
    except FileNotFoundError:
        return None
    except Exception as error:  # garbage makes torch.load and json raise many kinds
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        print(f"{path.name} is not used ({reason}); its runs start anew", flush=True)
        return None


def finished_runs(
    folder: Path, name: str, identity: Mapping[str, str], hashes: Mapping[str, str]
) -> list[Record]:
    """A job's records where all its runs were finished before, else none; needs no torch.

    identity: `code` and `data`, the hashes that must agree; hashes: run id -> configuration hash.
    """
    files = JobFiles(folder, name, identity)
    files.load_finished(hashes)
    found = files.finished
    return [found[run] for run in hashes] if set(hashes) <= set(found) else []


def finished_file(folder: Path, name: str) -> Path:
    """Where a job keeps the records of its finished runs until all are."""
    return _paths(folder, name)[0]


def finished_files(folder: Path) -> list[Path]:
    """Those of all jobs."""
    return sorted(folder.glob("*.finished.jsonl"))


def claim(folder: Path, name: str, records: Path) -> IO[str]:
    """Be the only process that trains this job; keep what it returns until the job is done.

    Another one may be at work whose Snakemake was killed: it is waited for, and what it left, be it
    a checkpoint or its `records`, is taken up instead of trained again. So are records that were
    there before: Snakemake starts a job again when its data cache was made again, were it the same.
    """
    kept, _, held = _paths(folder, name)
    lock, waited = hold_job(held)
    if records.exists() and (waited or not kept.exists()):
        with replacing(kept) as partial:
            shutil.copyfile(records, partial)
    return lock


def keep(folder: Path, name: str, records: Iterable[Record]) -> None:
    """Write a job's finished records at once, where a later attempt at it takes them up."""
    write_records(_paths(folder, name)[0], records)


def finish(folder: Path, name: str, records: Path, trained: Iterable[Record]) -> None:
    """Write a job's `records`, and keep them here too until they are collected.

    A workflow that is killed now takes the records for incomplete and deletes them; the job then
    finds them here.
    """
    _, *way_there = _paths(folder, name)
    trained = list(trained)
    keep(folder, name, trained)
    write_records(records, trained)
    for path in way_there:
        path.unlink(missing_ok=True)


def forget(folder: Path, name: str) -> None:
    """The job's records are collected: delete the way there, and what a kill left half written."""
    for path in [*_paths(folder, name), *folder.glob(f".{glob.escape(name)}.*")]:
        path.unlink(missing_ok=True)


def _paths(folder: Path, name: str) -> tuple[Path, Path, Path]:
    ends = ("finished.jsonl", "checkpoint.pt", "lock")
    finished, checkpoint, lock = (folder / f"{name}.{end}" for end in ends)
    return finished, checkpoint, lock
