"""Training on one core with convolution, batch norm, activation and pooling in few passes.

torch goes over memory once or more for each layer; on a CPU that costs more than the arithmetic.
Here the layers between two convolutions are one function with a derivative of its own, computed by
fused.c, and so is the convolution that reads an image. Parameters, buffers and states stay
the network's own. This stands beside training.py and not inside it: what is computed is the same
network, only that its sums are taken in another order, as on another processor.
"""

import ctypes
import math
import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from bnorder import kernels, training
from bnorder.kernels import LANES, Activation, Coefficients, Group
from bnorder.network import Network

NONE = Activation(0, 0.0, 1.0)  # slope 1 left of zero: the identity
GROUP = re.compile("c?(a?b)?p?a?")  # letters of layers that one function can compute
TOLERANCE = 1e-4  # share of the true value; float32 leaves about a hundredth of it


class FusedTrainer(training.Trainer):
    """`Trainer`, whose network is fused."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.images = FusedImages(**vars(self.images))
        fuse(self.network)


class FusedImages(training.Images):
    """`Images`, whose batches are gathered and scaled in one pass, to the same last bit."""

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, replicas = index.shape
        _, channels, height, width = self.train_images.shape
        shape = (batch, replicas * channels, height, width)
        out = torch.empty(shape, memory_format=torch.channels_last)
        index = index.contiguous()
        kernels.library().take(
            *(_address(self.train_images), channels, height * width),
            *(_address(index), batch, replicas),
            *map(_address, (self.offset, self.scale, out)),
        )
        return out, self.train_labels[index].t()


@cache
def require() -> None:
    """Raise `kernels.Unavailable` where fused.c cannot be compiled or computes anything wrong."""
    kernels.library()
    found = max(disagreement(layers, size) for layers, size in _examples())
    if not found < TOLERANCE:
        raise kernels.Unavailable(f"what was compiled is wrong by {found:.1g} of the true value")


def _examples() -> list[tuple[list[nn.Module], int]]:
    """Groups of layers that take every way through fused.c, and the height of their images."""
    convolution = nn.Conv2d(2, 32, 3, padding=1, groups=2)
    return [
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


def _channels(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels
    return layer.num_features if isinstance(layer, nn.BatchNorm2d) else None


def _share(ours: torch.Tensor | None, exact: torch.Tensor | None) -> float:
    assert ours is not None and exact is not None
    difference = (ours.detach().cpu().double() - exact.detach()).abs().max()
    return float(difference / exact.detach().abs().max().clamp_min(1e-12))


def fuse(network: Network) -> None:
    """Let a network's body compute by fused.c what it can; its modules stay where they are."""
    network.body.forward = Body(network.body)  # type: ignore[method-assign]


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
    """c: a convolution of images; b, p, a: batch norm, pooling, activation; -: anything else."""
    if isinstance(layer, nn.Conv2d):
        return "c" if _reads_images(layer) else "-"
    if isinstance(layer, nn.BatchNorm2d):
        return "b"
    if isinstance(layer, nn.MaxPool2d):
        return "p"
    return "-" if activation(layer) is None else "a"


