"""Training on a GPU with convolutions of packed replicas, and what lies between, by fused.cu.

cuDNN computes a grouped convolution of few channels one replica after another. Here a block of
threads has some images of one replica; what lies between two convolutions is one function with a
derivative of its own. Parameters, buffers and states stay the network's own.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from bnorder import cuda, fused, training
from bnorder.blocks import SHARED, THREADS, Shape
from bnorder.captured import CapturedTrainer
from bnorder.fused import NONE, TOLERANCE, disagreement
from bnorder.kernels import Unavailable
from bnorder.network import Network
from bnorder.optimiser import _take_gradients, make_optimiser
from bnorder.study import Recipe

BESIDE = 8  # images of a block, or stripes of images, of the classifier's kernels
MOST_CLASSES = 32  # of which each thread has the sums
PIECE = 4096  # numbers of a parameter that an optimiser's block has
BLOCKS = 528  # that share a sum over a batch: four for each of a large GPU's processors
SHARES = 640  # blocks that share the gradient by weights: five for each such processor
EVALUATED = 2**28  # float32 numbers of a layer when many images are evaluated at once: 1 GiB
load = cuda.load


@cache
def require() -> None:
    """Raise `Unavailable` where fused.cu cannot be compiled or computes anything wrong."""
    with ThreadPoolExecutor() as pool:  # the compiler takes a second for each
        found = max(pool.map(_disagreement, _examples()))
    if not found < TOLERANCE:
        raise Unavailable(f"what was compiled is wrong by {found:.1g} of the true value")


def _disagreement(example: tuple[list[nn.Module], int]) -> float:
    return disagreement(*example, kind=Body, device="cuda")


def _examples() -> list[tuple[list[nn.Module], int]]:
    """Layers that take every way through fused.cu, of the shapes that MNIST's networks have."""
    first = nn.Conv2d(2, 32, 3, padding=1, groups=2, bias=False)
    second, third = (nn.Conv2d(32, 32, 3, padding=1, groups=2, bias=bias) for bias in (True, False))
    return [
        ([nn.BatchNorm2d(2), nn.LeakyReLU(0.1), first, nn.MaxPool2d(2), nn.ReLU()], 28),
        ([second, nn.ELU(), nn.BatchNorm2d(32), nn.MaxPool2d(2)], 14),
        ([third, nn.BatchNorm2d(32), nn.ReLU()], 7),
    ]


class FusedCapturedTrainer(CapturedTrainer):
    """`CapturedTrainer`, whose network is fused."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.images = FusedImages(**vars(self.images), at_once=self._evaluated_at_once())
        fuse(self.network)
        self.optimiser = InPieces(list(self.network.parameters()), self.recipe)

    def _evaluated_at_once(self) -> int:
        """Test images whose numbers after a convolution fill a GiB; few launches are worth more."""
        height, width = self.images.test_images.shape[2:]
        numbers = len(self.seeds) * self.recipe.width * height * width
        return max(training.EVALUATION_BATCH, EVALUATED // numbers)

    def _backward(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        replicas, images, classes = logits.shape
        dlogits = torch.empty_like(logits)
        arguments = _filled(
            "Loss",
            logits=logits,
            labels=labels.contiguous(),
            position=self.position,
            dlogits=dlogits,
            losses=self.losses,
            correct=self.correct,
            images=images,
        )
        constants = {"THREADS": THREADS, "CLASSES": classes, "CHANNELS": 1, "PIXELS": 1}
        load(ROOM=SHARED, **constants).launch("cross_entropy", arguments, replicas)
        logits.backward(dlogits)  # type: ignore[no-untyped-call]


class InPieces:
    """An optimiser whose kernel gets its tensors in pieces.

    It has one block of threads for 65,536 numbers of a tensor, and so few for a whole network.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], recipe: Recipe) -> None:
        self.whole = list(parameters)
        self.pieces = nn.ParameterList(_pieces([parameter.detach() for parameter in parameters]))
        self.optimiser = make_optimiser(self.pieces, recipe)

    def step(self, learning_rate: float) -> None:
        gradients = _pieces(_take_gradients(self.whole))
        for piece, gradient in zip(self.pieces, gradients, strict=True):
            piece.grad = gradient
        self.optimiser.step(learning_rate)

    def state(self) -> dict[str, Any]:
        return self.optimiser.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.optimiser.restore(state)


