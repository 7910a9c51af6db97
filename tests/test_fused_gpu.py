"""The GPU's kernels must give what the layers give: emulated on the CPU, and on a GPU if any."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bnorder import blocks, cuda, data, fused_gpu, jobs, kernels, training
from bnorder.blocks import Shape
from bnorder.captured import CapturedTrainer
from bnorder.fused import disagreement
from bnorder.fused_gpu import Body, Convolution, FusedCapturedTrainer, Group
from bnorder.network import Network
from bnorder.probing import ProbedTrainer
from bnorder.records import Record
from bnorder.study import Arm, Recipe, Run, load_study

COMPILER = shutil.which("gcc") or shutil.which("clang")
TRAP = ("-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error")  # as a GPU would
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
STUDY = load_study("studies/quick.yaml")
ORDERINGS = ["bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn", "conv-act", "bn-conv-act"]
ROUNDING = 1e-5  # share of the greatest value

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
pytestmark = pytest.mark.skipif(not COMPILER, reason="needs a C compiler")


class Emulated:
    """The kernels on a processor, by tests/cuda_on_cpu.h."""

    def __init__(self, file: Path, constants: dict[str, int]) -> None:
        command = [str(COMPILER), "-O1", "-w", *TRAP, "-x", "c", str(cuda.SOURCE), "-Itests"]
        command += [f"-D{name}={value}" for name, value in constants.items()]
        subprocess.run([*command, "-shared", "-fPIC", "-lm", "-o", str(file)], check=True)
        self.library = ctypes.CDLL(str(file))

    def launch(self, name: str, arguments: Any, blocks: int, replicas: int = 1) -> None:
        getattr(self.library, name)(ctypes.byref(arguments), blocks, replicas)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Emulated]:
    folder = tmp_path_factory.mktemp("emulated")

    @cache
    def load(**constants: int) -> Emulated:
        return Emulated(folder / f"{len(list(folder.iterdir()))}.so", constants)

    return load


@pytest.fixture(params=[CPU, pytest.param(CUDA, marks=no_gpu)], ids=lambda device: device.type)
def device(
    request: pytest.FixtureRequest,
    emulated: Callable[..., Emulated],
    monkeypatch: pytest.MonkeyPatch,
) -> torch.device:
    if request.param is CPU:
        monkeypatch.setattr(fused_gpu, "load", emulated)
    training.set_exactness(STUDY.recipe)
    found: torch.device = request.param
    return found


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


def arm(ordering: str = "conv-bn-act", activation: str = "relu", depth: int = 2) -> Arm:
    return Arm("digits", ordering, activation, depth, "base")


def recipe(**changes: object) -> Recipe:
    return replace(STUDY.recipe, **{"epochs": 1, "train_images": 128, "width": 8, **changes})


def convolution(
    replicas: int, channels: int = 1, width: int = 16, kernel: int = 3, bias: bool = False
) -> nn.Conv2d:
    inputs, outputs = channels * replicas, width * replicas
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=replicas, bias=bias)


LAYERS: dict[str, tuple[list[nn.Module], int]] = {
    "bn, pool, relu": ([nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ReLU()], 8),
    "bn, pool, elu, odd size": ([nn.BatchNorm2d(32), nn.MaxPool2d(2), nn.ELU()], 7),
    "elu, bn, pool": ([nn.ELU(), nn.BatchNorm2d(32), nn.MaxPool2d(2)], 8),
    "leaky, bn, leaky": ([nn.LeakyReLU(0.1), nn.BatchNorm2d(16), nn.LeakyReLU(0.3)], 6),
    "bn of an image": ([nn.BatchNorm2d(1), nn.ReLU()], 8),
    "bn of two replicas' images": ([nn.ReLU(), nn.BatchNorm2d(2)], 28),
    "twenty replicas": ([nn.ELU(), nn.BatchNorm2d(320), nn.MaxPool2d(2)], 4),
    "pool, elu without bn": ([convolution(2), nn.MaxPool2d(2), nn.ELU()], 9),
    "an image's convolution": ([convolution(2, bias=True), nn.ELU(), nn.BatchNorm2d(32)], 28),
    "a colour image's": ([convolution(2, channels=3, width=4), nn.BatchNorm2d(8)], 32),
    "sixteen channels": ([convolution(2, channels=16), nn.BatchNorm2d(32), nn.ReLU()], 14),
    "small images": ([convolution(3, channels=16), nn.ReLU(), nn.BatchNorm2d(48)], 7),
    "in bands": ([convolution(1, channels=16, bias=True), nn.ReLU()], 28),
    "kernel of 5": ([convolution(2, channels=4, width=8, kernel=5), nn.BatchNorm2d(16)], 11),
    "kernel of 1": ([convolution(2, channels=8, width=12, kernel=1, bias=True)], 6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_with_float64(name: str, device: torch.device) -> None:
    layers, size = LAYERS[name]
    stages = Body(layers).stages
    assert all(isinstance(stage, Group | Convolution) for stage in stages)
    images = 5 if size > 14 else 8
    found = disagreement(layers, size, images, kind=Body, device=device.type)
    assert found < ROUNDING


@pytest.mark.parametrize("layers", [[nn.BatchNorm2d(1100), nn.ReLU()], [nn.Conv2d(4, 6, 3)]])
def test_layers_that_do_not_suit_are_left_to_torch(
    layers: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(**constants: int) -> None:
        raise AssertionError(constants)

    monkeypatch.setattr(fused_gpu, "load", load)
    channels = 1100 if len(layers) == 2 else 4
    x = torch.randn(3, channels, 5, 5)
    torch.testing.assert_close(Body(layers)(x), nn.Sequential(*layers)(x))


def test_numbers_are_counted_in_32_bits() -> None:
    assert fused_gpu._countable(torch.empty(2**31 - 1, device="meta"))
    assert not fused_gpu._countable(torch.empty(2**31, device="meta"))
    assert not fused_gpu._countable(torch.empty(1), 2**31)


def test_what_is_held_to_float64_at_each_start_agrees(device: torch.device) -> None:
    for layers, size in fused_gpu._examples():
        assert disagreement(layers, size, kind=Body, device=device.type) < ROUNDING


@pytest.mark.parametrize(
    "shape",
    [Shape(1, 16, 9, 9, 3), Shape(16, 16, 7, 7, 3), Shape(4, 8, 28, 26, 3), Shape(1, 8, 6, 6, 5)],
    ids=str,
)
def test_a_convolution_reads_nothing_beyond_its_images(shape: Shape, device: torch.device) -> None:
    images, replicas = 5, 2  # no multiple of what a block has
    x, dy = (
        in_a_sea_of_nan(images, replicas * channels, shape, device)
        for channels in (shape.inputs, shape.outputs)
    )
    size = (replicas * shape.outputs, shape.inputs, shape.side, shape.side)
    weight = torch.randn(size, device=device)
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    y = nn.functional.conv2d(*leaves, padding=shape.side // 2, groups=replicas)
    y.backward(dy)
    found = [
        fused_gpu._convolve(shape, replicas, x, weight),
        fused_gpu._convolve(shape.turned, replicas, dy, weight, flip=True),
        fused_gpu._weight_gradient(shape, replicas, x, dy, weight),
    ]
    for mine, other in zip(found, [y, *(leaf.grad for leaf in leaves)], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def in_a_sea_of_nan(images: int, channels: int, shape: Shape, device: torch.device) -> torch.Tensor:
    """Random images, with neighbours in memory that are no numbers."""
    size = (images + 6, channels, shape.height, shape.width)
    sea = torch.full(size, float("nan"), device=device).to(memory_format=torch.channels_last)
    sea[3:-3] = torch.randn(images, *size[1:], device=device)
    return sea[3:-3]


def test_a_derivative_with_running_statistics_is_torchs(device: torch.device) -> None:
    layers = nn.Sequential(nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.ELU()).to(device)
    layers(torch.randn(9, 8, 6, 6, device=device) + 1)  # moves the statistics
    layers.eval()
    x = torch.randn(5, 8, 6, 6, device=device)
    found = []
    for layer in (layers, Body(list(layers))):
        layers.zero_grad()
        leaf = x.clone().requires_grad_()
        layer(leaf).square().sum().backward()
        found.append([leaf.grad, *(p.grad.clone() for p in layers.parameters())])  # type: ignore[union-attr]
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "size", "classes", "images"), [(16, 7, 10, 13), (20, 9, 4, 5), (48, 7, 10, 9)]
)
def test_a_classifier_agrees_with_float64(
    channels: int, size: int, classes: int, images: int, device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(classes)
    shapes = ((images, 2 * channels, size, size), (2, classes, channels * size**2), (2, 1, classes))
    exact = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    ours = [tensor.float().to(device).requires_grad_() for tensor in exact]
    for tensor in exact:
        tensor.requires_grad_()
    logits = fused_gpu.Classify.apply(*ours)
    features = exact[0].reshape(images, 2, -1).transpose(0, 1)
    expected = torch.baddbmm(exact[2], features, exact[1].transpose(1, 2))
    gradient = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    logits.backward(gradient.float().to(device))
    expected.backward(gradient)
    pairs = [(logits, expected)]
    pairs += [(mine.grad, other.grad) for mine, other in zip(ours, exact, strict=True)]
    for mine, other in pairs:
        assert mine is not None and other is not None
        difference = (mine.detach().cpu().double() - other.detach()).abs().max()
        assert difference < ROUNDING * other.abs().max()


@pytest.mark.parametrize(("classes", "suits"), [(10, True), (33, False)])
def test_many_classes_are_left_to_torch(
    classes: int, suits: bool, device: torch.device, digits: data.Dataset
) -> None:
    network = Network(arm(), recipe(), digits.shape, classes, [3, 7]).to(device)
    network.eval()  # the same numbers twice
    images = torch.randn(5, 2, *digits.shape[1:], device=device)
    expected = network(images)
    ours = fused_gpu.Fused(network)
    assert ours.suits(network.body(images)) is suits
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-5)


def trained(
    kind: type[training.Trainer],
    where: Arm,
    digits: data.Dataset,
    device: torch.device,
    **changes: Any,
) -> list[Record]:
    settings = recipe(**changes)
    runs = [Run(where, seed) for seed in (3, 7)]
    return jobs.train(runs, settings, digits, device, "config", kind=kind)


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_run_is_the_plain_run_but_for_rounding(
    ordering: str, optimiser: str, device: torch.device, digits: data.Dataset
) -> None:
    changes = {"optimiser": optimiser, "conv_bias": optimiser == "sgd"}
    ours = trained(FusedCapturedTrainer, arm(ordering, "elu"), digits, device, **changes)
    plain = trained(CapturedTrainer, arm(ordering, "elu"), digits, device, **changes)
    for mine, other in zip(ours, plain, strict=True):
        assert len(mine.curve) == len(other.curve) > 3
        for a, b in zip(mine.curve, other.curve, strict=True):
            assert a.test_loss == pytest.approx(b.test_loss, rel=1e-4)
            assert (a.step, a.train_seen) == (b.step, b.train_seen)
            assert abs(a.train_correct - b.train_correct) <= 1
            assert (a.train_loss or 0) == pytest.approx(b.train_loss or 0, rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "global_average"},
        {"stem": "conv", "final_norm_act": True},
        {"downsampling": "stride"},
        {"downsampling": "average_pool"},
        {"kernel": 5, "width": 4},
        {"width": 6},
        {"schedule": "cosine"},
    ],
    ids=str,
)
def test_other_recipes_are_the_plain_runs_too(
    changes: dict[str, Any], device: torch.device, digits: data.Dataset
) -> None:
    where = arm("conv-bn-act", "relu")
    ours, plain = (
        trained(kind, where, digits, device, **changes)[0].curve[-1]
        for kind in (FusedCapturedTrainer, CapturedTrainer)
    )
    assert ours.test_loss == pytest.approx(plain.test_loss, rel=1e-4)


def test_two_runs_are_the_same_bit_for_bit(device: torch.device, digits: data.Dataset) -> None:
    where = arm("conv-act-bn", "elu")
    first, second = (trained(FusedCapturedTrainer, where, digits, device) for _ in range(2))
    assert [record.curve for record in first] == [record.curve for record in second]


def test_a_killed_run_goes_on_bit_for_bit(
    device: torch.device, digits: data.Dataset, tmp_path: Path
) -> None:
    settings = recipe(epochs=3)
    make = partial(FusedCapturedTrainer, arm(), settings, digits, [3, 7], device)
    whole, states = make(), list[Any]()
    whole.run(at_epoch_end=lambda: states.append(saved(whole, tmp_path)))
    rest = make()
    rest.restore(states[0])
    rest.run()
    assert rest.curves == whole.curves


def saved(trainer: training.Trainer, folder: Path) -> Any:
    """A trainer's state as a checkpoint keeps it."""
    file = folder / "state.pt"
    torch.save(trainer.state(), file)
    return torch.load(file, map_location="cpu")


