"""GPU leases, on made-up devices: no GPU is needed."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bnorder import devices
from bnorder.errors import UserError


def holder(folder: Path, jobs_per_gpu: int = 1) -> "subprocess.Popen[str]":
    """A process that leases one of two devices, says which, and sleeps."""
    code = (
        "import sys, time, pathlib\n"
        "from bnorder.devices import lease_device\n"
        f"lease = lease_device(['0', '1'], {jobs_per_gpu}, pathlib.Path(sys.argv[1]))\n"
        "print(lease.device, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def device_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_each_job_gets_a_device_of_its_own_and_a_killed_one_gives_it_back(tmp_path: Path) -> None:
    running = [holder(tmp_path), holder(tmp_path)]
    try:
        taken = {device_of(process): process for process in running}
        assert set(taken) == {"0", "1"}
        running.append(holder(tmp_path))
        with pytest.raises(subprocess.TimeoutExpired):
            running[2].wait(1.5)
        taken["1"].send_signal(signal.SIGKILL)
        assert device_of(running[2]) == "1"
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_a_device_is_shared_only_when_every_device_is_taken(tmp_path: Path) -> None:
    leases = [devices.lease_device(["0", "1"], 2, tmp_path) for _ in range(4)]
    assert [lease.device for lease in leases] == ["0", "1", "0", "1"]


def test_a_folder_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unable)
    assert devices.lease_device(["0", "1"], 1, tmp_path).device == "0"


def test_a_scheduler_s_choice_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert devices.take_gpu() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert devices.cuda_devices() == ["3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.cuda_devices() == []


def test_devices_are_counted_by_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia3", "nvidia10", "nvidiactl", "nvidia-uvm"):  # a container's two of many
        (tmp_path / name).touch()
    assert devices.cuda_devices(tmp_path) == ["0", "1"]  # CUDA counts what it sees from 0 on


def test_a_leased_device_becomes_the_only_visible_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "lock_folder", lambda: tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    first = devices.take_gpu()
    assert first is not None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == first.device == "5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    second = devices.take_gpu()
    assert second is not None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == second.device == "6"


def test_jobs_that_share_the_only_gpu_lease_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "lock_folder", lambda: tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for name in devices.SCHEDULERS:
        monkeypatch.delenv(name, raising=False)
    lease = devices.take_gpu(2)
    assert lease is not None
    assert lease.device == "0"
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # its 0 may be another device than its neighbour's
    assert devices.take_gpu(2) is None


def test_a_leased_gpu_that_torch_cannot_use_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    lease = devices.lease_device(["1"], 1, tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="GPU 1 was leased, but torch .* sees no CUDA device"):
        devices.require_cuda(lease)
    devices.require_cuda(None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    devices.require_cuda(lease)


def test_without_a_gpu_nothing_is_leased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "cuda_devices", list)
    assert devices.take_gpu() is None
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_the_processor_has_one_name_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from bnorder import jobs
    from bnorder.publishing import publish

    said = "processor : 0\nmodel name\t: A Processor of Ours @ 2 GHz\nmodel name\t: Another\n"
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: said)
    assert devices.processor() == "A Processor of Ours @ 2 GHz"
    assert jobs.provenance(torch.device("cpu")).device == devices.processor()
    assert publish.processor is devices.processor


def test_two_generations_of_one_name_are_two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: A Processor\n\ncpu family\t: 26\n"
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: said)
    assert devices.processor() == "A Processor (family 26, model 2)"
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: said.replace("26", "25"))
    assert devices.processor() == "A Processor (family 25, model 2)"


def test_cores_are_those_that_may_be_used_where_the_system_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3}, raising=False)
    assert devices.usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert devices.usable_cores() == os.cpu_count()