def _pieces(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The numbers of dense tensors in the order in which they lie, a few thousand at a time."""
    flat = (tensor.as_strided((tensor.numel(),), (1,)) for tensor in tensors)
    return [piece for numbers in flat for piece in torch.split(numbers, PIECE)]


@dataclass(frozen=True)
class FusedImages(training.Images):
    """`Images`, whose batches are gathered and scaled in one pass, to the same last bit."""

    at_once: int = training.EVALUATION_BATCH  # test images

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._take(self.train_images, self.train_labels, index)

    def test_batches(self, replicas: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        every = torch.arange(len(self.test_labels), device=self.test_labels.device)
        for part in torch.split(every, self.at_once):
            index = part[:, None].expand(-1, replicas)
            yield self._take(self.test_images, self.test_labels, index)

    def _take(
        self, images: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (batch, S * channels, h, w) and labels (S, batch) of index (batch, S)."""
        batch, replicas = index.shape
        _, channels, height, width = images.shape
        x = _empty((batch, replicas * channels, height, width), index.device)
        taken = torch.empty((replicas, batch), dtype=torch.int64, device=index.device)
        arguments = _filled(
            "Take",
            images=images,
            labels=labels,
            index=index.contiguous(),
            offset=self.offset,
            scale=self.scale,
            x=x,
            labels_taken=taken,
            batch=batch,
            replicas=replicas,
            channels=channels,
            pixels=height * width,
        )
        _elementwise("take", arguments, x.numel(), vector=1)
        return x, taken


def fuse(network: Network) -> None:
    """Let a network's body compute by fused.cu what it can; its modules stay where they are."""
    network.forward = Fused(network)  # type: ignore[method-assign]


class Fused(fused.FusedNetwork):
    """`Network.forward`."""

    def fused(self, layers: Iterable[nn.Module]) -> "Body":
        return Body(layers)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = Classify.apply(features, self.weight, self.bias)
        return logits

    def suits(self, features: torch.Tensor) -> bool:
        """Whether blocks have room for the classifier: for a pixel's weights, and threads' sums."""
        replicas, classes, _ = self.weight.shape
        pixel = classes * (features.shape[1] // replicas + 1)
        return classes <= MOST_CLASSES and pixel <= SHARED and _countable(features)


class Classify(torch.autograd.Function):
    """Features (batch, S * C, height, width) to logits (S, batch, classes)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight, bias)
        replicas, classes, _ = weight.shape
        logits = torch.empty((replicas, len(x), classes), device=x.device)
        _classifier("classify", -(-len(x) // BESIDE), x, weight, bias=bias, logits=logits)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dlogits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, weight, bias = ctx.saved_tensors
        dlogits = dlogits.contiguous()
        dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
        _classifier("unclassify", -(-len(x) // BESIDE), x, weight, dlogits=dlogits, dx=dx)
        blocks = -(-weight.shape[2] // (THREADS // BESIDE))
        gradients = {"dweight": dweight, "dbias": dbias}
        _classifier("classifier_gradient", blocks, x, weight, dlogits=dlogits, **gradients)
        return dx, dweight, dbias


def _classifier(
    name: str, blocks: int, x: torch.Tensor, weight: torch.Tensor, **fields: torch.Tensor
) -> None:
    replicas, classes, features = weight.shape
    pixels = x.shape[2] * x.shape[3]
    constants = {"CLASSES": classes, "CHANNELS": features // pixels, "PIXELS": pixels}
    arguments = _filled(
        "Classifier", x=x, weight=weight, images=len(x), replicas=replicas, **fields
    )
    load(THREADS=THREADS, ROOM=SHARED, **constants).launch(name, arguments, blocks, replicas)


class Body(fused.Body):
    """A body's layers as stages that fused.cu computes, and modules that it does not."""

    pattern = re.compile("(a?b)?p?a?")

    def group(self, layers: Sequence[nn.Module]) -> Any:
        return Group(layers)

    def other(self, layer: nn.Module) -> Any:
        return Convolution(layer) if isinstance(layer, nn.Conv2d) else layer


# ---- convolutions ----


class Convolution:
    """A convolution as fused.cu computes it, where it can."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        shape = self.shape(x)
        same_size = layer.stride == (1, 1) and layer.padding == (shape.side // 2,) * 2
        outputs = x[:, :1].numel() * layer.out_channels
        if not same_size or not shape.suits or not _countable(x, outputs):
            return layer(x)  # type: ignore[no-any-return]
        y: torch.Tensor = Convolve.apply(shape, layer.groups, x, layer.weight, layer.bias)
        return y

    def shape(self, x: torch.Tensor) -> Shape:
        layer, groups = self.layer, self.layer.groups
        channels = layer.in_channels // groups, layer.out_channels // groups
        return Shape(*channels, x.shape[2], x.shape[3], layer.kernel_size[0])


class Convolve(torch.autograd.Function):
    """A packed convolution and its derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        shape: Shape,
        replicas: int,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.shape, ctx.replicas, ctx.has_bias = shape, replicas, bias is not None
        ctx.save_for_backward(x, weight)
        return _convolve(shape, replicas, x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = dbias = None
        if ctx.needs_input_grad[2]:
            dx = _convolve(ctx.shape.turned, ctx.replicas, dy, weight, flip=True)
        if ctx.has_bias:
            dbias = dy.sum((0, 2, 3))
        return None, None, dx, _weight_gradient(ctx.shape, ctx.replicas, x, dy, weight), dbias


def _convolve(
    shape: Shape,
    replicas: int,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    flip: bool = False,
) -> torch.Tensor:
    y = _empty((len(x), replicas * shape.outputs, shape.height, shape.width), x.device)
    images, constants = shape.convolving()
    arguments = _filled(
        "Convolution",
        x=x,
        weight=weight,
        bias=bias,
        y=y,
        images=len(x),
        replicas=replicas,
        flip=flip,
        **_strides(weight),
    )
    load(**constants).launch("convolve", arguments, -(-len(x) // images), replicas)
    return y


def _weight_gradient(
    shape: Shape, replicas: int, x: torch.Tensor, dy: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    images, constants = shape.weighing()
    parts = -(-len(x) // images) * -(-shape.height // constants["BAND"])
    each = -(-parts * replicas // SHARES)
    blocks = -(-parts // each)
    partial = torch.empty((blocks, weight.numel()), device=x.device)
    arguments = _filled(
        "WeightGradient", x=x, dy=dy, partial=partial, images=len(x), replicas=replicas
    )
    load(**constants).launch("weight_gradient", arguments, blocks, replicas)
    gradient = torch.empty_like(weight)
    arguments = _filled(
        "AddPartials",
        partial=partial,
        gradient=gradient,
        blocks=blocks,
        outputs=replicas * shape.outputs,
        inputs=shape.inputs,
        taps=shape.side**2,
        side=shape.side,
        **_strides(weight),
    )
    _elementwise("add_partials", arguments, weight.numel(), vector=1)
    return gradient


def _strides(weight: torch.Tensor) -> dict[str, int]:
    names = ("w_out", "w_in", "w_row", "w_column")
    return dict(zip(names, weight.stride(), strict=True))


# ---- what lies between convolutions ----


class Group(fused.Layers):
    """v = act1(u), y = act2(pool(batch_norm(v))), as fused.cu computes it."""

    def __call__(self, u: torch.Tensor) -> torch.Tensor:
        too_wide = u.shape[1] // _vector(u) > THREADS
        if too_wide or (self.pools and min(u.shape[2:]) < 2) or not _countable(u):
            for layer in self.layers:
                u = layer(u)
            return u
        norm = self.batch_norm
        parameters = (None, None) if norm is None else (norm.weight, norm.bias)
        keep = torch.is_grad_enabled()
        y: torch.Tensor = Apply.apply(self, keep, u, *parameters)
        return y

    def shape(self, u: torch.Tensor) -> dict[str, int]:
        images, channels, height, width = u.shape
        return {"images": images, "channels": channels, "height": height, "width": width}


class Apply(torch.autograd.Function):
    """A group's arithmetic and its derivative."""

    @staticmethod
    def forward(
        ctx: Any, group: Group, keep: bool, u: torch.Tensor, *_parameters: torch.Tensor | None
    ) -> torch.Tensor:
        """y of u, and what the derivative asks for if it shall be kept.

        The parameters, which the group has, are named so that they get gradients.
        """
        u = u.contiguous(memory_format=torch.channels_last)
        found = None if group.batch_norm is None else _statistics(group, group.batch_norm, u)
        size = [length // 2 for length in u.shape[2:]] if group.pools else u.shape[2:]
        y, where, largest = _empty((*u.shape[:2], *size), u.device), None, None
        if group.pools and keep:
            where = torch.empty_like(y, dtype=torch.uint8)
            largest = None if found is None else torch.empty_like(y)
        scale, shift = (None, None) if found is None else found[2:]
        arguments = _filled(
            "Forward",
            u=u,
            scale=scale,
            shift=shift,
            y=y,
            largest=largest,
            where=where,
            pooled=group.pools,
            act1=group.act1,
            act2=group.act2,
            **group.shape(u),
        )
        _elementwise("forward", arguments, y.numel(), _vector(u))
        ctx.group = group
        ctx.by_batch = group.batch_norm is not None and group.batch_norm.training
        ctx.save_for_backward(u, y, where, largest, found)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[Any, ...]:
        u, y, where, largest, found = ctx.saved_tensors
        group: Group = ctx.group
        dy = dy.contiguous(memory_format=torch.channels_last)
        mean = scale = None
        settled = (None,) * 4
        if found is not None:
            mean, scale = found[0], found[2]
            settled = _gradients(group, u, y, dy, largest, found, ctx.by_batch)
        dgamma, dbeta, b, k = settled
        du = None
        if ctx.needs_input_grad[2]:
            du = torch.empty_like(u)
            arguments = _filled(
                "Backward",
                u=None if found is None else u,
                y=y,
                dy=dy,
                mean=mean,
                scale=scale,
                b=b,
                k=k,
                where=where,
                du=du,
                act1=group.act1,
                act2=group.act2,
                **group.shape(u),
            )
            _elementwise("backward", arguments, u.numel(), _vector(u))
        return None, None, du, dgamma, dbeta


def _statistics(group: Group, layer: nn.BatchNorm2d, u: torch.Tensor) -> torch.Tensor:
    """Mean, 1 / standard deviation, scale and shift (4, channels); moves the running statistics."""
    channels, rows = u.shape[1], u.numel() // u.shape[1]
    found, partial, blocks = torch.empty((4, channels), device=u.device), None, 0
    if layer.training:
        blocks = _blocks(rows, channels, _vector(u))
        partial = torch.empty((blocks, 2, channels), dtype=torch.float64, device=u.device)
        arguments = _filled(
            "Sums", u=u, partial=partial, rows=rows, channels=channels, act1=group.act1
        )
        _others(_vector(u)).launch("moments", arguments, blocks)
    arguments = _filled(
        "Settle",
        partial=partial,
        u=u,
        gamma=layer.weight,
        beta=layer.bias,
        **dict(zip(("mean", "inverse", "scale", "shift"), found, strict=True)),
        running_mean=layer.running_mean,
        running_variance=layer.running_var,
        batches=layer.num_batches_tracked if layer.training else None,
        blocks=blocks,
        channels=channels,
        count=rows,
        eps=layer.eps,
        momentum=layer.momentum,
        act1=group.act1,
    )
    _others(1).launch("settle_moments", arguments, channels)
    return found


def _gradients(
    group: Group,
    u: torch.Tensor,
    y: torch.Tensor,
    dy: torch.Tensor,
    largest: torch.Tensor | None,
    found: torch.Tensor,
    by_batch: bool,
) -> Any:
    """The gradients by gamma and beta, and b and k of fused.cu; (channels,) each."""
    channels, rows = u.shape[1], y.numel() // u.shape[1]
    blocks = _blocks(rows, channels, _vector(u))
    partial = torch.empty((blocks, 2, channels), dtype=torch.float64, device=u.device)
    arguments = _filled(
        "Sums",
        u=u if largest is None else largest,
        y=y,
        dy=dy,
        mean=found[0],
        partial=partial,
        rows=rows,
        channels=channels,
        act1=group.act1 if largest is None else NONE,
        act2=group.act2,
    )
    _others(_vector(u)).launch("gradient_sums", arguments, blocks)
    settled = torch.empty((4, channels), device=u.device).unbind()
    arguments = _filled(
        "SettleGradients",
        partial=partial,
        inverse=found[1],
        scale=found[2],
        **dict(zip(("dgamma", "dbeta", "b", "k"), settled, strict=True)),
        blocks=blocks,
        channels=channels,
        count=u.numel() // channels,
        by_batch=by_batch,
    )
    _others(1).launch("settle_gradients", arguments, channels)
    return settled


# ---- calls ----


def _countable(x: torch.Tensor, outputs: int = 0) -> bool:
    """Whether the numbers of x, and so many outputs, can be counted in 32 bits."""
    return max(x.numel(), outputs) < 2**31


def _vector(u: torch.Tensor) -> int:
    """Neighbouring channels that go together."""
    return 4 if u.shape[1] % 4 == 0 else 1


def _blocks(rows: int, channels: int, vector: int) -> int:
    """Blocks that share a sum over rows."""
    beside = THREADS // (channels // vector)
    return min(-(-rows // beside), BLOCKS)


def _others(vector: int) -> Any:
    """The kernels that know no shape."""
    return load(THREADS=THREADS, VECTOR=vector)


def _elementwise(name: str, arguments: Any, numbers: int, vector: int) -> None:
    """A thread for each `vector` neighbouring numbers."""
    _others(vector).launch(name, arguments, -(-numbers // (vector * THREADS)))


def _filled(name: str, **fields: Any) -> Any:
    """A structure of fused.cu; tensors, which live as long as it does, as their addresses."""
    plain = {k: v.data_ptr() if isinstance(v, torch.Tensor) else v for k, v in fields.items()}
    arguments = cuda.structure(name)(**plain)
    arguments.fields = fields
    return arguments


def _empty(shape: Any, device: torch.device) -> torch.Tensor:
    return torch.empty(shape, device=device, memory_format=torch.channels_last)