def _reads_images(layer: nn.Conv2d) -> bool:
    """Whether it reads one channel a replica and writes whole vectors of channels for each."""
    kernel, pad = layer.kernel_size[0], layer.kernel_size[0] // 2
    narrow = layer.in_channels == layer.groups and layer.stride == (1, 1)
    same_size = kernel % 2 == 1 and kernel <= LANES and layer.padding == (pad, pad)
    return narrow and same_size and layer.out_channels // layer.groups % LANES == 0


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
        if torch.is_inference_mode_enabled() and not self.layers[0].training:
            return self.infer(x)
        parameters: list[torch.Tensor | None] = []
        for part in (self.convolution, self.batch_norm):
            parameters += [None, None] if part is None else [part.weight, part.bias]
        y: torch.Tensor = Fused.apply(self, x, *parameters)
        return y

    def infer(self, x: torch.Tensor) -> torch.Tensor:
        """y where nobody will ask for a derivative and BN has its running statistics."""
        x = x.contiguous(memory_format=torch.channels_last)
        group, tile = self.group(x)
        taps, bias = self.weights(group)
        mean, variance = self.running_statistics(group.channels // tile)
        _, *affine = self.normalisation(mean, variance)
        y = self.empty_output(group.images, group.channels // tile, *x.shape[2:])
        room = 3 * group.height * group.width * group.channels + _scratch(group).numel()
        scale, shift = (_tiled(part, tile) for part in affine)
        arguments = (x, taps, bias, scale, shift, y, torch.empty(room))
        kernels.library().infer(ctypes.byref(group), *map(_address, arguments))
        return y

    def suits(self, x: torch.Tensor) -> bool:
        """Whether vectors of neighbouring channels come out even."""
        _, channels, height, width = x.shape
        if self.convolution or (self.pools and channels % LANES == 0):
            return min(height, width) > 1 or not self.pools
        return not self.pools and height * width * channels % math.lcm(channels, LANES) == 0

    def group(self, x: torch.Tensor) -> tuple[Group, int]:
        """What fused.c is told of x (n, channels, height, width), and the pixels in a vector.

        Fewer channels than fill a vector: several pixels pass for one of as many channels.
        """
        images, channels, height, width = x.shape
        if self.convolution:
            layer, tile = self.convolution, 1
            channels, convolved = layer.out_channels, (layer.groups, layer.kernel_size[0])
        else:
            tile, convolved = math.lcm(channels, LANES) // channels, (1, 0)
        if tile > 1:
            height, width, channels = height * width // tile, 1, channels * tile
        shape = (images, height, width, channels)
        return Group(*shape, *convolved, self.pools, self.act1, self.act2), tile

    def weights(self, group: Group) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The convolution's weights as taps (S, k * k, C), whose outputs are neighbours, and bias.

        Without a convolution nothing; without a bias zeros.
        """
        layer = self.convolution
        if layer is None:
            return None, None
        taps = layer.weight.detach().reshape(group.replicas, -1, group.kernel**2)
        bias = torch.zeros(group.channels) if layer.bias is None else layer.bias.detach()
        return taps.transpose(1, 2).contiguous(), bias

    def running_statistics(self, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """BN's running mean and variance; without BN those that change nothing."""
        layer = self.batch_norm
        if layer is None:
            return torch.zeros(channels), torch.ones(channels)
        assert layer.running_mean is not None and layer.running_var is not None
        return layer.running_mean, layer.running_var

    def normalisation(
        self, mean: torch.Tensor, variance: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """1 / standard deviation, and BN as scale * u + shift; without BN 1, 1 and 0."""
        layer = self.batch_norm
        if layer is None:
            return variance, variance, mean
        inverse = (variance + layer.eps).rsqrt()
        scale = layer.weight.detach() * inverse
        return inverse, scale, layer.bias.detach() - mean * scale

    def empty_output(self, images: int, channels: int, height: int, width: int) -> torch.Tensor:
        """Room for y of an x of this height and width."""
        if self.pools:
            height, width = height // 2, width // 2
        shape = (images, channels, height, width)
        return torch.empty(shape, memory_format=torch.channels_last)


class Fused(torch.autograd.Function):
    """A stage's arithmetic and its derivative."""

    @staticmethod
    def forward(
        ctx: Any, stage: Stage, x: torch.Tensor, *_parameters: torch.Tensor | None
    ) -> torch.Tensor:
        """y of x; the parameters, which the stage has, are named so that they get gradients."""
        x = x.contiguous(memory_format=torch.channels_last)
        group, tile = stage.group(x)
        taps, bias = stage.weights(group)
        u, found = _prepare(stage, group, x, taps, bias)
        if found is None:
            mean, variance = stage.running_statistics(u.shape[1])
        else:
            mean, variance = _moments(found, tile)
            _move_running_statistics(stage, mean, variance, u.numel() // u.shape[1])
        inverse, scale, shift = stage.normalisation(mean, variance)
        y, largest, where = _forward(stage, group, u, _tiled(scale, tile), _tiled(shift, tile))
        ctx.stage, ctx.by_batch = stage, found is not None
        saved = (None if stage.convolution is None else x, u, y, largest, where)
        ctx.save_for_backward(*saved, mean, inverse, scale, taps)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, u, y, largest, where, mean, inverse, scale, taps = ctx.saved_tensors
        stage: Stage = ctx.stage
        group, tile = stage.group(u if x is None else x)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        zeros = torch.zeros_like(mean)
        a, b, k, dgamma, dbeta = scale, zeros, zeros, None, None
        if stage.batch_norm is not None:
            normalised = u if largest is None else largest
            dbeta, products = _gradient_sums(group, tile, normalised, gradient, y, mean)
            dgamma = products * inverse
            if ctx.by_batch:
                count = -u.numel() / u.shape[1]
                b, k = scale * dbeta / count, scale * inverse * dgamma / count
        by = [_tiled(part, tile) for part in (mean, a, b, k)]
        asks = ctx.needs_input_grad[1]
        dx, dtaps, dbias = _backward(group, u, gradient, y, where, by, x, taps, asks)
        if stage.convolution is None:
            return None, dx, None, None, dgamma, dbeta
        dweight = dtaps.transpose(1, 2).reshape(stage.convolution.weight.shape)
        has_bias = stage.convolution.bias is not None
        return None, dx, dweight, dbias if has_bias else None, dgamma, dbeta


def _tiled(values: torch.Tensor, tile: int) -> torch.Tensor:
    """Values a channel (C,) as often as a vector's channels have them."""
    return values if tile == 1 else values.repeat(tile)


def _scratch(group: Group) -> torch.Tensor:
    """Zeros for one image and one image of u with their margins, where there is a convolution."""
    if not group.kernel:
        return torch.empty(0)
    margin = group.kernel - 1
    plane = (group.height + margin) * (group.width + margin)
    return torch.zeros(plane * (group.replicas + group.channels))


def _prepare(
    stage: Stage,
    group: Group,
    x: torch.Tensor,
    taps: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """u, and its mean and variance (2, channels) where batch norm asks for the batch's own."""
    u, layer = x, stage.batch_norm
    if stage.convolution is not None:
        shape = (group.images, group.channels, group.height, group.width)
        u = torch.empty(shape, memory_format=torch.channels_last)
    elif stage.act1 is not NONE:
        u = torch.empty_like(x)
    found = sums = mean = variance = None
    if layer is not None and layer.training:
        found = torch.empty(2, group.channels)
        mean, variance = found
        sums = torch.zeros(2, group.channels, dtype=torch.float64)
    if found is not None or u is not x:
        arguments = (x, taps, bias, u, sums, mean, variance, _scratch(group))
        kernels.library().prepare(ctypes.byref(group), *map(_address, arguments))
    return u, found


def _moments(found: torch.Tensor, tile: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch's mean and biased variance of each channel, of those of each channel and pixel."""
    mean, variance = found
    if tile == 1:
        return mean, variance
    means, variances = found.view(2, tile, -1)
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def _move_running_statistics(
    stage: Stage, mean: torch.Tensor, variance: torch.Tensor, count: int
) -> None:
    """As PyTorch's BN does it: an average over batches, of the unbiased variance."""
    layer = stage.batch_norm
    assert layer is not None and layer.num_batches_tracked is not None
    running_mean, running_variance = stage.running_statistics(len(mean))
    momentum: Any = layer.momentum
    running_mean.lerp_(mean, momentum)
    running_variance.lerp_(variance * (count / (count - 1)), momentum)
    layer.num_batches_tracked += 1


def _forward(
    stage: Stage, group: Group, u: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """y, and where the stage pools which u was the largest and its place in the window."""
    y, largest, where = stage.empty_output(*u.shape), None, None
    if stage.pools:
        largest, where = torch.empty_like(y), torch.empty_like(y, dtype=torch.uint8)
    arguments = (u, scale, shift, y, largest, where)
    kernels.library().forward(ctypes.byref(group), *map(_address, arguments))
    return y, largest, where


def _gradient_sums(
    group: Group,
    tile: int,
    u: torch.Tensor,
    gradient: torch.Tensor,
    y: torch.Tensor,
    mean: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sums of dz and of dz * (u - mean) in each channel, dz the gradient before act2."""
    sums = torch.zeros(2, group.channels, dtype=torch.float64)
    arguments = (u, gradient, y, _tiled(mean, tile), sums)
    rows = y.numel() // group.channels
    kernels.library().gradient_sums(ctypes.byref(group), rows, *map(_address, arguments))
    dbeta, products = (sums if tile == 1 else sums.view(2, tile, -1).sum(1)).float()
    return dbeta, products


def _backward(
    group: Group,
    u: torch.Tensor,
    gradient: torch.Tensor,
    y: torch.Tensor,
    where: torch.Tensor | None,
    by: Sequence[torch.Tensor],
    x: torch.Tensor | None,
    taps: torch.Tensor | None,
    asks: bool,
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """The gradients by x (if asked for), taps and bias; the latter two mean nothing without x."""
    dx = torch.empty_like(u) if x is None else torch.zeros_like(x) if asks else None
    dtaps = torch.zeros(() if taps is None else taps.shape)
    dbias = torch.zeros(group.channels)
    coefficients = ctypes.byref(Coefficients(*map(_address, by)))
    tensors = (x, taps, dx, dtaps, dbias, _scratch(group))
    before = map(_address, (u, gradient, y, where))
    kernels.library().backward(ctypes.byref(group), *before, coefficients, *map(_address, tensors))
    return dx, dtaps, dbias


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
