"""The GPU's way to train must give what the plain way gives: on the CPU, and on a GPU if any."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bnorder import data, jobs
from bnorder.captured import CapturedTrainer, Replayed
from bnorder.checkpoints import JobFiles
from bnorder.probing import ProbedTrainer
from bnorder.records import Evaluation, Record
from bnorder.study import Arm, Recipe, Run, load_study
from bnorder.training import Trainer, set_exactness

CPU = torch.device("cpu")
STUDY = load_study("studies/quick.yaml")
captured = partial(jobs.train, kind=CapturedTrainer)
no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
on_each_device = pytest.mark.parametrize(
    "device", [CPU, pytest.param(torch.device("cuda"), marks=no_cuda)], ids=lambda d: d.type
)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


@pytest.fixture(autouse=True)
def exact() -> None:
    """Arithmetic as the study says, whatever a test before this one has set."""
    set_exactness(STUDY.recipe)


def arm(ordering: str = "conv-bn-act", activation: str = "relu") -> Arm:
    return Arm("digits", ordering, activation, 2, "base")


def recipe(**changes: object) -> Recipe:
    return replace(STUDY.recipe, **{"epochs": 3, "train_images": 640, **changes})


def results(
    train: Callable[..., list[Record]],
    where: Arm,
    settings: Recipe,
    digits: data.Dataset,
    device: torch.device,
) -> list[object]:
    """All of the records that is no time and no machine.

    Where the steps' float32 losses are averaged in float64, on the device or not, the last bit of
    it may be another.
    """
    set_exactness(settings)
    records = train([Run(where, seed) for seed in (3, 7)], settings, digits, device, "config")
    curves = [[_rounded(point) for point in r.curve] for r in records]
    return [
        (r.run, r.status, r.diverged_step, r.steps, curve)
        for r, curve in zip(records, curves, strict=True)
    ]


def _rounded(point: Evaluation) -> Evaluation:
    test_loss, train_loss = (
        None if loss is None else float(f"{loss:.12g}")
        for loss in (point.test_loss, point.train_loss)
    )
    return replace(point, test_loss=test_loss, train_loss=train_loss)


@on_each_device
@pytest.mark.parametrize("ordering", ["bn-act-conv", "conv-act-bn", "conv-act"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_captured_steps_are_the_plain_steps_bit_for_bit(
    ordering: str, optimiser: str, device: torch.device, digits: data.Dataset
) -> None:
    settings = recipe(optimiser=optimiser)
    plain = results(jobs.train, arm(ordering), settings, digits, device)
    assert results(captured, arm(ordering), settings, digits, device) == plain


@on_each_device
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_so_they_are_in_less_precision(
    precision: str, device: torch.device, digits: data.Dataset
) -> None:
    settings = recipe(precision=precision, epochs=1)
    plain = results(jobs.train, arm(), settings, digits, device)
    assert results(captured, arm(), settings, digits, device) == plain


@on_each_device
def test_a_schedule_is_followed_on_the_device(device: torch.device, digits: data.Dataset) -> None:
    settings = recipe(schedule="cosine", learning_rate=3e-3)
    # The rate of a step is rounded to the device's float32 there.
    plain = jobs.train([Run(arm(), 3)], settings, digits, device, "config")[0]
    ours = captured([Run(arm(), 3)], settings, digits, device, "config")[0]
    for mine, other in zip(ours.curve, plain.curve, strict=True):
        assert mine.test_loss == pytest.approx(other.test_loss, rel=1e-4)
    constant = captured([Run(arm(), 3)], recipe(learning_rate=3e-3), digits, device, "config")
    assert constant[0].curve[-1].test_loss != pytest.approx(ours.curve[-1].test_loss, rel=1e-3)


@on_each_device
def test_divergence_is_noted_at_the_same_step(device: torch.device, digits: data.Dataset) -> None:
    settings = recipe(learning_rate=99.0, optimiser="sgd", epochs=5)
    where = arm("conv-act", "identity")
    plain = results(jobs.train, where, settings, digits, device)
    assert results(captured, where, settings, digits, device) == plain
    assert all(row[1] == "diverged" for row in plain)  # type: ignore[index]


@on_each_device
@pytest.mark.parametrize("kind", [Trainer, CapturedTrainer])
def test_a_diverged_seed_does_not_touch_the_one_beside_it(
    kind: type[Trainer],
    device: torch.device,
    digits: data.Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = partial(jobs.train, kind=kind)
    healthy = results(train, arm(), recipe(epochs=1), digits, device)[1]
    begin = kind.__init__

    def spoilt(self: Trainer, *arguments: Any) -> None:
        begin(self, *arguments)
        with torch.no_grad():
            for parameter in self.network.body.parameters():
                parameter[0] = float("nan")  # a channel of the first seed

    monkeypatch.setattr(kind, "__init__", spoilt)
    sick, other = results(train, arm(), recipe(epochs=1), digits, device)
    assert sick[1] == "diverged"  # type: ignore[index]
    assert other == healthy


@on_each_device
def test_a_killed_run_goes_on_from_its_checkpoint_as_if_never_interrupted(
    device: torch.device, digits: data.Dataset, tmp_path: Path
) -> None:
    runs, identity = [Run(arm(), 3), Run(arm(), 7)], {"code": "this"}

    def files() -> JobFiles:
        return JobFiles(tmp_path, "job", identity, seconds_between=0)

    class Killed(Exception):
        pass

    def die(done: float, _: float) -> None:
        if done >= 4 / 3:
            raise Killed  # in the second epoch's end, before its checkpoint

    whole = captured(runs, recipe(), digits, device, "config")
    with pytest.raises(Killed):
        captured(runs, recipe(), digits, device, "config", die, files())
    assert files().load_state(["config", *(run.id for run in runs)])["step"] == 20  # type: ignore[index]
    resumed = captured(runs, recipe(), digits, device, "config", None, files())
    assert [r.curve for r in resumed] == [r.curve for r in whole]


@on_each_device
def test_probes_change_no_curve(device: torch.device, digits: data.Dataset) -> None:
    runs = [Run(arm(), 3), Run(arm(), 7)]
    probed = jobs.train(runs, recipe(epochs=1), digits, device, "config", kind=ProbedTrainer)
    plain = jobs.train(runs, recipe(epochs=1), digits, device, "config")
    assert [record.curve for record in probed] == [record.curve for record in plain]
    assert all(record.probes for record in probed)


def test_the_way_to_train_suits_the_device_and_the_study() -> None:
    assert jobs.trainer_kind(CPU, probes=False) is Trainer
    assert jobs.trainer_kind(torch.device("cuda"), probes=False) is CapturedTrainer
    assert jobs.trainer_kind(torch.device("cuda"), probes=True) is ProbedTrainer


def test_a_step_that_fails_is_no_longer_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[str]()

    class Graph:
        def capture_begin(self) -> None:
            calls.append("begin")

        def capture_end(self) -> None:
            calls.append("end")

    def fail() -> None:
        raise MemoryError("out of memory")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    replayed = Replayed(CPU)
    with pytest.raises(MemoryError):
        replayed._record(fail)
    assert calls == ["begin", "end"] and replayed.graph is None


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
