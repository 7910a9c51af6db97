"""A training job: its runs on the device at hand, some seeds at a time, one record a run."""

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from bnorder import cuda, fused, fused_gpu, kernels
from bnorder.captured import CapturedTrainer
from bnorder.checkpoints import JobFiles
from bnorder.data import Dataset
from bnorder.devices import processor
from bnorder.errors import UserError
from bnorder.fused import FusedTrainer
from bnorder.fused_gpu import FusedCapturedTrainer
from bnorder.probing import ProbedTrainer
from bnorder.records import Cost, Provenance, Record, code_hash
from bnorder.study import Job, Recipe, Run, Study
from bnorder.training import Progress, Trainer, set_exactness


def train_job(
    study: Study,
    job: Job,
    dataset: Dataset,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> list[Record]:
    """Train a job's runs, as many seeds of an arm in one network as suits the device.

    On a GPU that is all of a job's, on a CPU the study's `seeds_together`.
    folder: keeps checkpoints, from which a job that was killed goes on; clear them with
    `checkpoints.forget` when the records are safe.
    Raises UserError when `dataset` is not the job's, or when the device has not the precision.
    """
    if dataset.name != job.dataset:
        raise UserError(f"job {job.name}: the data cache holds {dataset.name}; expected its own")
    device = pick_device()
    _require_precision(study, job, device)
    together = len(job.seeds) if device.type == "cuda" else study.seeds_together
    own = kernels_here(study, device)
    dataset = dataset.on(device)
    files = job_files(job, dataset, device, folder, code_hash(study.probes), own)
    hashes = {run.id: study.config_hash(run.arm) for run in job.runs}
    if folder:
        files.load_finished(hashes)
    for runs in _packs(job, together):
        if all(run.id in files.finished for run in runs):
            continue
        recipe = study.recipe_for(runs[0].arm.variant)
        set_exactness(recipe)
        report = progress and partial(_add_progress, progress, len(files.finished))
        config, kind = hashes[runs[0].id], trainer_kind(device, study.probes, own, recipe)
        files.add(train(runs, recipe, dataset, device, config, report, files, kind))
    return [files.finished[run.id] for run in job.runs]


def _require_precision(study: Study, job: Job, device: torch.device) -> None:
    """Elsewhere than on CUDA torch takes no notice of tf32, and the record would say otherwise."""
    precisions = {study.recipe_for(arm.variant).precision for arm in job.arms}
    if "tf32" in precisions and device.type != "cuda":
        raise UserError(
            f"job {job.name}: precision is tf32, which only CUDA devices have, and this is a "
            f"{device.type.upper()}; expected float32 or bf16 (PRECISION=float32)"
        )


def kernels_here(study: Study, device: torch.device) -> str:
    """Which kernels a study's runs take here, as their provenance says it.

    Our own are for a GPU or for one core, and for no probe, which reads between the layers that
    they fuse. Where they cannot be had, a line says why: training is then the same, but slower.
    """
    one_core = device.type == "cpu" and torch.get_num_threads() == 1
    if study.kernels != "fused" or study.probes or not (one_core or device.type == "cuda"):
        return kernels.TORCH
    try:
        require_fused(device)
    except kernels.Unavailable as reason:
        print(f"kernels: PyTorch's own, which are slower: {reason}", flush=True)
        return kernels.TORCH
    return fused_kernels(device)


def require_fused(device: torch.device) -> None:
    """Raise Unavailable where our own kernels cannot be had or compute anything wrong."""
    (fused_gpu if device.type == "cuda" else fused).require()


def fused_kernels(device: torch.device) -> str:
    """The name of our own kernels for a device. Raises Unavailable where they are not to be had."""
    return cuda.name() if device.type == "cuda" else kernels.name()


def trainer_kind(
    device: torch.device, probes: bool, own: str = kernels.TORCH, recipe: Recipe | None = None
) -> type[Trainer]:
    """The way to train that suits a device and a study; up to rounding, runs are the same.

    own: as `kernels_here` says; they compute in float32 and leave other precisions to PyTorch.
    """
    if probes:
        return ProbedTrainer
    exact = recipe is None or recipe.precision == "float32"
    if own != kernels.TORCH and exact:
        return FusedCapturedTrainer if device.type == "cuda" else FusedTrainer
    return CapturedTrainer if device.type == "cuda" else Trainer


def _packs(job: Job, together: int) -> Iterator[list[Run]]:
    """The job's runs, `together` seeds of an arm at a time."""
    for arm in job.arms:
        for start in range(0, len(job.seeds), together):
            yield [Run(arm, seed) for seed in job.seeds[start : start + together]]


def job_files(
    job: Job,
    dataset: Dataset,
    device: torch.device,
    folder: Path | None,
    code: str,
    own: str = kernels.TORCH,
) -> JobFiles:
    """A job's checkpoints; only the same code, data, torch, device, threads and kernels use them.

    Without a folder none is ever due.
    """
    made_by = provenance(device)
    identity = {
        "code": code,
        "data": dataset.sha256,
        "torch": made_by.torch,
        "device": made_by.device,
        "number of threads": str(made_by.threads),
        "kernels": own,
    }
    if folder is None:
        return JobFiles(Path(), job.name, identity, seconds_between=math.inf)
    return JobFiles(folder, job.name, identity)


def _add_progress(progress: Progress, before: int, done: float, rate: float) -> None:
    progress(before + done, rate)


def train(
    runs: Sequence[Run],
    recipe: Recipe,
    dataset: Dataset,
    device: torch.device,
    config_hash: str,
    progress: Progress | None = None,
    files: JobFiles | None = None,
    kind: type[Trainer] = Trainer,
) -> list[Record]:
    """Train some seeds of one arm as one network and give their records.

    A run whose loss is not finite ends there and is a record with its step.
    files: where the state is saved now and then at an epoch's end, and taken up again.
    kind: the way to train.
    """
    start = time.perf_counter()
    names = [config_hash, *(run.id for run in runs)]
    trainer = kind(runs[0].arm, recipe, dataset, [run.seed for run in runs], device)
    saved = files.load_state(names) if files else None
    if saved:
        trainer.restore(saved)
    before = _seconds(trainer)
    save: Callable[[], None] | None = None
    if files:
        save = partial(files.save_if_due, names, trainer.state)
    trainer.run(progress, save)
    wall_seconds = before + time.perf_counter() - start
    return [_record(trainer, i, run, config_hash, wall_seconds) for i, run in enumerate(runs)]


def _seconds(trainer: Trainer) -> float:
    seconds = trainer.train_seconds + trainer.evaluate_seconds
    return seconds + (trainer.probe_seconds if isinstance(trainer, ProbedTrainer) else 0.0)


def _record(
    trainer: Trainer, replica: int, run: Run, config_hash: str, wall_seconds: float
) -> Record:
    together = len(trainer.seeds)
    diverged = trainer.diverged_steps[replica]
    record = Record(
        run=run,
        config_hash=config_hash,
        code_hash=code_hash(),
        data_sha256=trainer.data_sha256,
        status="finished" if diverged is None else "diverged",
        diverged_step=diverged,
        n_train=trainer.n_train,
        n_test=trainer.n_test,
        steps=trainer.total_steps,
        parameters=trainer.parameters(),
        curve=tuple(trainer.curves[replica]),
        cost=Cost(
            wall_seconds=wall_seconds / together,
            train_seconds=trainer.train_seconds / together,
            evaluate_seconds=trainer.evaluate_seconds / together,
            images_per_second=trainer.images_per_second,
            replicas=together,
        ),
        provenance=provenance(trainer.device),
    )
    if isinstance(trainer, FusedTrainer | FusedCapturedTrainer):
        made_by = replace(record.provenance, kernels=fused_kernels(trainer.device))
        return replace(record, provenance=made_by)
    if not isinstance(trainer, ProbedTrainer):
        return record
    cost = replace(record.cost, probe_seconds=trainer.probe_seconds / together)
    probes = trainer.sorted_probes(replica)
    return replace(record, cost=cost, probes=probes, code_hash=code_hash(probes=True))


def provenance(device: torch.device) -> Provenance:
    """What ran: versions, device and threads; nothing that names a machine or a person."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return Provenance(
        python=platform.python_version(),
        torch=str(torch.__version__),
        system=f"{platform.system()} {platform.machine()}",
        device=name,
        threads=torch.get_num_threads(),
    )


def pick_device() -> torch.device:
    """The first visible GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