def test_what_is_not_a_number_stays_one_and_ends_the_run(
    device: torch.device, digits: data.Dataset
) -> None:
    wild = {"learning_rate": 99.0, "optimiser": "sgd", "epochs": 2}
    ours = trained(FusedCapturedTrainer, arm("conv-act", "identity"), digits, device, **wild)
    plain = trained(CapturedTrainer, arm("conv-act", "identity"), digits, device, **wild)
    assert [r.status for r in ours] == ["diverged", "diverged"]
    assert [r.diverged_step for r in ours] == [r.diverged_step for r in plain]


def test_a_loss_is_torchs_also_of_ties_and_of_what_is_no_number(
    device: torch.device, digits: data.Dataset
) -> None:
    trainer = FusedCapturedTrainer(arm(), recipe(), digits, [3, 7], device)
    plain = CapturedTrainer(arm(), recipe(), digits, [3, 7], device)
    logits = torch.randn(2, 300, 10, device=device)
    logits[0, 0, 3] = logits[0, 0].max() + 1
    logits[0, 0, 5] = logits[0, 0, 3]  # the first of equals is the answer
    logits[1, 7, 2] = float("nan")
    labels = logits.argmax(2)
    found = []
    for each in (trainer, plain):
        each.position.fill_(1)
        leaf = logits.clone().requires_grad_()
        each._backward(leaf, labels)
        assert leaf.grad is not None
        found.append((leaf.grad, each.losses[1], each.correct[1]))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, equal_nan=True)
    assert found[0][2].tolist() == [300, 300]


