"""A real one-node Slurm for the tests: munged, slurmctld and slurmd on this machine, as root.

The node poses as eight CPUs and four GPUs; files stand in for the GPUs, so Slurm hands them out
and sets CUDA_VISIBLE_DEVICES as on a GPU node. There is no job database, hence no sacct.
"""

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
MARK = "# Written by bnorder's tests; they remove it again."
# Where Slurm's programs look for their configuration. Snakemake drops SLURM_CONF inside a job.
SYSTEM_FOLDER = Path("/etc/slurm")
START_SECONDS = 60


@dataclass
class SlurmCluster:
    """`start()` gives a cluster that takes jobs; `stop()` ends what `start()` began, and only that.

    folder: for its state, logs and sockets; readable by the daemons' users.
    """

    folder: Path
    gpus: int = 4
    cpus: int = 8
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir()
        for number in range(self.gpus):
            # Slurm takes only character devices for GPUs; these are more of /dev/null.
            os.mknod(self.folder / f"gpu{number}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        SYSTEM_FOLDER.mkdir(exist_ok=True)
        (SYSTEM_FOLDER / "slurm.conf").write_text(self._slurm_conf(), encoding="utf-8")
        (SYSTEM_FOLDER / "gres.conf").write_text(self._gres_conf(), encoding="utf-8")
        self._run("munged", "--foreground", "--force", *self._munge_options())
        self._wait_for("munged", lambda: (self.folder / "munge.socket").exists())
        self._run("slurmctld", "-D", "-c")
        self._wait_for("slurmctld", lambda: "UP" in said("scontrol", "ping"))
        self._run("slurmd", "-D", "-c", "-N", node_name())
        self._wait_for("slurmd", lambda: "idle" in said("sinfo", "--noheader", "--format=%T"))

    def stop(self) -> None:
        if (SYSTEM_FOLDER / "slurm.conf").exists():
            said("scancel", "--user=root")
            self._until(lambda: not said("squeue", "--noheader"), seconds=15)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in ("slurm.conf", "gres.conf"):
            path = SYSTEM_FOLDER / name
            if path.exists() and path.read_text(encoding="utf-8").startswith(MARK):
                path.unlink()

    def _run(self, *command: str) -> None:
        """Start a daemon in the foreground, so that it is ours to end."""
        program = shutil.which(command[0])
        assert program
        log = (self.folder / "log" / f"{command[0]}.txt").open("wb")
        # A session of its own: Ctrl-C in the tests must not take the cluster down before its jobs.
        process = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.processes.append(process)

    def _wait_for(self, daemon: str, ready: Callable[[], bool]) -> None:
        if not self._until(ready, START_SECONDS):
            log = (self.folder / "log" / f"{daemon}.txt").read_text(errors="replace")
            raise RuntimeError(f"{daemon} did not start:\n{log[-3000:]}")

    def _until(self, ready: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if ready():
                return True
            time.sleep(0.2)
        return False

    def _munge_options(self) -> list[str]:
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{end}" for option, end in files.items()]
        return [*options, f"--log-file={self.folder}/log/munge.log"]

    def _slurm_conf(self) -> str:
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{node_name()}(127.0.0.1)",
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder}/munge.socket",
            "CredType": "cred/munge",
            "SlurmctldPort": free_port(),
            "SlurmdPort": free_port(),
            "StateSaveLocation": f"{self.folder}/state",
            "SlurmdSpoolDir": f"{self.folder}/spool",
            "SlurmctldPidFile": f"{self.folder}/slurmctld.pid",
            "SlurmdPidFile": f"{self.folder}/slurmd.pid",
            "ProctrackType": "proctrack/linuxproc",  # no cgroups: a container has none to give
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/none",
            "MpiDefault": "none",
            "SwitchType": "switch/none",
            "ReturnToService": 2,
            "SchedulerParameters": "bf_interval=1,sched_interval=2",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "SlurmdParameters": "config_overrides",  # believe the next lines, not the hardware
            "MinJobAge": 600,
            "KillWait": 5,
            "GresTypes": "gpu",
            "NodeName": f"{node_name()} NodeAddr=127.0.0.1 CPUs={self.cpus} RealMemory=16000 "
            f"Gres=gpu:{self.gpus} State=UNKNOWN",
            "PartitionName": "debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
        }
        return "\n".join([MARK, *(f"{key}={value}" for key, value in settings.items()), ""])

    def _gres_conf(self) -> str:
        files = f"{self.folder}/gpu[0-{self.gpus - 1}]"
        return f"{MARK}\nNodeName={node_name()} Name=gpu File={files}\n"


def node_name() -> str:
    return socket.gethostname().partition(".")[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def reason_to_skip() -> str | None:
    """Why no cluster can be started here; None: it can."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        return f"{', '.join(missing)} not on PATH (Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "starting Slurm's daemons needs root"
    conf = SYSTEM_FOLDER / "slurm.conf"
    if conf.exists() and not conf.read_text(encoding="utf-8").startswith(MARK):
        return f"this machine has a cluster of its own ({conf})"
    return None


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """A cluster for the tests of one module."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    # Not pytest's own folder: nobody but root may enter that one.
    folder = Path(tempfile.mkdtemp(prefix="bnorder-slurm-"))
    folder.chmod(0o755)
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
