"""Faults on the real workflow: whatever is killed, full or in use, the same command ends the study.

Random points come from a seed that is printed; BNORDER_FAULT_SEED repeats them, and
BNORDER_FAULT_KILLS sets how often each kind of process is killed. docs/faults.md has the table.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_ledger import Ledger, ledger  # noqa: F401
from fault_study import (  # noqa: F401
    SECONDS,
    Study,
    faulty_project,
    in_peace,
    kill,
    rng,
    study,
    until,
)
from undisturbed import timeless

pytestmark = pytest.mark.faults

VICTIMS = {
    "training": "SIGKILL of a training job",
    "snakemake": "SIGKILL of Snakemake; its jobs live on",
    "everything": "SIGKILL of everything",
}


def test_killed_again_and_again_ends_as_if_left_in_peace(
    study: Study, in_peace: dict[str, bytes], rng: random.Random, ledger: Ledger
) -> None:
    each = int(os.getenv("BNORDER_FAULT_KILLS") or 2)
    victims = list(VICTIMS) * each
    rng.shuffle(victims)
    alive, lost = dict.fromkeys(VICTIMS, 0), dict.fromkeys(VICTIMS, 0)
    for victim in victims:
        if len(study.records()) == 2:  # something to do, and to kill
            study.take_away(rng.choice(study.records()))
        before = study.work().repeated
        process = study.start()
        wait_for_a_moment(study, process, rng)
        alive[victim] += kill_some(study, victim, rng) > 0
        process.wait(timeout=SECONDS)
        study.assert_records_are_whole()
        lost[victim] += study.work().repeated - before
        print(victim, alive, lost, study.work().epochs, flush=True)
    assert sum(alive.values()) > len(victims) / 2, "too few of them were still alive"
    before = study.work().repeated
    assert study.finish() == in_peace, "the tables are others"
    lost[victims[-1]] += study.work().repeated - before
    for victim, words in VICTIMS.items():
        hit = f"{each}, {alive[victim]} of them while it was at work"
        ledger.note(words, hit, "what followed the last checkpoint", f"{lost[victim]} epochs")
    ledger.note("All of these, and the last rerun", len(victims), "", f"of {study.work().epochs}")
    assert not list(study.results.glob("checkpoints/*")), "something is left of the way there"


def wait_for_a_moment(study: Study, process: subprocess.Popen[bytes], rng: random.Random) -> None:
    """Mostly while epochs go by, now and then on the way there; or until there is nothing more."""
    begun = study.epochs_begun()
    if rng.random() < 0.75:
        until(lambda: study.epochs_begun() > begun or process.poll() is not None)
        time.sleep(rng.uniform(0, 1.5))
    else:
        until(lambda: study.processes("-m\0snakemake") or process.poll() is not None)
        time.sleep(rng.uniform(0, 10))


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


def test_stopped_by_ctrl_c(study: Study, in_peace: dict[str, bytes], ledger: Ledger) -> None:
    process = study.start()
    assert until(lambda: study.processes("scripts/train.py")), study.text()
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    assert process.wait(timeout=60) != 0
    assert until(lambda: not study.processes("scripts/"), 10), "a job goes on"
    assert "Traceback" not in study.text()
    assert study.finish() == in_peace
    ledger.note("Ctrl-C", 1, "what followed the last checkpoint", study.redone())


def test_second_run_of_a_study_is_refused_and_changes_nothing(
    study: Study, in_peace: dict[str, bytes], ledger: Ledger
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
    ledger.note("One study started twice at once", 1, "nothing: refused", study.redone())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_two_studies_at_once_make_one_data_set(
    study: Study, in_peace: dict[str, bytes], environment: dict[str, str], ledger: Ledger
) -> None:
    """Neither has its cache when it starts, so each makes it, while the other may be reading it."""
    for path in (study.project / "results/data").glob("digits.*"):
        path.unlink()
    other = Study(study.project, environment, "the_other")
    first, second = study.start(), other.start()
    assert first.wait(timeout=SECONDS) == 0, study.text()
    assert second.wait(timeout=SECONDS) == 0, other.text()
    assert timeless(study.results) == timeless(other.results) == in_peace
    ledger.note("Two studies at once, one data set", 1, "nothing", study.redone())


def test_one_studys_cache_is_made_while_anothers_jobs_read_it(
    study: Study, in_peace: dict[str, bytes], environment: dict[str, str]
) -> None:
    """The second study is planned before there is a cache, and makes it once it is in use."""
    data = study.project / "results/data"
    for path in data.glob("digits.*"):
        path.unlink()
    late = study.project / "scripts/data.py"
    source = late.read_text(encoding="utf-8")
    hold = study.project / "hold"
    wait = f"import os, time\nopen({str(hold)!r}, 'w').close()\n"
    wait += f"while os.path.exists({str(hold)!r}): time.sleep(0.1)\n"
    late.write_text(wait + source, encoding="utf-8")
    other = Study(study.project, environment, "the_later")
    second = other.start()
    assert until(hold.exists, 120), other.text()
    late.write_text(source, encoding="utf-8")
    first = study.start()
    assert until(lambda: study.processes("scripts/train.py")), study.text()
    hold.unlink()
    assert first.wait(timeout=SECONDS) == 0, study.text()
    assert second.wait(timeout=SECONDS) == 0, other.text()
    assert timeless(study.results) == timeless(other.results) == in_peace


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


def test_full_disk(
    small_disk: Study, in_peace: dict[str, bytes], rng: random.Random, ledger: Ledger
) -> None:
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
    ledger.note("Full disk", 1, "what did not fit", small_disk.redone())


def test_read_only_results(small_disk: Study, in_peace: dict[str, bytes], ledger: Ledger) -> None:
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
    ledger.note("Read-only results folder", 1, "nothing: refused", small_disk.redone())


def test_moved_and_under_another_umask(
    study: Study,
    in_peace: dict[str, bytes],
    environment: dict[str, str],
    tmp_path: Path,
    ledger: Ledger,
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
    ledger.note("Moved to another path, another umask", 1, "nothing", study.redone())