@pytest.mark.parametrize("pixel", [(0, 0), (1, 1)])
def test_pooling_passes_on_what_is_no_number(pixel: tuple[int, int], device: torch.device) -> None:
    x = torch.randn(2, 8, 4, 4, device=device)
    x[0, 3, *pixel] = float("nan")
    layers = [nn.MaxPool2d(2), nn.ReLU()]
    y = Body(layers)(x)
    assert y.isnan().nonzero().tolist() == [[0, 3, 0, 0]]
    torch.testing.assert_close(y, nn.Sequential(*layers)(x), equal_nan=True)


def test_a_batch_has_the_bits_of_the_plain_one(device: torch.device, digits: data.Dataset) -> None:
    plain = training.place(digits, recipe(), device)
    ours = fused_gpu.FusedImages(**vars(plain))
    index = torch.randint(0, 128, (9, 3), device=device)
    for mine, other in zip(ours.batch(index), plain.batch(index), strict=True):
        assert torch.equal(mine, other)
    for number in (0, 1):
        mine, other = (
            torch.cat([part[number] for part in images.test_batches(2)], dim=number)
            for images in (ours, plain)
        )
        assert torch.equal(mine, other)


def test_an_optimiser_in_pieces_moves_as_the_whole_one(digits: data.Dataset) -> None:
    networks = [Network(arm(), recipe(), digits.shape, 10, [3]) for _ in range(2)]
    settings = recipe()
    whole = training.make_optimiser(networks[0], settings)
    pieces = fused_gpu.InPieces(list(networks[1].parameters()), settings)
    for step in range(3):
        for network in networks:
            generator = torch.Generator().manual_seed(step)
            for parameter in network.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        whole.step(1e-2)
        pieces.step(1e-2)
    for ours, other in zip(networks[1].parameters(), networks[0].parameters(), strict=True):
        assert torch.equal(ours, other)


