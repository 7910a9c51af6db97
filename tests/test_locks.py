"""Locks keep two processes apart, and end with the process that holds them, however it ends."""

import errno
import fcntl
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

from bnorder import checkpoints, locks
from bnorder.errors import UserError

HOLD = "import sys, time; from pathlib import Path; from bnorder import locks; "
HOLD += "kept = locks.{function}(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
Holder = Callable[[str, Path], "subprocess.Popen[str]"]


@pytest.fixture
def holder() -> Iterator[Holder]:
    """Starts another process that holds a lock; it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(function: str, path: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD.format(function=function), str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_study_that_is_held_is_refused_and_says_by_whom(holder: Holder, tmp_path: Path) -> None:
    other = holder("hold_study", tmp_path)
    with pytest.raises(UserError, match=rf"another run .* is at work \(process {other.pid} on "):
        locks.hold_study(tmp_path)


def test_a_study_that_is_held_here_says_what_stops_it(holder: Holder, tmp_path: Path) -> None:
    other = holder("hold_study", tmp_path)
    with pytest.raises(UserError, match=rf"Ctrl-C there or `kill {other.pid}`; nothing was"):
        locks.hold_study(tmp_path)
    for elsewhere in (f"process {other.pid} on another-machine", "unknown"):
        (tmp_path / ".lock").write_text(elsewhere, encoding="utf-8")
        with pytest.raises(UserError, match="with Ctrl-C there; nothing was"):
            locks.hold_study(tmp_path)


@pytest.mark.parametrize("kind", ["file", "link to nothing", "link to a file"])
def test_what_is_no_folder_of_results_is_said(kind: str, tmp_path: Path) -> None:
    results, target = tmp_path / "results", tmp_path / "there"
    locks.check_results(results)
    (results if kind == "file" else target).touch()
    if kind != "file":
        results.symlink_to(target)
    if kind == "link to nothing":
        target.unlink()
    said = "is a file; expected a folder" if kind == "file" else "there, which is no folder; expect"
    with pytest.raises(UserError, match=said):
        locks.check_results(results)


def test_a_killed_holder_holds_nothing(holder: Holder, tmp_path: Path) -> None:
    other = holder("hold_study", tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    with locks.hold_study(tmp_path):
        pass


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unable)
    with locks.hold_study(tmp_path):
        pass


def test_a_job_waits_for_the_process_that_does_it_and_takes_up_its_records(
    holder: Holder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock, records = tmp_path / "job.lock", tmp_path / "job.jsonl"
    other = holder("hold_job", lock)
    waiting = threading.Thread(target=checkpoints.claim, args=(tmp_path, "job", records))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive(), "it did not wait"
    records.write_text("what the other process made")
    lock.unlink()  # as `forget` does
    other.kill()
    waiting.join(20)
    assert not waiting.is_alive()
    assert (tmp_path / "job.finished.jsonl").read_text() == "what the other process made"
    assert f"waiting for another process that does this job (process {other.pid}" in (
        capsys.readouterr().out
    )


def test_older_records_that_do_not_fit_are_named_and_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "job.jsonl"
    records.write_text("of an older configuration, to be trained again")
    checkpoints.claim(tmp_path, "job", records).close()
    files = checkpoints.JobFiles(tmp_path, "job", {"code": "c", "data": "d"})
    files.load_finished({"run": "hash"})
    assert files.finished == {}
    assert "job.finished.jsonl is not used" in capsys.readouterr().out
