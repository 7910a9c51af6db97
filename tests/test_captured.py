"""The GPU's way to train, run on the CPU, where it must give what the plain way gives."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from bnorder import data, jobs
from bnorder.captured import CapturedTrainer
from bnorder.checkpoints import JobFiles
from bnorder.probing import ProbedTrainer
from bnorder.records import Record
from bnorder.study import Arm, Recipe, Run, load_study
from bnorder.training import Trainer

CPU = torch.device("cpu")
STUDY = load_study("studies/quick.yaml")
captured = partial(jobs.train, kind=CapturedTrainer)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


def arm(ordering: str = "conv-bn-act", activation: str = "relu") -> Arm:
    return Arm("digits", ordering, activation, 2, "base")


def recipe(**changes: object) -> Recipe:
    return replace(STUDY.recipe, **{"epochs": 3, "train_images": 640, **changes})


def results(
    train: Callable[..., list[Record]], where: Arm, settings: Recipe, digits: data.Dataset
) -> list[object]:
    """All of the records that is no time and no machine."""
    records = train([Run(where, seed) for seed in (3, 7)], settings, digits, CPU, "config")
    return [(r.run, r.status, r.diverged_step, r.steps, r.curve) for r in records]


@pytest.mark.parametrize("ordering", ["bn-act-conv", "conv-act-bn", "conv-act"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_captured_steps_are_the_plain_steps_bit_for_bit(
    ordering: str, optimiser: str, digits: data.Dataset
) -> None:
    settings = recipe(optimiser=optimiser)
    plain = results(jobs.train, arm(ordering), settings, digits)
    assert results(captured, arm(ordering), settings, digits) == plain


def test_a_schedule_is_followed_on_the_device(digits: data.Dataset) -> None:
    settings = recipe(schedule="cosine", learning_rate=3e-3)
    # The rate of a step is rounded to the device's float32 there.
    plain = jobs.train([Run(arm(), 3)], settings, digits, CPU, "config")[0]
    ours = captured([Run(arm(), 3)], settings, digits, CPU, "config")[0]
    for mine, other in zip(ours.curve, plain.curve, strict=True):
        assert mine.test_loss == pytest.approx(other.test_loss, rel=1e-4)
    constant = captured([Run(arm(), 3)], recipe(learning_rate=3e-3), digits, CPU, "config")
    assert constant[0].curve[-1].test_loss != pytest.approx(ours.curve[-1].test_loss, rel=1e-3)


def test_divergence_is_noted_at_the_same_step(digits: data.Dataset) -> None:
    settings = recipe(learning_rate=99.0, optimiser="sgd", epochs=5)
    where = arm("conv-act", "identity")
    plain = results(jobs.train, where, settings, digits)
    assert results(captured, where, settings, digits) == plain
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

    whole = captured(runs, recipe(), digits, CPU, "config")
    with pytest.raises(Killed):
        captured(runs, recipe(), digits, CPU, "config", die, files())
    assert files().load_state(["config", *(run.id for run in runs)])["step"] == 20  # type: ignore[index]
    resumed = captured(runs, recipe(), digits, CPU, "config", None, files())
    assert [r.curve for r in resumed] == [r.curve for r in whole]


def test_the_way_to_train_suits_the_device_and_the_study() -> None:
    assert jobs.trainer_kind(CPU, probes=False) is Trainer
    assert jobs.trainer_kind(torch.device("cuda"), probes=False) is CapturedTrainer
    assert jobs.trainer_kind(torch.device("cuda"), probes=True) is ProbedTrainer


class Clock:
    """A clock that stands still but for what the test says that work takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def taking(self, seconds: float, work: Callable[..., None]) -> Callable[..., None]:
        def timed(*arguments: object) -> None:
            work(*arguments)
            self.now += seconds

        return timed


def test_seconds_of_training_and_evaluation_are_told_apart(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("bnorder.captured.time", clock)
    for name, seconds in (("_step", 0.25), ("_evaluation_pass", 4.0)):
        work = getattr(CapturedTrainer, name)
        monkeypatch.setattr(CapturedTrainer, name, clock.taking(seconds, work))
    record = captured([Run(arm(), 3)], recipe(), digits, CPU, "config")[0]
    evaluations = len(record.curve)
    assert record.cost.train_seconds == 0.25 * record.steps
    assert record.cost.evaluate_seconds == 4.0 * evaluations
    assert record.cost.images_per_second == 4.0 * recipe().batch_size


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_nothing_of_a_trainer_stays_when_it_is_let_go(digits: data.Dataset) -> None:
    with no_search_for_cycles():
        trainer = CapturedTrainer(arm(), recipe(epochs=1), digits, [3], CPU)
        trainer.run()
        left = [weakref.ref(thing) for thing in (trainer, trainer.images, trainer.network)]
        del trainer
        assert [thing() for thing in left] == [None, None, None]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("ordering", ["bn-act-conv", "conv-act-bn"])
def test_on_cuda_replayed_graphs_train_as_the_plain_steps_do(
    ordering: str, digits: data.Dataset
) -> None:
    runs, cuda = [Run(arm(ordering), 3), Run(arm(ordering), 7)], torch.device("cuda")
    plain = jobs.train(runs, recipe(), digits, cuda, "config")
    for ours, other in zip(captured(runs, recipe(), digits, cuda, "config"), plain, strict=True):
        assert [point.step for point in ours.curve] == [point.step for point in other.curve]
        for mine, its in zip(ours.curve, other.curve, strict=True):
            assert mine.test_loss == pytest.approx(its.test_loss, rel=1e-2)