@given(
    st.builds(
        Shape,
        inputs=st.sampled_from([1, 3, 4, 8, 16, 20, 32, 64]),
        outputs=st.sampled_from([4, 8, 12, 16, 32, 64]),
        height=st.integers(1, 64),
        width=st.integers(1, 64),
        side=st.sampled_from([1, 3, 5, 7]),
    )
)
def test_shapes_that_suit_fit_into_a_block(shape: Shape) -> None:
    if not shape.suits:
        return
    for side in (shape, shape.turned):
        images, found = side.convolving()
        pitch = (side.segments * side.segment + side.side - 1) | 1
        plane = -(-((side.height + side.side - 1) * pitch - 2) // 8) * 8 + 2
        weights = found["CHUNK"] * side.side**2 * side.outputs
        assert 4 * (images * found["CHUNK"] * plane + weights) <= 48 * 1024
        assert found["THREADS"] <= 1024 and side.inputs % found["CHUNK"] == 0
    images, found = shape.weighing()
    bands = -(-shape.height // found["BAND"])
    assert 4 * images * shape._floats(bands) <= 48 * 1024 and (images == 1 or bands == 1)
    assert found["THREADS"] >= shape.inputs * shape.outputs // 4


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_it_compiles_for_gpus_that_are_not_here(architecture: str) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="needs CUDA's compiler, as on Linux")
    shape = Shape(16, 16, 14, 14, 3)
    for constants in (
        shape.convolving()[1],
        shape.weighing()[1],
        {"THREADS": 256, "VECTOR": 4},
        {"THREADS": 256, "CLASSES": 10, "CHANNELS": 16, "PIXELS": 49, "ROOM": blocks.SHARED},
    ):
        assert cuda.compiled(architecture, tuple(sorted(constants.items())))[:4] == b"\x7fELF"


def test_what_does_not_compile_says_so() -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="needs CUDA's compiler, as on Linux")
    with pytest.raises(kernels.Unavailable, match=r"fused.cu does not compile for sm_90: .*error"):
        cuda.compiled("sm_90", (("CLASSES", 10),))


