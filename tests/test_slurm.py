"""A study on a real Slurm: jobs are cancelled, run out of time and of memory, and fail once."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from fault_study import heed_ctrl_c
from slurm_cluster import SlurmCluster, said, slurm  # noqa: F401
from undisturbed import tables_left_in_peace, timeless, write_study

# What a first attempt at each job does instead of training; later ones train.
FAULTS = {"s0-0": "hang", "s1-1": "hang", "s2-2": "fail", "s3-3": "memory"}
CANCELLED, OUT_OF_TIME, FAILED, OUT_OF_MEMORY = FAULTS

# Without cgroups, which a container has not, Slurm watches no memory: the job limits itself to what
# it was given. It needs 1,500 MB.
FAULTY_START = f"""import os, pathlib, resource, subprocess, sys, time
import _bootstrap
from bnorder.errors import exit_cleanly
job = sys.argv[sys.argv.index("--job") + 1].rpartition(".")[2]
attempt = 1 + len(list(pathlib.Path("attempts").glob(job + ".*")))
seen = [os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")]
pathlib.Path("attempts", f"{{job}}.{{attempt}}").write_text(",".join(seen))
if attempt == 1 and {FAULTS!r}[job] == "fail":
    sys.exit("it fails once")
if {FAULTS!r}[job] == "memory":
    asked = ["squeue", "--noheader", "--format=%m", "--jobs=" + os.environ["SLURM_JOB_ID"]]
    given = int(subprocess.check_output(asked, text=True).strip().removesuffix("M"))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (given * 2**20, hard))
    exit_cleanly(lambda: bytearray(1500 * 2**20) and None)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
if attempt == 1:
    time.sleep(600)
"""


@dataclass(frozen=True)
class OnSlurm:
    """What `make report PROFILE=...` left: status, words, and who tried what on which GPU."""

    status: int
    text: str
    seconds: float
    attempts: dict[str, list[str]]  # "s0-0.1" -> [CUDA_VISIBLE_DEVICES, Slurm's job id]
    limits: set[str]  # minutes that training jobs were given
    memory: set[str]  # what Slurm was asked for
    jobs: str  # what squeue knows at the end


@pytest.fixture(scope="module")
def on_slurm(
    slurm: SlurmCluster,
    project: Path,
    environment: dict[str, str],
) -> OnSlurm:
    write_study(project, "batch", seeds=4, seeds_per_job=1, arms_per_job=4)
    (project / "attempts").mkdir()
    script = project / "scripts/train.py"
    original = script.read_text(encoding="utf-8")
    script.write_text(FAULTY_START + original, encoding="utf-8")
    own_profile(project)
    start = time.monotonic()
    log = project / "slurm.txt"
    with log.open("wb") as out:
        command = ["make", "report", "STUDY=batch", "PROFILE=my profile/"]
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=out, stderr=out)
        cancel_when_all_run(project / "attempts", process, log)
        status = process.wait(timeout=900)
    script.write_text(original, encoding="utf-8")
    attempts = {p.name: p.read_text().split(",") for p in (project / "attempts").iterdir()}
    text = log.read_text(encoding="utf-8", errors="replace")
    limits, memory = (
        set(said("squeue", "--states=all", "--noheader", f"--format={what}").split())
        for what in ("%l", "%m")
    )
    seconds = time.monotonic() - start
    return OnSlurm(status, text, seconds, attempts, limits, memory, said_of_jobs())


def own_profile(project: Path) -> None:
    """A user's copy of the profile: a partition, and little patience."""
    profile = yaml.safe_load((project / "workflow/profiles/slurm/config.yaml").read_text())
    profile["default-resources"]["slurm_partition"] = "debug"
    profile["set-resources"]["train"]["runtime"] = "1 if attempt == 1 else 10"
    profile["set-resources"]["train"]["mem_mb"] = "1000 * attempt"
    profile["slurm-init-seconds-before-status-checks"] = 2
    (project / "my profile").mkdir()
    (project / "my profile/config.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")


