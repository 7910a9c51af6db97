"""Which GPU a training job takes: one a job, leased by a file lock that the kernel releases.

A scheduler that gave a job one device in CUDA_VISIBLE_DEVICES has decided already. On a plain
machine nobody has: Snakemake's `gpu` resource only counts, so each job leases a device for itself.
So it does where jobs share a GPU, which Snakemake cannot count, be it the only one.
"""

import fcntl
import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bnorder import locks
from bnorder.errors import UserError
from bnorder.files import temporary_folder

POLL_SECONDS = 0.5
# Set inside a job of Slurm, PBS, LSF or Grid Engine. Two jobs may both call their own device 0.
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


@dataclass(frozen=True)
class Lease:
    """A device that is this process's own until the process ends, however it ends."""

    device: str
    lock: IO[str]


def cuda_devices(folder: Path = Path("/dev")) -> list[str]:
    """CUDA_VISIBLE_DEVICES' names of the devices that we may see, without importing torch.

    CUDA numbers them from 0 on; a container that has /dev/nvidia3 alone calls it 0.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    files = [path for path in folder.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(number) for number in range(len(files))]


def take_gpu(jobs_per_gpu: int = 1) -> Lease | None:
    """Lease one of the visible GPUs and show no other; None where there is none or it is decided.

    Call it before torch is imported, and keep what it returns.
    """
    devices = cuda_devices()
    chosen = "CUDA_VISIBLE_DEVICES" in os.environ and len(devices) == 1
    decided = chosen and (jobs_per_gpu == 1 or any(map(os.getenv, SCHEDULERS)))
    if decided or not devices:
        return None
    lease = lease_device(devices, jobs_per_gpu, lock_folder())
    os.environ["CUDA_VISIBLE_DEVICES"] = lease.device
    return lease


def require_cuda(lease: Lease | None) -> None:
    """Raise UserError where torch does not see the leased device and would train on the CPU."""
    if not lease:
        return
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"GPU {lease.device} was leased, but torch {torch.__version__} sees no CUDA device; "
            "install a torch that fits this machine's driver, or train on the CPU by an empty "
            "CUDA_VISIBLE_DEVICES (CUDA_VISIBLE_DEVICES= make report …)"
        )


def lock_folder() -> Path:
    """One folder a user on each machine; its files are empty and may be deleted at any time."""
    return temporary_folder("gpus")


def lease_device(devices: Sequence[str], jobs_per_gpu: int, folder: Path) -> Lease:
    """Wait for a free place on one of `devices`, each of which has `jobs_per_gpu` places.

    First places are tried first, so that no device is shared while another one is idle.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    places = [(device, place) for place in range(jobs_per_gpu) for device in devices]
    while True:
        for device, place in places:
            lock = _try_lock(folder / f"{device}.{place}.lock")
            if lock is not None:
                return Lease(device, lock)
        time.sleep(POLL_SECONDS)


def _try_lock(path: Path) -> IO[str] | None:
    file = path.open("w")
    if locks.lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return file
    file.close()
    return None


def usable_cores() -> int:
    """The cores that this process may use, or all of them where the system does not say (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, where the system says it, with what tells its generation.

    A virtual machine may show no more of a name than "AMD EPYC", and two generations of that round
    differently: they are told apart by the family and model that their maker numbers.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    pairs = [line.partition(":") for line in reversed(lines)]
    said = {key.strip(): value.strip() for key, _, value in pairs}
    name = said.get("model name") or platform.processor() or platform.machine()
    if "cpu family" not in said or "model" not in said:
        return name
    return f"{name} (family {said['cpu family']}, model {said['model']})"
