"""What the words on the grid mean: an ordering and an activation, parsed from their names."""

import re
from dataclasses import dataclass

from bnorder.errors import UserError

LAYERS = ("conv", "bn", "act")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "identity")


@dataclass(frozen=True)
class Ordering:
    """A block's layers in order, parsed from its name, such as `bn-act-conv`."""

    name: str

    def __post_init__(self) -> None:
        layers = self.layers
        if "conv" not in layers or len(set(layers)) < len(layers) or set(layers) - set(LAYERS):
            raise UserError(
                f"ordering {self.name[:60]!r}: expected conv, with or without bn and act, "
                "each at most once, joined by dashes, such as bn-act-conv"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.name.split("-"))

    @property
    def bn_class(self) -> str:
        """`bn_first` or `act_first`: which follows which in the cycle; `none` without both."""
        if len(self.layers) < len(LAYERS):
            return "none"
        start = self.layers.index("conv")
        after_conv = self.layers[(start + 1) % 3]
        return "bn_first" if after_conv == "bn" else "act_first"

    @property
    def cut(self) -> str:
        """Where the convolution stands in the block: `conv_first`, `conv_middle`, `conv_last`."""
        position = self.layers.index("conv")
        if position == 0:
            return "conv_first"
        return "conv_last" if position == len(self.layers) - 1 else "conv_middle"


@dataclass(frozen=True)
class Activation:
    """An activation's kind and its one parameter, parsed from `leaky_relu` or `leaky_relu-0.1`."""

    name: str

    def __post_init__(self) -> None:
        match = re.fullmatch(r"([a-z_]+)(?:-(\d+(?:\.\d+)?))?", self.name)
        if not match or match[1] not in ACTIVATIONS or (match[2] and match[1] != "leaky_relu"):
            raise UserError(
                f"activation {self.name[:60]!r}: expected one of {', '.join(ACTIVATIONS)}, "
                "or leaky_relu-SLOPE such as leaky_relu-0.1"
            )

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]

    @property
    def slope(self) -> float:
        """Slope of `leaky_relu` left of zero."""
        return float(self.name.partition("-")[2] or 0.01)