def cancel_when_all_run(attempts: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    until(
        lambda: len(list(attempts.iterdir())) >= len(FAULTS) or process.poll() is not None,
        "not all jobs began",
        log,
    )
    job = (attempts / f"{CANCELLED}.1").read_text().split(",")[1]
    assert said("squeue", "--noheader", "--states=running", f"--jobs={job}"), "it runs no more"
    subprocess.run(["scancel", job], check=True)


def until(ready: Callable[[], bool], otherwise: str, log: Path) -> None:
    end = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < end, f"{otherwise}:\n{log.read_text(errors='replace')}"
        time.sleep(0.3)


def said_of_jobs() -> str:
    return said("squeue", "--states=all", "--noheader", "--format=%i %T %l %j")


def test_study_ends_complete_with_both_reports(on_slurm: OnSlurm, project: Path) -> None:
    assert on_slurm.status == 0, on_slurm.text
    for name in ("report.html", "report.pdf"):
        assert (project / "results/batch/report" / name).stat().st_size > 10_000


def test_each_fault_happened_and_was_tried_again(on_slurm: OnSlurm) -> None:
    assert sorted(on_slurm.attempts) == [f"{job}.{n}" for job in FAULTS for n in (1, 2)]
    states = {line.split()[0]: line.split()[1] for line in on_slurm.jobs.splitlines()}
    ended = {job: states[on_slurm.attempts[f"{job}.1"][1]] for job in FAULTS}
    assert ended == {
        CANCELLED: "CANCELLED",
        OUT_OF_TIME: "TIMEOUT",
        FAILED: "FAILED",
        OUT_OF_MEMORY: "FAILED",
    }
    assert {states[on_slurm.attempts[f"{job}.2"][1]] for job in FAULTS} == {"COMPLETED"}


def test_second_attempt_is_given_more_time(on_slurm: OnSlurm) -> None:
    assert {"1:00", "10:00"} <= on_slurm.limits


def test_job_without_memory_says_so_and_is_given_more(on_slurm: OnSlurm) -> None:
    assert "error: out of memory" in on_slurm.text
    assert {"1000M", "2000M"} <= on_slurm.memory


def test_each_training_job_has_a_gpu_of_its_own_from_slurm(on_slurm: OnSlurm) -> None:
    devices = {name: devices for name, (devices, _) in on_slurm.attempts.items()}
    assert set(devices.values()) <= {"0", "1", "2", "3"}
    together = [devices[f"{job}.1"] for job in (CANCELLED, OUT_OF_TIME)]  # ran at the same time
    assert len(set(together)) == 2


def test_failure_message_leads_to_the_logs(on_slurm: OnSlurm) -> None:
    assert "it fails once" in on_slurm.text
    assert "results/batch/logs/train/" in on_slurm.text
    assert "TIMEOUT" in on_slurm.text


def test_analysis_and_report_wait_in_the_queue_once(on_slurm: OnSlurm) -> None:
    assert len(on_slurm.jobs.splitlines()) == 2 * len(FAULTS) + 1


def test_tables_equal_those_of_a_local_run(
    on_slurm: OnSlurm, project: Path, environment: dict[str, str]
) -> None:
    tables = timeless(project / "results/batch")
    (project / "results/batch").rename(project / "results/batch-on-slurm")
    assert tables == tables_left_in_peace(project, environment, "batch")


@pytest.mark.faults
def test_ctrl_c_cancels_the_jobs_and_the_next_command_goes_on(
    on_slurm: OnSlurm, project: Path, environment: dict[str, str]
) -> None:
    write_study(project, "stopped", seeds=2, seeds_per_job=1, arms_per_job=4)
    script = project / "scripts/train.py"
    original = script.read_text(encoding="utf-8")
    script.write_text(f"import time\ntime.sleep(600)\n{original}", encoding="utf-8")
    target = "ARGS=results/stopped/tables/runs.parquet"
    command = ["make", "report", "STUDY=stopped", "PROFILE=my profile/", target]
    log = project / "stopped.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )
        until(lambda: len(at_work()) == 2 or process.poll() is not None, "no two jobs ran", log)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) != 0
    until(lambda: not at_work(), "a job goes on", log)
    script.write_text(original, encoding="utf-8")
    assert "Traceback" not in log.read_text(errors="replace")
    again = subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False)
    assert again.returncode == 0, again.stdout
    tables = timeless(project / "results/stopped")
    (project / "results/stopped").rename(project / "results/stopped-on-slurm")
    assert tables == tables_left_in_peace(project, environment, "stopped")


def at_work() -> list[str]:
    return said("squeue", "--noheader", "--states=running", "--format=%i").split()
