"""The GPU's way to train, run on the CPU, where it must give what the plain way gives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bnorder import captured, data, training
from bnorder.checkpoints import JobFiles
from bnorder.records import Record
from bnorder.study import Arm, Recipe, Run, load_study

CPU = torch.device("cpu")
STUDY = load_study("studies/quick.yaml")
Train = Callable[..., list[Record]]


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


def arm(ordering: str = "conv-bn-act", activation: str = "relu") -> Arm:
    return Arm("digits", ordering, activation, 2, "base")


def recipe(**changes: object) -> Recipe:
    return replace(STUDY.recipe, **{"epochs": 3, "train_images": 640, **changes})


def results(train: Train, where: Arm, settings: Recipe, digits: data.Dataset) -> list[object]:
    """All of the records that is no time and no machine."""
    records = train([Run(where, seed) for seed in (3, 7)], settings, digits, CPU, "config")
    return [(r.run, r.status, r.diverged_step, r.steps, r.curve) for r in records]


@pytest.mark.parametrize("ordering", ["bn-act-conv", "conv-act-bn", "conv-act"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_captured_steps_are_the_plain_steps_bit_for_bit(
    ordering: str, optimiser: str, digits: data.Dataset
) -> None:
    settings = recipe(optimiser=optimiser)
    plain = results(training.train, arm(ordering), settings, digits)
    assert results(captured.train, arm(ordering), settings, digits) == plain


def test_a_schedule_is_followed_on_the_device(digits: data.Dataset) -> None:
    settings = recipe(schedule="cosine", learning_rate=3e-3)
    # The rate of a step is rounded to the device's float32 there.
    plain = training.train([Run(arm(), 3)], settings, digits, CPU, "config")[0]
    ours = captured.train([Run(arm(), 3)], settings, digits, CPU, "config")[0]
    for mine, other in zip(ours.curve, plain.curve, strict=True):
        assert mine.test_loss == pytest.approx(other.test_loss, rel=1e-4)
    constant = captured.train([Run(arm(), 3)], recipe(learning_rate=3e-3), digits, CPU, "config")
    assert constant[0].curve[-1].test_loss != pytest.approx(ours.curve[-1].test_loss, rel=1e-3)


def test_divergence_is_noted_at_the_same_step(digits: data.Dataset) -> None:
    settings = recipe(learning_rate=99.0, optimiser="sgd", epochs=5)
    where = arm("conv-act", "identity")
    plain = results(training.train, where, settings, digits)
    assert results(captured.train, where, settings, digits) == plain
    assert all(row[1] == "diverged" for row in plain)  # type: ignore[index]


def test_a_killed_run_goes_on_from_its_checkpoint_as_if_never_interrupted(
    digits: data.Dataset, tmp_path: Path
) -> None:
    runs, identity = [Run(arm(), 3), Run(arm(), 7)], {"code": "this"}

    def files() -> JobFiles:
        return JobFiles(tmp_path, "job", identity, seconds_between=0)

    class Killed(Exception):
        pass

    def die(done: float, _: float) -> None:
        if done >= 4 / 3:
            raise Killed  # in the second epoch's end, before its checkpoint

    whole = captured.train(runs, recipe(), digits, CPU, "config")
    with pytest.raises(Killed):
        captured.train(runs, recipe(), digits, CPU, "config", die, files())
    assert files().load_state(["config", *(run.id for run in runs)])["step"] == 20  # type: ignore[index]
    resumed = captured.train(runs, recipe(), digits, CPU, "config", None, files())
    assert [r.curve for r in resumed] == [r.curve for r in whole]


def test_a_job_without_a_gpu_trains_the_plain_way(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(
        "studies/quick.yaml", {"seeds": 1, "epochs": 1, "depths": [2], "train_images": 64}
    )
    job, taken = study.jobs()[0], list[str]()
    plain, fast = training.train, captured.train
    monkeypatch.setattr(training, "train", lambda *a: (taken.append("plain"), plain(*a))[1])
    monkeypatch.setattr(captured, "train", lambda *a: (taken.append("fast"), fast(*a))[1])
    captured.train_job(study, job, digits)
    assert set(taken) == {"plain"}


def test_seconds_of_training_and_evaluation_are_told_apart(digits: data.Dataset) -> None:
    record = captured.train([Run(arm(), 3)], recipe(), digits, CPU, "config")[0]
    assert 0 < record.cost.evaluate_seconds < record.cost.train_seconds
    total = record.cost.evaluate_seconds + record.cost.train_seconds
    assert total <= record.cost.wall_seconds
