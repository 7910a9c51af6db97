"""Faults on the real workflow: whatever is killed, full or in use, the same command ends the study.

Random points come from a seed that is printed; BNORDER_FAULT_SEED repeats them, and
BNORDER_FAULT_KILLS sets how often each kind of process is killed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from undisturbed import tables_left_in_peace, timeless, write_study

from bnorder.records import Record

pytestmark = pytest.mark.faults
SECONDS = 300  # at most, for a command on a busy machine
# Two jobs of four arms and one seed: some seconds of training each, with several checkpoints.
RECIPE = {"epochs": 12, "train_images": 512, "width": 4}
JOBS = {"seeds": 2, "seeds_per_job": 1, "arms_per_job": 4, "recipe": RECIPE}


class Study:
    """One study in the copy of the project, and the commands that make it."""

    def __init__(self, project: Path, environment: dict[str, str], name: str) -> None:
        self.project, self.environment, self.name = project, environment, name
        self.results = project / "results" / name
        self.log = project / f"{name}.log"
        write_study(project, name, **JOBS)

    def start(self) -> subprocess.Popen[bytes]:
        """`make report` as a terminal starts it, in its own process group; to the tables only."""
        target = f"ARGS=results/{self.name}/tables/runs.parquet"
        with self.log.open("wb") as out:
            return subprocess.Popen(
                ["make", "report", f"STUDY={self.name}", "CORES=2", target],
                cwd=self.project,
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
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
    name = request.node.name.removeprefix("test_")[:30]
    made = Study(faulty_project, environment, name)
    yield made
    kill(made.processes(""))


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.getenv("BNORDER_FAULT_SEED") or random.randrange(10**6))
    print(f"BNORDER_FAULT_SEED={seed}")
    return random.Random(seed)


def test_killed_again_and_again_ends_as_if_left_in_peace(
    study: Study, in_peace: dict[str, bytes], rng: random.Random
) -> None:
    each = int(os.getenv("BNORDER_FAULT_KILLS") or 2)
    victims = ["training", "snakemake", "everything"] * each
    rng.shuffle(victims)
    killed = []
    for victim in victims:
        done = sorted(study.results.glob("records/*.jsonl"))
        if len(done) == 2:  # something to do, and to kill
            rng.choice(done).unlink()
        process = study.start()
        until(lambda: study.processes("scripts/train.py") or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0, 3))
        killed.append((victim, kill_some(study, victim, rng)))
        process.wait(timeout=SECONDS)
        study.assert_records_are_whole()
    print(killed)
    assert sum(hit > 0 for _, hit in killed) > len(killed) / 2, "too few of them were still alive"
    assert study.finish() == in_peace
    assert not list(study.results.glob("checkpoints/*")), "something is left of the way there"


def kill_some(study: Study, victim: str, rng: random.Random) -> int:
    """SIGKILL to one training process, to Snakemake (its jobs live on), or to all; how many."""
    if victim == "training":
        pids = study.processes("scripts/train.py")
        chosen = [rng.choice(pids)] if pids else []
    elif victim == "snakemake":
        chosen = study.processes("-m\0snakemake")
    else:
        chosen = study.processes("")
    kill(chosen)
    return len(chosen)


def test_stopped_by_ctrl_c(study: Study, in_peace: dict[str, bytes]) -> None:
    process = study.start()
    assert until(lambda: study.processes("scripts/train.py")), study.text()
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    assert process.wait(timeout=60) != 0
    assert until(lambda: not study.processes("scripts/"), 10), "a job goes on"
    assert "Traceback" not in study.text()
    assert study.finish() == in_peace


def test_second_run_of_a_study_is_refused_and_changes_nothing(
    study: Study, in_peace: dict[str, bytes]
) -> None:
    first = study.start()
    log = study.log
    assert until(lambda: study.processes("scripts/train.py")), study.text()
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        before = contents(study.results)
        study.log = log.with_suffix(".second")
        status, text = study.run()
        assert contents(study.results) == before
    finally:
        os.killpg(first.pid, signal.SIGCONT)
        study.log = log
    assert status != 0
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "another run of this study is at work (process" in errors[0]
    assert "Traceback" not in text
    assert first.wait(timeout=SECONDS) == 0, study.text()
    assert timeless(study.results) == in_peace


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_two_studies_at_once(
    study: Study, in_peace: dict[str, bytes], environment: dict[str, str]
) -> None:
    first = study.start()
    assert until(lambda: study.processes("scripts/train.py")), study.text()
    os.killpg(first.pid, signal.SIGSTOP)  # the first is surely at work all the while
    try:
        assert Study(study.project, environment, "the_other").finish() == in_peace
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(timeout=SECONDS) == 0, study.text()


# Storage


@pytest.fixture
def small_disk(study: Study) -> Iterator[Study]:
    """The study's folder is a file system of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("to mount a file system needs root")
    study.results.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(study.results)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"may not mount a file system here: {mounted.stderr.strip()}")
    yield study
    kill(study.processes(""))
    subprocess.run(["umount", "--lazy", str(study.results)], check=True)


def test_full_disk(small_disk: Study, in_peace: dict[str, bytes], rng: random.Random) -> None:
    pages = rng.randrange(4, 16)
    print(f"{pages} pages of 4096 bytes are free")
    ballast = small_disk.results / "ballast"
    ballast.write_bytes(bytes(2**20 - 4096 * (pages + 1)))
    status, text = small_disk.run()
    assert status != 0
    said = [line for line in text.splitlines() if line.startswith("error: ") and "full" in line]
    assert len(said) == 1, text
    assert f"results/{small_disk.name}" in said[0]
    small_disk.assert_records_are_whole()
    ballast.unlink()
    assert small_disk.finish() == in_peace


def test_read_only_results(small_disk: Study, in_peace: dict[str, bytes]) -> None:
    folder = str(small_disk.results)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    status, text = small_disk.run()
    assert status != 0
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, text
    assert f"results/{small_disk.name}" in errors[0]
    assert "Read-only file system" in errors[0]
    assert "Traceback" not in text
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    assert small_disk.finish() == in_peace


def test_moved_and_under_another_umask(
    study: Study, in_peace: dict[str, bytes], environment: dict[str, str], tmp_path: Path
) -> None:
    """Made by one who shares nothing, moved, and gone on with by one who shares with a group."""
    before = os.umask(0o077)
    try:
        assert study.finish() == in_peace
        moved = study.project.rename(tmp_path / "moved elsewhere")
        os.umask(0o027)
        target = f"results/{study.name}/tables/runs.parquet"
        snakemake = [sys.executable, "-m", "snakemake", "--dry-run", target, "--config"]
        planned = subprocess.run(
            [*snakemake, f"study={study.name}"],
            cwd=moved,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        moved.rename(study.project)
    finally:
        os.umask(before)
    assert "Nothing to be done" in planned.stdout + planned.stderr, planned.stdout
    assert (study.results / "tables/runs.csv").stat().st_mode & 0o777 == 0o600
