"""Fused kernels must give what the layers give, one after the other, but for rounding."""

import platform
import shutil
import stat
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bnorder import data, fused, jobs, kernels, training
from bnorder.fused import Body, FusedTrainer, Stage
from bnorder.network import Network
from bnorder.probing import ProbedTrainer
from bnorder.records import Record
from bnorder.study import Arm, Recipe, Run, load_study

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, kernels.COMPILERS)), reason="needs a C compiler"
)
CPU = torch.device("cpu")
STUDY = load_study("studies/quick.yaml")
ORDERINGS = ["bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn", "conv-act", "bn-conv-act"]
ROUNDING = 1e-5  # share of the greatest value


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Nothing compiled yet; the folder for temporary files is the test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for cached in (kernels.library, kernels.name, fused.require):
        cached.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for cached in (kernels.library, kernels.name, fused.require):
        cached.cache_clear()


def arm(ordering: str = "conv-bn-act", activation: str = "relu", depth: int = 2) -> Arm:
    return Arm("digits", ordering, activation, depth, "base")


def recipe(**changes: object) -> Recipe:
    return replace(STUDY.recipe, **{"epochs": 2, "train_images": 640, **changes})


def convolution(replicas: int, kernel: int = 3, width: int = 16, bias: bool = False) -> nn.Conv2d:
    pad = kernel // 2
    return nn.Conv2d(replicas, width * replicas, kernel, padding=pad, groups=replicas, bias=bias)


def wide(replicas: int, inputs: int = 16, outputs: int = 16, bias: bool = False) -> nn.Conv2d:
    """A convolution of many channels."""
    channels = (inputs * replicas, outputs * replicas)
    return nn.Conv2d(*channels, 3, padding=1, groups=replicas, bias=bias)