def test_code_is_compiled_once_a_machine_and_a_full_disk_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="needs CUDA's compiler, as on Linux")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    compiled, constants = list[str](), (("THREADS", 256), ("VECTOR", 4))

    def compile_(architecture: str, _: object) -> bytes:
        compiled.append(architecture)
        return b"code"

    monkeypatch.setattr(cuda, "compiled", compile_)
    assert [cuda._code(constants) for _ in range(2)] == [b"code", b"code"]
    assert compiled == ["sm_90"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cuda, "write_atomically", full)
    assert cuda._code((*constants, ("X", 1))) == b"code"
    assert len(compiled) == 2


def test_who_shares_the_work_out_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, found = cuda.name(), list[str]()

    def source_hash(paths: list[Path]) -> str:
        found.extend(path.name for path in paths)
        return "of other blocks"

    monkeypatch.setattr(cuda, "source_hash", source_hash)
    cuda.name.cache_clear()
    assert cuda.name() != usual and found == ["blocks.py", "fused_gpu.py"]
    cuda.name.cache_clear()


def test_they_are_for_a_gpu_float32_and_no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_gpu, "require", lambda: None)
    own = jobs.kernels_here(STUDY, CUDA)
    assert own == cuda.name() != kernels.name() and own.startswith("fused ")
    assert jobs.kernels_here(replace(STUDY, probes=True), CUDA) == "torch"
    assert jobs.kernels_here(replace(STUDY, kernels="torch"), CUDA) == "torch"
    assert jobs.trainer_kind(CUDA, False, own, recipe()) is FusedCapturedTrainer
    assert jobs.trainer_kind(CUDA, False, own, recipe(precision="tf32")) is CapturedTrainer
    assert jobs.trainer_kind(CUDA, False, "torch", recipe()) is CapturedTrainer
    assert jobs.trainer_kind(CUDA, True, own, recipe()) is ProbedTrainer


def test_kernels_that_compute_something_else_are_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fused_gpu.require.cache_clear()
    monkeypatch.setattr(fused_gpu, "_disagreement", lambda _: float("nan"))
    assert jobs.kernels_here(STUDY, CUDA) == "torch"
    assert "slower: what was compiled is wrong by nan of the true value" in capsys.readouterr().out


def test_a_record_says_which_kernels_it_had(device: torch.device, digits: data.Dataset) -> None:
    if device is CPU:
        pytest.skip("a CPU's records name the CPU's kernels; needs CUDA")
    (record, _) = trained(FusedCapturedTrainer, arm(), digits, device)
    assert record.provenance.kernels == cuda.name()
