"""Networks: an ordering, a depth and a recipe as layers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from bnorder.network import Network
from bnorder.ordering import ACTIVATIONS
from bnorder.study import Arm, Recipe, load_study

RECIPE = load_study("studies/article.yaml").recipe
MNIST = (1, 28, 28)


def network(ordering: str, depth: int = 2, activation: str = "relu", **changes: object) -> Network:
    recipe: Recipe = replace(RECIPE, **changes)
    return Network(Arm("mnist", ordering, activation, depth, "base"), recipe, MNIST, 10, [0])


def names(net: Network) -> list[str]:
    return [name for name, _ in net.body.named_children()]


@pytest.mark.parametrize(
    "ordering",
    ["bn-act-conv", "act-conv-bn", "conv-bn-act", "act-bn-conv", "bn-conv-act", "conv-act-bn"]
    + ["conv-act", "act-conv", "conv-bn", "bn-conv", "conv"],
)
def test_layers_stand_in_the_order_of_the_name(ordering: str) -> None:
    net = network(ordering, depth=3, downsampling="stride")
    expected = [f"block{b}_{layer}" for b in (1, 2, 3) for layer in ordering.split("-")]
    assert names(net) == expected
    assert net(torch.zeros(4, *MNIST)).shape == (1, 4, 10)


def test_the_first_layer_meets_the_pixels() -> None:
    assert network("bn-act-conv").body.block1_bn.num_features == 1
    assert network("conv-bn-act").body.block1_bn.num_features == 16
    assert network("conv-bn-act").body.block1_conv.weight.shape == (16, 1, 3, 3)


@pytest.mark.parametrize("depth", [1, 2, 5, 20, 50])
def test_depth_counts_convolutions(depth: int) -> None:
    net = network("conv-bn-act", depth)
    assert sum(isinstance(layer, nn.Conv2d) for layer in net.modules()) == depth
    assert net(torch.zeros(2, *MNIST)).isfinite().all()


@pytest.mark.parametrize("downsampling", ["max_pool", "average_pool", "stride"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_two_blocks_down_sample_28_pixels_to_7(downsampling: str, kernel: int) -> None:
    net = network("conv-bn-act", 5, downsampling=downsampling, kernel=kernel)
    assert net.body(torch.zeros(2, *MNIST)).shape == (2, 16, 7, 7)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "leaky_relu-0.3"])
def test_every_activation_is_a_layer(activation: str) -> None:
    layer = network("conv-bn-act", 1, activation).body.block1_act
    x = torch.tensor([-2.0, 0.5])
    reference = {
        "relu": torch.relu,
        "leaky_relu": lambda v: torch.where(v > 0, v, 0.01 * v),
        "leaky_relu-0.3": lambda v: torch.where(v > 0, v, 0.3 * v),
        "elu": lambda v: torch.where(v > 0, v, v.exp() - 1),
        "gelu": lambda v: v * 0.5 * (1 + torch.erf(v / 2**0.5)),
        "silu": lambda v: v / (1 + (-v).exp()),
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "identity": lambda v: v,
    }
    torch.testing.assert_close(layer(x), reference[activation](x))


def test_the_recipe_shapes_the_network() -> None:
    net = network("bn-act-conv", 2, stem="conv", head="global_average", final_norm_act=True)
    assert names(net)[0] == "stem"
    assert names(net)[-2:] == ["final_bn", "final_act"]
    assert net.body.block1_bn.num_features == 16
    assert net.weight.shape == (1, 10, 16)
    biased = network("conv-act", conv_bias=True, bn_momentum=0.3, bn_eps=1e-3)
    assert biased.body.block1_conv.bias is not None
    normal = network("conv-bn", bn_momentum=0.3, bn_eps=1e-3).body.block1_bn
    assert (normal.momentum, normal.eps) == (0.3, 1e-3)


def test_one_replica_is_the_plain_network() -> None:
    net = network("conv-bn-act").eval()
    plain = nn.Sequential(
        net.body.block1_conv,
        net.body.block1_bn,
        nn.ReLU(),
        nn.MaxPool2d(2),
        net.body.block2_conv,
        net.body.block2_bn,
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    ).eval()
    images = torch.randn(8, *MNIST)
    expected = plain(images) @ net.weight[0].t() + net.bias[0]
    torch.testing.assert_close(net(images)[0], expected)


def test_default_initialisation_is_that_of_torch() -> None:
    weight = network("conv-bn-act", width=256).body.block2_conv.weight.detach()
    torch.manual_seed(0)
    reference = nn.Conv2d(256, 256, 3).weight.detach()
    assert float(weight.std()) == pytest.approx(float(reference.std()), rel=0.02)
    assert float(weight.abs().max()) == pytest.approx(float(reference.abs().max()), rel=0.01)


def test_he_and_glorot_have_their_spread() -> None:
    he = network("conv-bn-act", width=128, initialisation="he").body.block2_conv.weight.detach()
    assert float(he.std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    glorot = network(
        "conv-bn-act", width=128, initialisation="glorot"
    ).body.block2_conv.weight.detach()
    assert float(glorot.std()) == pytest.approx((2 / (2 * 128 * 9)) ** 0.5, rel=0.02)


def test_different_layers_and_seeds_draw_different_weights() -> None:
    net = network("conv-bn-act", 4)
    assert not torch.equal(net.body.block2_conv.weight, net.body.block3_conv.weight)
    arm = Arm("mnist", "conv-bn-act", "relu", 2, "base")
    two = Network(arm, RECIPE, MNIST, 10, [0, 1])
    first, second = two.body.block1_conv.weight.chunk(2)
    assert not torch.equal(first, second)
