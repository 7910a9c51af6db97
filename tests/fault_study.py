"""A study on the real workflow for the tests of faults: it starts, is killed, and is looked at."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_ledger import Work, forget_runs, keep_journal, work
from undisturbed import tables_left_in_peace, timeless, write_study

from bnorder.records import Record
from bnorder.study import load_study

SECONDS = 300  # at most, for a command on a busy machine
# Two jobs of four arms and one seed: some seconds of training each, with several checkpoints.
RECIPE = {"epochs": 12, "train_images": 512, "width": 4}
JOBS = {"seeds": 2, "seeds_per_job": 1, "arms_per_job": 4, "recipe": RECIPE}


class Study:
    """One study in the copy of the project, and the commands that make it."""

    def __init__(
        self, project: Path, environment: dict[str, str], name: str, **changes: object
    ) -> None:
        self.project, self.environment, self.name = project, environment, name
        self.results = project / "results" / name
        self.log = project / f"{name}.log"
        self.journal = project / "journal.jsonl"
        self.file = project / "studies" / f"{name}.yaml"
        self.under: list[str] = []  # a command that the command is run by
        write_study(project, name, **JOBS | changes)

    def start(self) -> subprocess.Popen[bytes]:
        """`make report` as a terminal starts it, in its own process group; to the tables only."""
        target = f"ARGS=results/{self.name}/tables/runs.parquet"
        with self.log.open("wb") as out:
            return subprocess.Popen(
                [*self.under, "make", "report", f"STUDY={self.name}", "CORES=2", target],
                cwd=self.project,
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=heed_ctrl_c,
            )

    def run(self) -> tuple[int, str]:
        status = self.start().wait(timeout=SECONDS)
        return status, self.text()

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def finish(self) -> dict[str, bytes]:
        """The tables after one undisturbed command."""
        status, text = self.run()
        assert status == 0, text
        return timeless(self.results)

    def work(self) -> Work:
        return work(self.journal, self.name)

    def epochs_begun(self) -> int:
        return self.journal.read_bytes().count(b'"epoch"') if self.journal.exists() else 0

    def redone(self) -> str:
        found = self.work()
        return f"{found.repeated} of {found.epochs} epochs"

    def records(self) -> list[Path]:
        return sorted(self.results.glob("records/*.jsonl"))

    def take_away(self, path: Path) -> None:
        """Let a job's runs be trained again, from nothing."""
        self.forget(path.stem)
        path.unlink()
        (self.results / "checkpoints" / f"{path.stem}.finished.jsonl").unlink(missing_ok=True)
        for table in self.results.glob("tables/*"):  # Snakemake asks for no input of a finished one
            table.unlink()

    def forget(self, job: str) -> None:
        """Note that a job's runs have to be trained from nothing."""
        runs = [run.id for run in load_study(self.file).job(job).runs]
        forget_runs(self.journal, self.name, runs)

    def errors(self) -> list[str]:
        return [line for line in self.text().splitlines() if line.startswith("error: ")]

    def said_of_jobs(self) -> str:
        logs = sorted(self.results.glob("logs/train/*.log"))
        return "".join(path.read_text(errors="replace") for path in logs)

    def processes(self, word: str) -> list[int]:
        """Living processes of this study whose command line has `word` in it."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
                here = (folder / "cwd").resolve() == self.project.resolve()
            except OSError:  # gone meanwhile
                continue
            if here and word in words and f"{self.name}" in words:
                found.append(int(folder.name))
        return found

    def assert_records_are_whole(self) -> None:
        for path in self.results.glob("records/*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                Record.from_line(line)


def heed_ctrl_c() -> None:
    """A shell starts what it runs in the background deaf to Ctrl-C, and its children with it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(ready: Callable[[], object], seconds: float = SECONDS) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.05)
    return False


def kill(pids: list[int], how: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            continue


@pytest.fixture(scope="module")
def faulty_project(project: Path) -> Path:
    """Checkpoints at every epoch, since these runs take seconds."""
    source = project / "bnorder/checkpoints.py"
    text = source.read_text(encoding="utf-8")
    assert "SECONDS_BETWEEN = 10.0" in text
    source.write_text(text.replace("SECONDS_BETWEEN = 10.0", "SECONDS_BETWEEN = 0.1"))
    keep_journal(project)
    return project


@pytest.fixture(scope="module")
def in_peace(faulty_project: Path, environment: dict[str, str]) -> dict[str, bytes]:
    """The tables that every study here must end with; fetches the data set on the way."""
    write_study(faulty_project, "peace", **JOBS)
    return tables_left_in_peace(faulty_project, environment, "peace")


@pytest.fixture
def study(
    faulty_project: Path, environment: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[Study]:
    name = re.sub(r"\W+", "_", request.node.name.removeprefix("test_"))[:30].strip("_")
    made = Study(faulty_project, environment, name)
    yield made
    kill(made.processes(""))


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.getenv("BNORDER_FAULT_SEED") or random.randrange(10**6))
    print(f"BNORDER_FAULT_SEED={seed}")
    return random.Random(seed)