GROUPS: dict[str, tuple[list[nn.Module], int]] = {
    "bn, pool, relu": ([nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ReLU()], 8),
    "bn, pool, elu, odd size": ([nn.BatchNorm2d(32), nn.MaxPool2d(2), nn.ELU()], 7),
    "elu, bn, pool": ([nn.ELU(), nn.BatchNorm2d(32), nn.MaxPool2d(2)], 8),
    "relu, bn": ([nn.ReLU(), nn.BatchNorm2d(48)], 5),
    "leaky, bn, leaky": ([nn.LeakyReLU(0.1), nn.BatchNorm2d(16), nn.LeakyReLU(0.3)], 6),
    "bn": ([nn.BatchNorm2d(16)], 6),
    "bn of an image": ([nn.BatchNorm2d(1), nn.ReLU()], 8),
    "bn of two replicas' images": ([nn.ReLU(), nn.BatchNorm2d(2)], 28),
    "bn of a colour image": ([nn.BatchNorm2d(3), nn.ELU()], 32),
    "convolution, bn, pool, relu": (
        [convolution(1), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ReLU()],
        28,
    ),
    "convolution with bias, elu, bn, pool": (
        [convolution(2, bias=True), nn.ELU(), nn.BatchNorm2d(32), nn.MaxPool2d(2)],
        9,
    ),
    "convolution, pool": ([convolution(3, bias=True), nn.MaxPool2d(2)], 8),
    "convolution, relu, bn": ([convolution(2), nn.ReLU(), nn.BatchNorm2d(32)], 7),
    "wide convolution alone": ([convolution(1, width=48, bias=True)], 6),
    "convolution of 1 x 1": ([convolution(2, kernel=1), nn.BatchNorm2d(32)], 6),
    "convolution of many channels, bn, pool, relu": (
        [wide(2), nn.BatchNorm2d(32), nn.MaxPool2d(2), nn.ReLU()],
        14,
    ),
    "of many, with bias, elu, bn, pool, odd size": (
        [wide(2, bias=True), nn.ELU(), nn.BatchNorm2d(32), nn.MaxPool2d(2)],
        7,
    ),
    "of many, pool, leaky": ([wide(1, bias=True), nn.MaxPool2d(2), nn.LeakyReLU(0.1)], 9),
    "of many, elu": ([wide(3, bias=True), nn.ELU()], 5),
    "of more to fewer": ([wide(2, 48, 16), nn.BatchNorm2d(32)], 6),
    "of fewer to more, relu, bn": ([wide(1, 16, 32), nn.ReLU(), nn.BatchNorm2d(32)], 28),
    "of many and one pixel": ([wide(2, bias=True)], 1),
    "convolution of 5 x 5": ([convolution(2, kernel=5), nn.BatchNorm2d(32), nn.ELU()], 6),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_agrees_with_its_layers_in_float64(name: str) -> None:
    layers, size = GROUPS[name]
    (stage,) = Body(layers).stages
    assert isinstance(stage, Stage)
    assert fused.disagreement(layers, size) < ROUNDING


@pytest.mark.parametrize("name", GROUPS)
def test_without_a_derivative_a_group_agrees_too(name: str) -> None:
    layers, size = deepcopy(GROUPS[name][0]), GROUPS[name][1]
    channels = next(c for c in map(fused._channels, layers) if c)
    plain = nn.Sequential(*layers)
    plain(torch.randn(16, channels, size, size))  # moves the running statistics
    plain.eval()
    images = torch.randn(5, channels, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(Body(layers)(images), plain(images), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names vectors of x86")
@pytest.mark.parametrize("narrower", ["-mno-avx512f", "-mno-avx"])
def test_narrower_vectors_agree(
    narrower: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", f"cc {narrower}")
    assert max(fused.disagreement(*group) for group in GROUPS.values()) < ROUNDING


@pytest.mark.parametrize("size", [*range(1, 13), 15, 16, 31])
def test_a_convolution_of_many_channels_agrees_at_every_size(size: int) -> None:
    for inputs in (16, 32):
        assert fused.disagreement([wide(1, inputs, 16, bias=True)], size, images=3) < ROUNDING


def test_a_channel_whose_gamma_is_negative_is_pooled_by_its_least() -> None:
    layers = [nn.BatchNorm2d(16), nn.MaxPool2d(2)]
    assert isinstance(layers[0], nn.BatchNorm2d)
    with torch.no_grad():
        layers[0].weight.copy_(torch.linspace(-1, 1, 16))
    images = torch.randn(4, 16, 6, 6)
    torch.testing.assert_close(
        Body(layers)(images), nn.Sequential(*deepcopy(layers))(images), rtol=1e-4, atol=1e-5
    )


def test_a_weight_that_was_changed_before_its_derivative_is_noticed() -> None:
    layer = wide(1)
    y = Body([layer])(torch.randn(2, 16, 4, 4, requires_grad=True)).sum()
    with torch.no_grad():
        layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_a_derivative_takes_running_statistics_for_given() -> None:
    layers = [wide(1), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ELU()]
    plain = nn.Sequential(*layers)
    plain(torch.randn(8, 16, 6, 6))  # moves them
    plain.eval()
    ours, theirs = (torch.ones(8, 16, 6, 6).cumsum(3).requires_grad_() for _ in range(2))
    Body(layers)(ours).square().sum().backward()
    plain(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 5, 7, 10, 26])
@pytest.mark.parametrize("images", [1, 2, 5, 16, 37])
def test_classifier_and_loss_agree_with_float64(images: int, classes: int) -> None:
    for replicas, size in ((1, 1), (3, 4)):
        assert fused.loss_disagreement(images, classes, replicas, size) < ROUNDING


def test_a_loss_is_right_far_from_zero_and_not_a_number_where_a_logit_is_none() -> None:
    logits = torch.tensor([[[3e4, -3e4], [-3e4, 3e4]], [[0.0, 0.0], [torch.nan, 0.0]]])
    labels = torch.tensor([[0, 0], [1, 0]])
    losses, correct = fused.CrossEntropy.apply(logits, labels)
    assert float(losses[0]) == 3e4
    assert losses[1].isnan()
    assert int(correct[0]) == 1


def test_adam_moves_as_the_plain_one_does() -> None:
    assert fused.adam_disagreement(steps=20) < ROUNDING


def test_images_are_planes_where_a_convolution_reads_them(digits: data.Dataset) -> None:
    for ordering, planar in (("conv-bn-act", True), ("bn-act-conv", False)):
        trainer = FusedTrainer(arm(ordering), recipe(), digits, [3, 7], CPU)
        plain = training.Trainer(arm(ordering), recipe(), digits, [3, 7], CPU)
        images, labels = trainer.images.batch(trainer._next_order()[0])
        assert images.is_contiguous() is planar
        expected, expected_labels = plain.images.batch(plain._next_order()[0])
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_a_test_set_is_the_same_to_the_last_bit(digits: data.Dataset) -> None:
    trainer = FusedTrainer(arm(), recipe(), digits, [3, 7], CPU)
    plain = training.Trainer(arm(), recipe(), digits, [3, 7], CPU)
    batches = zip(trainer.images.test_batches(2), plain.images.test_batches(2), strict=True)
    for (images, labels), (expected, expected_labels) in batches:
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


@pytest.mark.parametrize("head", ["flatten", "global_average"])
@pytest.mark.parametrize("width", [8, 16])
def test_a_network_answers_as_the_plain_one(width: int, head: str, digits: data.Dataset) -> None:
    changes = recipe(width=width, head=head)
    trainer = FusedTrainer(arm(), changes, digits, [3, 7], CPU)
    plain = training.Trainer(arm(), changes, digits, [3, 7], CPU)
    for a, b in zip(
        training.evaluate(trainer.network, trainer.images),
        training.evaluate(plain.network, plain.images),
        strict=True,
    ):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1)


def test_every_order_is_fused() -> None:
    for ordering in ORDERINGS:
        for depth in (2, 5):
            network = Network(arm(ordering, depth=depth), recipe(), (1, 28, 28), 10, [0, 1])
            rest = [s for s in Body(network.body).stages if not isinstance(s, Stage)]
            assert not rest


def test_a_channel_far_from_zero_keeps_its_variance() -> None:
    images = 1000 + torch.randn(8, 16, 6, 6)
    plain, ours = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
    expected = plain.double()(images.double())
    torch.testing.assert_close(Body([ours])(images).double(), expected, rtol=1e-3, atol=1e-3)
    constant = torch.full((8, 16, 6, 6), 3.7)
    assert Body([nn.BatchNorm2d(16)])(constant).abs().max() < 0.01


def test_what_no_kernel_fits_goes_layer_by_layer() -> None:
    layers = [nn.BatchNorm2d(12), nn.MaxPool2d(2), nn.ReLU()]
    images = torch.randn(4, 12, 6, 6)
    ours = Body(layers)(images)
    assert torch.equal(ours, nn.Sequential(*deepcopy(layers))(images))
    for layer in (
        nn.GELU(),
        nn.Conv2d(1, 16, 3),
        nn.Conv2d(1, 16, 4, padding=2),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.Conv2d(1, 16, 3, padding=1, stride=2),
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 5, padding=2),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.Conv2d(24, 16, 3, padding=1),
        nn.Conv2d(16, 16, (3, 5), padding=1),
    ):
        assert Body([layer]).stages == [layer]


@pytest.mark.parametrize("layers", [[nn.MaxPool2d(2), nn.ReLU()], [nn.ReLU(), nn.BatchNorm2d(16)]])
def test_not_a_number_stays_one(layers: list[nn.Module]) -> None:
    images = torch.randn(2, 16, 4, 4)
    images[1, 5, 2, 3] = torch.nan
    assert Body(layers)(images)[1, 5].isnan().any()


def gradients(network: Network, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    training.cross_entropy(network(images), labels).sum().backward()
    return torch.cat(
        [p.grad.double().flatten() for p in network.parameters() if p.grad is not None]
    )


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu"])
@pytest.mark.parametrize("ordering", ORDERINGS)
def test_a_network_has_the_gradients_of_float64(
    ordering: str, activation: str, digits: data.Dataset
) -> None:
    where = arm(ordering, activation)
    trainer = FusedTrainer(where, recipe(), digits, [3, 7], CPU)
    assert isinstance(trainer.images, fused.FusedImages)
    images, labels = trainer.images.batch(trainer._next_order()[0])
    exact = training.Trainer(where, recipe(), digits, [3, 7], CPU).network.double()
    ours, theirs = (
        gradients(trainer.network, images, labels),
        gradients(exact, images.double(), labels),
    )
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


def trained(kind: type[training.Trainer], where: Arm, digits: data.Dataset) -> list[Record]:
    runs = [Run(where, seed) for seed in (3, 7)]
    return jobs.train(runs, recipe(), digits, CPU, "config", kind=kind)


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_training_goes_the_plain_way(ordering: str, digits: data.Dataset) -> None:
    ours = trained(FusedTrainer, arm(ordering), digits)
    plain = trained(training.Trainer, arm(ordering), digits)
    for mine, other in zip(ours, plain, strict=True):
        for a, b in zip(mine.curve, other.curve, strict=True):
            assert a.test_loss == pytest.approx(b.test_loss, rel=0.05)
            assert abs(a.test_correct - b.test_correct) < 0.03 * mine.n_test


def test_the_same_run_twice_is_the_same_to_the_last_bit(digits: data.Dataset) -> None:
    first, second = (trained(FusedTrainer, arm("conv-act-bn", "elu"), digits) for _ in range(2))
    assert [record.curve for record in first] == [record.curve for record in second]


def test_a_run_goes_on_from_its_checkpoint_to_the_last_bit(digits: data.Dataset) -> None:
    where, states = arm("bn-act-conv"), []
    whole = FusedTrainer(where, recipe(), digits, [3, 7], CPU)
    whole.run(at_epoch_end=lambda: states.append(deepcopy(whole.state())))
    rest = FusedTrainer(where, recipe(), digits, [3, 7], CPU)
    rest.restore(states[0])
    rest.run()
    assert rest.curves == whole.curves


def test_batches_are_the_same_to_the_last_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    for channels in (1, 3):
        pixels = torch.randint(0, 256, (20, channels, 6, 5), generator=generator).byte()
        labels = torch.arange(20)
        offset, scale = torch.rand(2, channels, 1, 1, generator=generator)
        plain = training.Images(pixels, labels, pixels, labels, 90 * offset, scale)
        index = torch.randint(0, 20, (7, 2), generator=generator)
        for mine, other in zip(
            fused.FusedImages(**vars(plain)).batch(index), plain.batch(index), strict=True
        ):
            assert torch.equal(mine, other)
            assert mine.stride() == other.stride()


def test_a_run_that_diverges_is_found_to(digits: data.Dataset) -> None:
    runs = [Run(arm("conv-act"), 0)]
    wild = recipe(optimiser="sgd", learning_rate=1e6)
    (record,) = jobs.train(runs, wild, digits, CPU, "config", kind=FusedTrainer)
    assert record.status == "diverged"


def test_a_job_takes_them_and_its_records_say_so(one_thread: None, digits: data.Dataset) -> None:
    study = load_study("studies/quick.yaml", {"datasets": ["digits"], "epochs": 1, "seeds": 1})
    job = replace(study.jobs()[0], arms=study.jobs()[0].arms[:1])
    (record,) = jobs.train_job(study, job, digits)
    assert record.provenance.kernels == kernels.name()
    (record,) = jobs.train_job(replace(study, kernels="torch"), job, digits)
    assert record.provenance.kernels == "torch"


def test_they_are_for_one_core_float32_and_no_probes(one_thread: None) -> None:
    assert jobs.kernels_here(STUDY, CPU) == kernels.name()
    assert jobs.kernels_here(replace(STUDY, probes=True), CPU) == "torch"
    torch.set_num_threads(2)
    assert jobs.kernels_here(STUDY, CPU) == "torch"
    own = kernels.name()
    assert jobs.trainer_kind(CPU, False, own, recipe()) is FusedTrainer
    assert jobs.trainer_kind(CPU, False, own, recipe(precision="bf16")) is training.Trainer
    assert jobs.trainer_kind(CPU, True, own, recipe()) is ProbedTrainer


def test_other_kernels_leave_a_checkpoint_alone(tmp_path: Path, digits: data.Dataset) -> None:
    job = STUDY.jobs()[0]
    plain, own = (
        jobs.job_files(job, digits, CPU, tmp_path, "code", kernels_)
        for kernels_ in ("torch", kernels.name())
    )
    assert plain.identity != own.identity


def test_another_compiler_has_another_name(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = kernels.name()
    monkeypatch.setenv("CC", "cc -mno-avx")
    kernels.name.cache_clear()
    assert kernels.name() != usual
    monkeypatch.setenv("CC", str(fresh / "none"))
    kernels.name.cache_clear()
    with pytest.raises(kernels.Unavailable, match="no C compiler"):
        kernels.name()


def compiler(folder: Path, script: str) -> str:
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\n[ "$1" != --version ] || exit 0\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "no C compiler"),
        ("echo it is broken >&2; exit 1", "does not compile fused.c: it is broken"),
        ('for last; do :; done; : | cc -x c -shared - -o "$last"', "cannot be loaded"),
        ("exit 0", "cannot be loaded"),
        ('for last; do :; done; echo rubbish > "$last"', "cannot be loaded"),
        ('exec cc "$@" -Dpick_with=normalise_with', "does not compile"),
    ],
)
def test_without_a_compiler_training_is_pytorchs(
    script: str | None,
    said: str,
    fresh: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CC", compiler(fresh, script) if script else str(fresh / "none"))
    assert jobs.kernels_here(STUDY, CPU) == "torch"
    assert said in capsys.readouterr().out


def test_a_compiler_that_is_no_program_is_none(
    fresh: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = Path(compiler(fresh, ""))
    program.write_bytes(b"\x7fELF rubbish")
    monkeypatch.setenv("CC", str(program))
    assert jobs.kernels_here(STUDY, CPU) == "torch"
    assert "cannot be run" in capsys.readouterr().out


def test_without_a_place_for_what_is_compiled_training_is_pytorchs(
    fresh: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (fresh / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(fresh / "file"))
    assert jobs.kernels_here(STUDY, CPU) == "torch"
    assert "Not a directory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("right", "mistaken"),
    [
        ("1.0f / 6;", "1.0f / 5;"),  # an activation
        ("0.5f * (g0 + g2)", "0.4f * (g0 + g2)"),  # a convolution of many channels
        ("+ log(sum)", "- log(sum)"),  # the loss
        ("old2 * square[i] +", "square[i] +"),  # the optimiser
    ],
)
def test_kernels_that_compute_wrongly_are_found_out(
    right: str,
    mistaken: str,
    fresh: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = [fresh / source.name for source in kernels.SOURCES]
    for source, copy in zip(kernels.SOURCES, wrong, strict=True):
        copy.write_text(source.read_text().replace(right, mistaken))
    assert [copy.read_text() for copy in wrong] != [s.read_text() for s in kernels.SOURCES]
    monkeypatch.setattr(kernels, "SOURCES", tuple(wrong))
    assert jobs.kernels_here(STUDY, CPU) == "torch"
    assert "is wrong by" in capsys.readouterr().out


def test_what_was_compiled_is_used_again(fresh: Path) -> None:
    kernels.library()
    (file,) = fresh.glob("bnorder-kernels-*/*.so")
    made = file.stat().st_mtime_ns
    kernels.library.cache_clear()
    kernels.library()
    assert file.stat().st_mtime_ns == made


def test_what_was_compiled_and_cut_short_is_made_again(
    fresh: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    kernels.library()
    (file,) = fresh.glob("bnorder-kernels-*/*.so")
    shutil.rmtree(file.parent)
    kernels.library.cache_clear()
    monkeypatch.setattr("tempfile.tempdir", str(other))
    file = other / file.relative_to(fresh)  # a library is loaded but once from one path
    file.parent.mkdir()
    file.write_bytes(b"cut short")
    with pytest.raises(kernels.Unavailable):
        kernels.library()
    kernels.library()
    assert file.stat().st_size > 1000
