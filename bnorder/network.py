"""An ordering and a depth as layers; several replicas (seeds) of one arm as one grouped network."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from bnorder.errors import UserError
from bnorder.ordering import Activation, Ordering
from bnorder.study import Arm, Recipe

# Max-pooling commutes exactly with these, so it may go first, where it leaves them less to do.
MONOTONE = ("relu", "leaky_relu", "elu", "tanh", "sigmoid", "identity")


class Network(nn.Module):
    """`S` replicas of one arm's network that never mix, one a seed.

    Takes images (batch, S * channels, height, width), gives logits (S, batch, classes).
    Convolutions have `S` groups and BN has `S * C` channels, so with one seed it is the plain
    network. Weights are drawn from (seed, layer, shape): arms share them where shapes agree.
    """

    def __init__(
        self,
        arm: Arm,
        recipe: Recipe,
        image_shape: tuple[int, int, int],
        classes: int,
        seeds: Sequence[int],
    ) -> None:
        super().__init__()
        self.replicas = len(seeds)
        channels, *size = image_shape
        body, channels = _body(arm, recipe, channels, self.replicas)
        self.body = nn.Sequential(body)
        self.global_average = recipe.head == "global_average"
        height, width = _size_after(recipe, arm.depth, (size[0], size[1]))
        features = channels if self.global_average else channels * height * width
        self.weight = nn.Parameter(torch.empty(self.replicas, classes, features))
        self.bias = nn.Parameter(torch.empty(self.replicas, 1, classes))
        _initialise(self, recipe.initialisation, seeds)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.body(images)  # (batch, S * C, height, width)
        if self.global_average:
            features = features.mean((2, 3))
        features = features.reshape(len(images), self.replicas, -1).transpose(0, 1)
        return torch.baddbmm(self.bias, features, self.weight.transpose(1, 2))


def _body(
    arm: Arm, recipe: Recipe, channels: int, replicas: int
) -> tuple["OrderedDict[str, nn.Module]", int]:
    """The named layers between image and classifier, and the channels they end with."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if recipe.stem == "conv":
        layers["stem"] = _convolution(channels, recipe, replicas, stride=1)
        channels = recipe.width
    for block in range(1, arm.depth + 1):
        halve = block <= recipe.downsample_blocks
        for name, layer in _block(arm, recipe, channels, replicas, halve):
            layers[f"block{block}_{name}"] = layer
        channels = recipe.width
    if recipe.final_norm_act:
        layers["final_bn"] = _batch_norm(channels, recipe, replicas)
        layers["final_act"] = _activation(arm.activation)
    return layers, channels


def _block(
    arm: Arm, recipe: Recipe, channels: int, replicas: int, halve: bool
) -> list[tuple[str, nn.Module]]:
    """The layers of one block in the order that the ordering's name says."""
    block: list[tuple[str, nn.Module]] = []
    stride = 2 if halve and recipe.downsampling == "stride" else 1
    for layer in Ordering(arm.ordering).layers:
        if layer == "conv":
            block.append((layer, _convolution(channels, recipe, replicas, stride)))
            channels = recipe.width
        elif layer == "bn":
            block.append((layer, _batch_norm(channels, recipe, replicas)))
        else:
            block.append((layer, _activation(arm.activation)))
    if halve and recipe.downsampling == "average_pool":
        block.append(("pool", nn.AvgPool2d(2)))
    if halve and recipe.downsampling == "max_pool":
        commutes = block[-1][0] == "act" and Activation(arm.activation).kind in MONOTONE
        block.insert(len(block) - commutes, ("pool", nn.MaxPool2d(2)))
    return block


def _convolution(channels: int, recipe: Recipe, replicas: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels * replicas,
        recipe.width * replicas,
        recipe.kernel,
        stride=stride,
        padding=recipe.kernel // 2,
        groups=replicas,
        bias=recipe.conv_bias,
    )


def _batch_norm(channels: int, recipe: Recipe, replicas: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels * replicas, eps=recipe.bn_eps, momentum=recipe.bn_momentum)


def _activation(name: str) -> nn.Module:
    activation = Activation(name)
    if activation.kind == "leaky_relu":
        return nn.LeakyReLU(activation.slope)
    modules: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "elu": nn.ELU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "identity": nn.Identity,
    }
    return modules[activation.kind]()


def _size_after(recipe: Recipe, depth: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the last block's output; pooling rounds down, a stride rounds up."""
    height, width = size
    for _ in range(min(depth, recipe.downsample_blocks)):
        if recipe.downsampling == "stride":
            height, width = (height + 1) // 2, (width + 1) // 2
        else:
            height, width = height // 2, width // 2
        if min(height, width) < 1:
            raise UserError(
                f"recipe.downsample_blocks: {recipe.downsample_blocks} blocks cannot halve images "
                f"of {size[0]}x{size[1]} pixels; expected fewer"
            )
    return height, width


def _initialise(network: Network, rule: str, seeds: Sequence[int]) -> None:
    """Draw every replica's weights from its own seed; BN keeps its ones and zeros."""
    with torch.no_grad():
        for name, layer in network.body.named_children():
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.weight[0].numel()
                parts = layer.weight.chunk(len(seeds))
                for seed, part in zip(seeds, parts, strict=True):
                    _draw(part, seed, f"{name}.weight", rule, fan_in)
                if layer.bias is not None:
                    for seed, part in zip(seeds, layer.bias.chunk(len(seeds)), strict=True):
                        _draw(part, seed, f"{name}.bias", "default", fan_in)
        features = network.weight.shape[2]
        for seed, weight, bias in zip(seeds, network.weight, network.bias, strict=True):
            _draw(weight, seed, "classifier.weight", "default", features)
            _draw(bias, seed, "classifier.bias", "default", features)


def _draw(tensor: torch.Tensor, seed: int, name: str, rule: str, fan_in: int) -> None:
    """Fill `tensor` by an initialisation rule: PyTorch's own, He et al. 2015, Glorot 2010."""
    generator = seeded_generator(seed, f"{name} {tuple(tensor.shape)}")
    values = torch.empty(tensor.shape)
    if rule == "he":
        values.normal_(0, math.sqrt(2 / fan_in), generator=generator)
    else:
        fan_out = tensor.shape[0] * math.prod(tensor.shape[2:])
        bound = math.sqrt(6 / (fan_in + fan_out)) if rule == "glorot" else math.sqrt(1 / fan_in)
        values.uniform_(-bound, bound, generator=generator)
    tensor.copy_(values)


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each seed and purpose, the same on every machine."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
