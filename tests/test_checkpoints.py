"""A killed job goes on from its checkpoint, bit for bit; what it cannot trust is ignored."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fault_ledger import keep_journal
from made_up_records import made_up_records

from bnorder import checkpoints, data, jobs, training
from bnorder.records import Record, code_hash
from bnorder.study import Study, load_study

SMALL = {"seeds": 2, "depths": [2], "activations": ["relu"], "train_images": 320, "epochs": 4}
ONE_ARM = {"orderings": ["conv-bn-act"], "arms_per_job": 1, "seeds_together": 1}


class Killed(Exception):
    """Stands for SIGKILL: nothing after it runs, nothing is cleaned up."""


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


@pytest.fixture(autouse=True)
def write_at_every_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints.JobFiles, "_is_due", lambda files: files.seconds_between < 1e9)


def study(**changes: object) -> Study:
    return load_study("studies/quick.yaml", {**SMALL, **ONE_ARM, **changes})


def outcome(records: list[Record]) -> list[object]:
    return [(r.run, r.curve, r.status, r.diverged_step, r.steps, r.config_hash) for r in records]


def killed_after(study: Study, digits: data.Dataset, folder: Path, progress_calls: int) -> None:
    calls = 0

    def progress(done: float, rate: float) -> None:
        nonlocal calls
        calls += 1
        if calls == progress_calls:
            raise Killed

    with pytest.raises(Killed):
        jobs.train_job(study, study.jobs()[0], digits, progress, folder)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("progress_calls", [3, 7, 12, 20, 24])
def test_a_killed_job_ends_as_if_it_had_never_been_disturbed(
    progress_calls: int, optimiser: str, digits: data.Dataset, tmp_path: Path
) -> None:
    small = study(optimiser=optimiser, schedule="cosine")
    undisturbed = jobs.train_job(small, small.jobs()[0], digits)
    killed_after(small, digits, tmp_path, progress_calls)
    again = jobs.train_job(small, small.jobs()[0], digits, None, tmp_path)
    assert outcome(again) == outcome(undisturbed)


def test_only_what_follows_the_checkpoint_is_repeated(
    digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = study()
    per_run = len(training.evaluation_steps(10, 4))
    killed_after(small, digits, tmp_path, 2 * per_run - 1)  # in the last epoch of the second run
    steps = []
    original = training.Trainer._learning_rate  # which each step asks for, in any kind of trainer

    def counted(trainer: training.Trainer, step: int) -> float:
        steps.append(trainer.seeds)
        return original(trainer, step)

    monkeypatch.setattr(training.Trainer, "_learning_rate", counted)
    jobs.train_job(small, small.jobs()[0], digits, None, tmp_path)
    assert steps == [[1]] * 10  # one epoch of the second seed


def test_packed_replicas_resume_bit_for_bit(digits: data.Dataset, tmp_path: Path) -> None:
    small = study()
    runs, recipe = small.jobs()[0].runs, small.recipe
    cpu = torch.device("cpu")
    whole = jobs.train(runs, recipe, digits, cpu, "c")
    files = jobs.job_files(small.jobs()[0], digits, cpu, tmp_path, code_hash())
    calls = iter(range(100))

    def progress(done: float, rate: float) -> None:
        if next(calls) == 8:
            raise Killed

    with pytest.raises(Killed):
        jobs.train(runs, recipe, digits, cpu, "c", progress, files)
    assert files.state_file.exists()
    assert outcome(jobs.train(runs, recipe, digits, cpu, "c", None, files)) == outcome(whole)


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"PK\x03\x04" + bytes(64)])
@pytest.mark.parametrize("which", ["checkpoint.pt", "finished.jsonl"])
def test_garbage_is_named_and_never_used(
    which: str,
    garbage: bytes,
    digits: data.Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = study()
    job = small.jobs()[0]
    undisturbed = jobs.train_job(small, job, digits)
    killed_after(small, digits, tmp_path, 20)
    path = tmp_path / f"{job.name}.{which}"
    assert path.exists()
    path.write_bytes(garbage)
    again = jobs.train_job(small, job, digits, None, tmp_path)
    assert outcome(again) == outcome(undisturbed)
    if garbage or which == "checkpoint.pt":
        assert f"{path.name} is not used" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["code", "data", "torch", "device", "number of threads", "kernels"])
def test_a_checkpoint_of_other_circumstances_is_not_used(
    key: str, digits: data.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = study()
    killed_after(small, digits, tmp_path, 20)
    cpu, job = torch.device("cpu"), small.jobs()[0]
    own = jobs.kernels_here(small, cpu)
    files = jobs.job_files(job, digits, cpu, tmp_path, code_hash(), own)
    names = [small.config_hash(small.arms()[0]), small.jobs()[0].runs[1].id]
    assert files.load_state(names) is not None
    other = replace(files, identity={**files.identity, key: "other"})
    assert other.load_state(names) is None
    assert f"another {key}" in capsys.readouterr().out


def test_a_checkpoint_of_another_recipe_is_not_used(digits: data.Dataset, tmp_path: Path) -> None:
    killed_after(study(), digits, tmp_path, 9)
    other = study(learning_rate=0.01)
    renamed = tmp_path / f"{other.jobs()[0].name}.checkpoint.pt"
    assert renamed.exists()  # the job's name does not say the recipe
    fresh = jobs.train_job(other, other.jobs()[0], digits)
    again = jobs.train_job(other, other.jobs()[0], digits, None, tmp_path)
    assert outcome(again) == outcome(fresh)


def test_a_finished_job_leaves_no_checkpoint(digits: data.Dataset, tmp_path: Path) -> None:
    small = study()
    jobs.train_job(small, small.jobs()[0], digits, None, tmp_path)
    assert list(tmp_path.iterdir())
    (tmp_path / f".{small.jobs()[0].name}.checkpoint.pt.123").write_bytes(b"half")  # by a kill
    checkpoints.forget(tmp_path, small.jobs()[0].name)
    assert list(tmp_path.iterdir()) == []


def test_records_are_taken_up_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "job.jsonl"
    records.write_text("one\ntwo\n")

    def full(source: Path, target: Path) -> None:
        target.write_text("one")
        raise OSError("no space left")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="no space left"):
        checkpoints.claim(tmp_path, "job", records)
    assert not checkpoints.finished_file(tmp_path, "job").exists()


def test_a_full_disk_does_not_end_the_training(
    digits: data.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = study(epochs=1, train_images=64)
    undisturbed = jobs.train_job(small, small.jobs()[0], digits)

    def full(path: Path, records: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_records", full)
    again = jobs.train_job(small, small.jobs()[0], digits, None, tmp_path)
    assert outcome(again) == outcome(undisturbed)
    assert "finished.jsonl is not written ([Errno 28] No space left" in capsys.readouterr().out
    with pytest.raises(OSError, match="No space left"):  # the end does not pass it over
        checkpoints.finish(tmp_path, small.jobs()[0].name, tmp_path / "records.jsonl", again)


def test_of_finished_runs_those_that_fit_are_taken_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = study()
    job, found = small.jobs()[0], made_up_records(small)
    hashes = {run.id: small.config_hash(run.arm) for run in job.runs}
    fit, stale = found[0], replace(found[1], code_hash="f" * 16)
    files = checkpoints.JobFiles(tmp_path, job.name, {"code": code_hash(), "data": fit.data_sha256})
    checkpoints.keep(tmp_path, job.name, [stale, fit])
    files.load_finished(hashes)
    assert files.finished == {fit.run.id: fit}
    said = capsys.readouterr().out
    assert "1 records are not used (of another study, code or data)" in said
    assert "1 runs were finished before" in said
    checkpoints.keep(tmp_path, job.name, [stale])
    files.load_finished(hashes)
    assert "is not used (of another study, code or data)" in capsys.readouterr().out


def test_the_journal_of_the_fault_tests_fits_the_source(tmp_path: Path) -> None:
    """They stand outside `make test`, and would be found broken only when they are needed."""
    (tmp_path / "bnorder").mkdir()
    copy = tmp_path / "bnorder/checkpoints.py"
    copy.write_text(Path(checkpoints.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    keep_journal(tmp_path)
    compile(copy.read_text(encoding="utf-8"), copy.name, "exec")
