"""Training on one core with convolution, batch norm, activation and pooling in few passes.

torch goes over memory once or more for each layer; on a CPU that costs more than the arithmetic.
Here a convolution and the layers up to the next one are one function with a derivative of its own,
computed by fused.c, and so are classifier and loss. Parameters, buffers and states stay the
network's own. This stands beside training.py and not inside it: what is computed is the same
network, only that its sums are taken in another order, as on another processor.
"""

import ctypes
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from bnorder import kernels, training
from bnorder.data import Dataset
from bnorder.kernels import LANES, Activation, BatchNorm, Classifier, Group
from bnorder.network import Network
from bnorder.optimiser import BETA1, BETA2, EPS, Adam, _take_gradients
from bnorder.study import Arm, Recipe

NONE = Activation(0, 0.0, 1.0)  # slope 1 left of zero: the identity
GROUP = re.compile("c?(a?b)?p?a?")  # letters of layers that one function can compute
TOLERANCE = 1e-4  # share of the true value; float32 leaves about a hundredth of it


class FusedTrainer(training.Trainer):
    """`Trainer`, whose network is fused, and its optimiser and batches with it."""

    def __init__(self, arm: Arm, recipe: Recipe, dataset: Dataset, *others: Any) -> None:
        unscaled = replace(recipe, scaling="unit")  # which looks at no pixel
        super().__init__(arm, unscaled, dataset, *others)
        self.recipe = recipe
        fuse(self.network)
        first = self.network.body[0]
        planar = isinstance(first, nn.Conv2d) and _reads_one_channel(first)
        self.images = FusedImages(**vars(_placed(dataset, recipe, self.device)), planar=planar)
        if recipe.optimiser == "adam":
            self.optimiser = FusedAdam(list(self.network.parameters()), recipe.weight_decay)

    def losses(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropy and correct answers of each replica, (S,) each."""
        losses, correct = CrossEntropy.apply(self.network(images), labels)
        return losses, correct

    def _train_step(self, index: torch.Tensor, step: int, tally: training.Tally) -> None:
        losses, correct = self.losses(*self.images.batch(index))
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step(self._learning_rate(step))
        tally.losses.append(losses.detach())
        tally.correct.append(correct)


@lru_cache(maxsize=1)
def _placed(dataset: Dataset, recipe: Recipe, device: torch.device) -> training.Images:
    """As `training.place`; once for all arms of a job, for it looks at every pixel."""
    return training.place(dataset, recipe, device)


class FusedAdam(Adam):
    """`Adam`, whose step is one call for all parameters."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        sizes = [parameter.numel() for parameter in self.parameters]
        self.counts = (ctypes.c_int64 * len(sizes))(*sizes)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        tensors = (self.parameters, _take_gradients(self.parameters), self.means, self.squares)
        kernels.library().adam(
            *(len(self.counts), self.counts),
            *map(_addresses, (*tensors, self.steps)),
            *(learning_rate, BETA1, BETA2, EPS, self.weight_decay),
        )


@dataclass(frozen=True)
class FusedImages(training.Images):
    """`Images`, whose batches are gathered and scaled in one pass, to the same last bit.

    planar: with a plane for each channel, not channels last.
    """

    planar: bool = False

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._take(self.train_images, index), self.train_labels[index].t()

    def test_batches(self, replicas: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        every = torch.arange(len(self.test_labels))[:, None].expand(-1, replicas)
        for start in range(0, len(every), training.EVALUATION_BATCH):
            index = every[start : start + training.EVALUATION_BATCH]
            yield self._take(self.test_images, index), self.test_labels[index].t()

    def _take(self, images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        batch, replicas = index.shape
        _, channels, height, width = images.shape
        layout = torch.contiguous_format if self.planar else torch.channels_last
        out = torch.empty((batch, replicas * channels, height, width), memory_format=layout)
        index = index.contiguous()
        kernels.library().take(
            *(_address(images), channels, height * width),
            *(_address(index), batch, replicas),
            *(_address(self.offset), _address(self.scale), self.planar, _address(out)),
        )
        return out


@cache
def require() -> None:
    """Raise `kernels.Unavailable` where fused.c cannot be compiled or computes anything wrong."""
    kernels.library()
    found = [disagreement(layers, size) for layers, size in _examples()]
    found += [loss_disagreement(images=9, classes=11), adam_disagreement()]
    if not max(found) < TOLERANCE:
        raise kernels.Unavailable(f"what was compiled is wrong by {max(found):.1g} of the truth")


def _examples() -> list[tuple[list[nn.Module], int]]:
    """Groups of layers that take every way through fused.c, and the height of their images."""
    convolution = nn.Conv2d(2, 32, 3, padding=1, groups=2)
    wide = nn.Conv2d(32, 32, 3, padding=1, groups=2, bias=False)
    return [
        ([wide, nn.BatchNorm2d(32), nn.MaxPool2d(2), nn.ELU()], 7),
        ([nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()], 6),
        ([convolution, nn.ELU(), nn.BatchNorm2d(32), nn.MaxPool2d(2)], 9),
        ([nn.Conv2d(1, 16, 5, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 8),
        ([nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.LeakyReLU(0.1)], 7),
        ([nn.ReLU(), nn.BatchNorm2d(2), nn.ELU()], 8),
    ]


def disagreement(
    layers: Sequence[nn.Module],
    size: int,
    images: int = 8,
    kind: "type[Body] | None" = None,
    device: str = "cpu",
) -> float:
    """How far some layers are from the same in float64, as training and as evaluation have them.

    The greatest difference as a share of the greatest value, over outputs, gradients and buffers.
    kind: what computes the layers, on `device`; fused.c unless said.
    """
    generator = torch.Generator().manual_seed(size)
    exact = nn.Sequential(*(deepcopy(layer).double() for layer in layers))
    for parameter in exact.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    ours = deepcopy(exact).float().to(device).to(memory_format=torch.channels_last)
    channels = next(c for c in map(_channels, layers) if c)
    x = torch.randn(images, channels, size, size, generator=generator)
    mine, theirs = x.clone().to(device).requires_grad_(), x.double().requires_grad_()
    body = (kind or Body)(list(ours))
    y, expected = body(mine), exact(theirs)
    gradient = torch.randn(y.shape, generator=generator)
    y.backward(gradient.to(device))  # type: ignore[no-untyped-call]
    expected.backward(gradient.double())
    ours.eval(), exact.eval()
    with torch.inference_mode():
        evaluated = (body(x.to(device)), exact(x.double()))
    pairs = [(y, expected), (mine.grad, theirs.grad), evaluated]
    pairs += zip(ours.buffers(), exact.buffers(), strict=True)
    pairs += [(a.grad, b.grad) for a, b in zip(ours.parameters(), exact.parameters(), strict=True)]
    return max(_share(a, b) for a, b in pairs)


def loss_disagreement(images: int, classes: int, replicas: int = 2, size: int = 3) -> float:
    """As `disagreement`, of a classifier of features of `size` x `size` pixels, and its loss."""
    generator = torch.Generator().manual_seed(images)
    shapes = (
        (images, 16 * replicas, size, size),
        (replicas, classes, 16 * size**2),
        (replicas, 1, classes),
    )
    exact = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    ours = [t.detach().float().requires_grad_() for t in exact]
    features, weight, bias = (t.requires_grad_() for t in exact)
    labels = torch.randint(classes, (replicas, images), generator=generator)
    mine = Classify.apply(*ours)
    losses, correct = CrossEntropy.apply(mine, labels)
    flat = features.reshape(images, replicas, -1).transpose(0, 1)
    logits = torch.baddbmm(bias, flat, weight.transpose(1, 2))
    expected = training.cross_entropy(logits, labels)
    upstream = torch.arange(1.0, replicas + 1)
    losses.backward(upstream)
    expected.backward(upstream.double())  # type: ignore[no-untyped-call]
    right = (logits.argmax(2) == labels).sum(1)
    pairs: list[Any] = [(mine, logits), (losses, expected), (correct, right)]
    pairs += [(a.grad, b.grad) for a, b in zip(ours, exact, strict=True)]
    return max(_share(a, b) for a, b in pairs)


def adam_disagreement(steps: int = 3) -> float:
    """As `disagreement`, of what `FusedAdam` moves and keeps, from `Adam` in float64."""
    generator = torch.Generator().manual_seed(steps)
    start = [torch.randn(shape, generator=generator) for shape in ((3, 7), (40,))]
    ours = FusedAdam([nn.Parameter(part.clone()) for part in start], 0.1)
    exact = Adam([nn.Parameter(part.double()) for part in start], 0.1)
    for _ in range(steps):
        for mine, true in zip(ours.parameters, exact.parameters, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            true.grad = mine.grad.double()
        ours.step(0.01), exact.step(0.01)
    return max(
        _share(a, b)
        for kind in ("parameters", "means", "squares", "steps")
        for a, b in zip(getattr(ours, kind), getattr(exact, kind), strict=True)
    )


def _channels(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels
    return layer.num_features if isinstance(layer, nn.BatchNorm2d) else None


def _share(ours: torch.Tensor | None, exact: torch.Tensor | None) -> float:
    assert ours is not None and exact is not None
    difference = (ours.detach().cpu().double() - exact.detach()).abs().max()
    return float(difference / exact.detach().double().abs().max().clamp_min(1e-12))


def fuse(network: Network) -> None:
    """Let a network compute by fused.c what it can; its modules stay where they are."""
    network.forward = FusedNetwork(network)  # type: ignore[method-assign]


class FusedNetwork:
    """`Network.forward`."""

    def __init__(self, network: Network) -> None:
        self.body, self.weight, self.bias = self.fused(network.body), network.weight, network.bias
        self.global_average = network.global_average

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        features = self.body(images)
        if self.global_average:
            features = features.mean((2, 3), keepdim=True)
        if self.suits(features):
            return self.classify(features)
        features = features.reshape(len(images), len(self.weight), -1).transpose(0, 1)
        return torch.baddbmm(self.bias, features, self.weight.transpose(1, 2))

    def fused(self, layers: Iterable[nn.Module]) -> "Body":
        return Body(layers)

    def suits(self, features: torch.Tensor) -> bool:
        """Whether each replica's channels are whole vectors."""
        return features.shape[1] % (len(self.weight) * LANES) == 0

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = Classify.apply(features, self.weight, self.bias)
        return logits


class Classify(torch.autograd.Function):
    """Features (batch, S * C, height, width) to logits (S, batch, classes)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        x, weight = x.contiguous(memory_format=torch.channels_last), weight.contiguous()
        replicas, classes, features = weight.shape
        pixels = x.shape[2] * x.shape[3]
        ctx.shape = Classifier(len(x), pixels, features // pixels, replicas, classes)
        spread, logits = torch.empty_like(weight), torch.empty(replicas, len(x), classes)
        tensors = (x, weight, bias, spread, logits)
        kernels.library().classify(_pointer(ctx.shape), *map(_address, tensors))
        ctx.save_for_backward(x, spread)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, spread = ctx.saved_tensors
        dx, dweight, dspread = map(torch.empty_like, (x, spread, spread))
        dbias = torch.empty(len(spread), 1, spread.shape[1])
        tensors = (gradient.contiguous(), x, spread, dspread, dx, dweight, dbias)
        kernels.library().classify_back(_pointer(ctx.shape), *map(_address, tensors))
        return dx, dweight, dbias


class CrossEntropy(torch.autograd.Function):
    """Logits (S, batch, classes) and labels (S, batch) to mean losses and correct answers, (S,)."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        replicas, images, classes = logits.shape
        losses, correct = torch.empty(replicas), torch.empty(replicas, dtype=torch.int64)
        gradient = torch.empty_like(logits)
        tensors = (labels.contiguous(), logits.contiguous(), gradient, losses, correct)
        kernels.library().cross_entropy(replicas, images, classes, *map(_address, tensors))
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return losses, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None, None], None


class Body:
    """A body's layers as stages: groups of layers that go together, and modules that do not."""

    pattern = GROUP

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.stages = list(self.split(list(layers)))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            images = stage(images)
        return images

    def split(self, layers: Sequence[nn.Module]) -> Iterable[Any]:
        letters, start = "".join(map(letter, layers)), 0
        while start < len(layers):
            match = self.pattern.match(letters, start)
            end = match.end() if match else start
            yield self.group(layers[start:end]) if end > start else self.other(layers[start])
            start = max(end, start + 1)

    def group(self, layers: Sequence[nn.Module]) -> Any:
        """What computes layers whose letters the pattern matches."""
        return Stage(layers)

    def other(self, layer: nn.Module) -> Any:
        """What computes any other layer."""
        return layer


def letter(layer: nn.Module) -> str:
    """c: a convolution that fused.c has; b, p, a: BN, pooling, activation; -: anything else."""
    if isinstance(layer, nn.Conv2d):
        return "c" if _reads_one_channel(layer) or _is_wide(layer) else "-"
    if isinstance(layer, nn.BatchNorm2d):
        return "b"
    if isinstance(layer, nn.MaxPool2d):
        return "p"
    return "-" if activation(layer) is None else "a"


def _reads_one_channel(layer: nn.Conv2d) -> bool:
    """Whether each replica's convolution reads one channel, as of a grey image."""
    kernel = layer.kernel_size[0]
    return layer.in_channels == layer.groups and kernel <= LANES and _keeps_size(layer)


def _is_wide(layer: nn.Conv2d) -> bool:
    """Whether it is of 3 x 3 taps and reads whole vectors of channels for each replica."""
    inputs = layer.in_channels // layer.groups
    return inputs % LANES == 0 and layer.kernel_size == (3, 3) and _keeps_size(layer)


def _keeps_size(layer: nn.Conv2d) -> bool:
    """Whether it writes whole vectors of channels for each replica, a pixel for each pixel."""
    kernel, pad = layer.kernel_size[0], layer.kernel_size[0] // 2
    plain = layer.kernel_size == (kernel, kernel) and layer.dilation == layer.stride == (1, 1)
    same_size = plain and kernel % 2 == 1 and layer.padding == (pad, pad)
    return same_size and layer.out_channels // layer.groups % LANES == 0


def activation(layer: nn.Module) -> Activation | None:
    """A layer as fused.c and fused.cu have it; None where they do not."""
    if isinstance(layer, nn.ELU):
        return Activation(1, 1.0, 1.0)
    if isinstance(layer, nn.ReLU):
        return Activation(0, 0.0, 0.0)
    if isinstance(layer, nn.LeakyReLU):
        return Activation(0, 0.0, layer.negative_slope)
    return NONE if isinstance(layer, nn.Identity) else None


class Layers:
    """u = act1(convolution(x)), y = act2(pool(batch_norm(u))); every part may be missing."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = list(layers)
        self.convolution: nn.Conv2d | None = None
        self.batch_norm: nn.BatchNorm2d | None = None
        self.pools, self.act1, self.act2 = False, NONE, NONE
        has_batch_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                self.convolution = layer
            elif isinstance(layer, nn.BatchNorm2d):
                self.batch_norm = layer
            elif isinstance(layer, nn.MaxPool2d):
                self.pools = True
            elif has_batch_norm and self.batch_norm is None:
                self.act1 = activation(layer) or NONE
            else:
                self.act2 = activation(layer) or NONE


class Stage(Layers):
    """Layers as fused.c computes them."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """As the layers one after the other, which is how it goes where a shape does not suit."""
        if not self.suits(x):
            for layer in self.layers:
                x = layer(x)
            return x
        x = self.laid_out(x)
        if torch.is_inference_mode_enabled():
            return self.forward(x, *self.told(x), keeps=False)[0]
        parameters: list[torch.Tensor | None] = []
        for part in (self.convolution, self.batch_norm):
            parameters += [None, None] if part is None else [part.weight, part.bias]
        y: torch.Tensor = Fused.apply(self, x, *parameters)
        return y

    def laid_out(self, x: torch.Tensor) -> torch.Tensor:
        """x as fused.c reads it: channels last; images may have a plane for each channel."""
        layer = self.convolution
        may_be_planar = layer is not None and layer.in_channels == layer.groups
        if may_be_planar and _is_planar(x) and not x.requires_grad:
            return x
        return x.contiguous(memory_format=torch.channels_last)

    def suits(self, x: torch.Tensor) -> bool:
        """Whether vectors of neighbouring channels come out even."""
        _, channels, height, width = x.shape
        if self.convolution or (self.pools and channels % LANES == 0):
            return min(height, width) > 1 or not self.pools
        return not self.pools and height * width * channels % math.lcm(channels, LANES) == 0

    def told(self, x: torch.Tensor) -> tuple[Group, BatchNorm | None]:
        """What fused.c is told of the layers, and of x (n, channels, height, width).

        Fewer channels than fill a vector: several pixels pass for one of as many channels.
        """
        images, channels, height, width = x.shape
        tile, convolved = 1, (1, 1, 0, False)
        if self.convolution is not None:
            layer = self.convolution
            channels, inputs = layer.out_channels, layer.in_channels // layer.groups
            convolved = (layer.groups, inputs, layer.kernel_size[0], inputs == 1 and _is_planar(x))
        else:
            tile = math.lcm(channels, LANES) // channels
        if tile > 1:
            height, width, channels = height * width // tile, 1, channels * tile
        shape = (images, height, width, channels)
        return Group(*shape, *convolved, self.pools, self.act1, self.act2), self.norm(tile)

    def norm(self, tile: int) -> BatchNorm | None:
        """What fused.c is told of batch norm. tile: pixels that pass for one."""
        layer = self.batch_norm
        if layer is None:
            return None
        tensors = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        addresses = map(_address, (*tensors, layer.num_batches_tracked))
        return BatchNorm(tile, layer.training, *addresses, layer.eps, layer.momentum)

    def forward(
        self, x: torch.Tensor, group: Group, norm: BatchNorm | None, keeps: bool
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        """y, and if `keeps` what its derivative needs: u, statistics, largest and where."""
        layer = self.convolution
        shape = (len(x), x.shape[1] if layer is None else layer.out_channels, *x.shape[2:])
        by_batch = norm is not None and norm.by_batch
        u = largest = where = None
        if layer is None and self.act1 is NONE:
            u = x
        elif by_batch or (keeps and norm is not None):
            u = _empty(shape)
        y = _empty((*shape[:2], *(size // 2 for size in shape[2:])) if self.pools else shape)
        if self.pools and (by_batch or (keeps and norm is not None)):
            largest = torch.empty_like(y)
        if self.pools and keeps:
            where = torch.empty_like(y, dtype=torch.uint8)
        stats = torch.empty(4 * group.channels)
        weight, bias = (None, None) if layer is None else (_as_read(layer.weight), layer.bias)
        tensors = (x, weight, bias, u, stats, y, largest, where, _scratch(group))
        kernels.library().forward(_pointer(group), _pointer(norm), *map(_address, tensors))
        return y, (None if norm is None else u, stats, largest, where)


class Fused(torch.autograd.Function):
    """A stage's arithmetic and its derivative."""

    @staticmethod
    def forward(
        ctx: Any, stage: Stage, x: torch.Tensor, *parameters: torch.Tensor | None
    ) -> torch.Tensor:
        """y of x; the parameters, which the stage has, are named so that they get gradients."""
        ctx.stage, ctx.shape, (ctx.group, ctx.norm) = stage, x.shape, stage.told(x)
        y, kept = stage.forward(x, ctx.group, ctx.norm, keeps=True)
        read_again = (None, None) if stage.convolution is None else (x, parameters[0])
        ctx.save_for_backward(*read_again, y, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, y, u, stats, largest, where = ctx.saved_tensors
        layer, batch_norm = ctx.stage.convolution, ctx.stage.batch_norm
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        dx = _empty(ctx.shape) if ctx.needs_input_grad[1] else None
        dweight = dbias = dgamma = dbeta = None
        if layer is not None:
            weight, dbias = _as_read(weight), torch.empty(layer.out_channels)
            dweight = torch.empty_like(weight)
        if batch_norm is not None:
            dgamma, dbeta = torch.empty(2, batch_norm.num_features)
        before = (u, stats, gradient, y, largest, where, x, weight)
        tensors = (*before, dx, dweight, dbias, dgamma, dbeta, _scratch(ctx.group))
        pointers = (_pointer(ctx.group), _pointer(ctx.norm))
        kernels.library().backward(*pointers, *map(_address, tensors))
        if layer is not None and layer.bias is None:
            dbias = None
        return None, dx, dweight, dbias, dgamma, dbeta


def _empty(shape: Sequence[int]) -> torch.Tensor:
    return torch.empty(tuple(shape), memory_format=torch.channels_last)


def _is_planar(images: torch.Tensor) -> bool:
    """Whether each channel is a plane of neighbouring pixels."""
    return images.is_contiguous() and not images.is_contiguous(memory_format=torch.channels_last)


def _as_read(weight: torch.Tensor) -> torch.Tensor:
    """A convolution's weight as fused.c reads it, channels last."""
    return weight.detach().contiguous(memory_format=torch.channels_last)


def _scratch(group: Group) -> torch.Tensor:
    """Room for what fused.c keeps while it works."""
    return torch.empty(kernels.library().room(ctypes.byref(group)))


def _pointer(structure: ctypes.Structure | None) -> Any:
    return None if structure is None else ctypes.byref(structure)


def _addresses(tensors: Sequence[torch.Tensor]) -> Any:
    """An array of the addresses of some tensors."""
    return (ctypes.c_void_p * len(tensors))(*map(_address, tensors))


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
