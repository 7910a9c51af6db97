"""One visual language: an ordering has one colour, a class one marker and line style, everywhere.

Colours: blues and greens for BN first, oranges and pinks for activation first, greys for none;
lightness tells the members of a class apart, so that a grey print keeps what colour says.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnorder.language import Language
from bnorder.language.names import LAYER_WORDS as LAYER_WORDS
from bnorder.language.names import activation_words as activation_words
from bnorder.language.names import dataset_words as dataset_words
from bnorder.language.names import ordering_words as ordering_words
from bnorder.ordering import Ordering

TEMPLATES = Path(__file__).resolve().parents[2] / "report"
INK, RULE, BAND, PAPER = "#1b1b1b", "#d9d9d9", "#ece7da", "#ffffff"

# ordering -> (on light paper, on dark paper); luminance steps within a class
COLOURS = {
    "bn-act-conv": ("#0b4f8a", "#5a9fe4"),
    "conv-bn-act": ("#2f94cf", "#b5defc"),
    "act-conv-bn": ("#11796a", "#4acdb6"),
    "act-bn-conv": ("#9c3103", "#ea7a3a"),
    "conv-act-bn": ("#d9660a", "#ffc890"),
    "bn-conv-act": ("#b04584", "#ef98cb"),
    "conv-act": ("#5d5d5d", "#b9b9b9"),
    "act-conv": ("#7a7a7a", "#9d9d9d"),
    "bn-conv": ("#6a6a80", "#a9a9c0"),
    "conv-bn": ("#86869c", "#c3c3da"),
    "conv": ("#8a8a8a", "#8f8f8f"),
}
MARKERS = {"bn_first": "o", "act_first": "^", "none": "s"}
Line = tuple[float, Sequence[float]]  # offset, lengths on and off
LINES: dict[str, Line] = {
    "bn_first": (0, ()),
    "act_first": (0, (4.0, 1.6)),
    "none": (0, (1.0, 1.3)),
}
CLASS_ORDER = ("bn_first", "act_first", "none")


@dataclass(frozen=True)
class Mark:
    """How an ordering is drawn."""

    colour: str
    marker: str
    line: Line


def mark(ordering: str) -> Mark:
    """The one way that `ordering` looks in every figure."""
    bn_class = Ordering(ordering).bn_class
    colour, _ = COLOURS[ordering]
    return Mark(colour, MARKERS[bn_class], LINES[bn_class])


def depth_words(depth: int, words: Language) -> str:
    return words.count(depth, "depth")


def measure_words(measure: str, words: Language) -> str:
    """`test_loss` as people write it; a measure that is not ours by its own name."""
    if measure.startswith("steps_to_"):
        threshold = measure.removeprefix("steps_to_").replace("_", ".")
        return words.say("steps_to", threshold=threshold)
    return words.measures.get(measure, measure.replace("_", " "))


def in_order(orderings: Iterable[str]) -> list[str]:
    """Orderings grouped by class, BN first on top, as every figure and table lists them."""
    names = list(COLOURS)
    return sorted(
        set(orderings), key=lambda o: (CLASS_ORDER.index(Ordering(o).bn_class), names.index(o))
    )


def slug(text: str) -> str:
    """A name as part of an id or a file name; different names stay different."""
    plain = re.sub(r"[^A-Za-z0-9-]", "-", text)
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
