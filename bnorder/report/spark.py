"""Drawings a line high: an effect beside its number, and the legend of the orderings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from bnorder.language import Language
from bnorder.report import look
from bnorder.report.drawing import known

HALF = 46.0  # units from zero to either end
MIDDLE = 50.0


def reach(claims: Iterable[Mapping[str, Any]]) -> float:
    """The scale that all the drawings share, in percentage points: a few times a usual effect.

    What lies beyond it ends in an arrow. Threshold claims are left out of it.
    """
    ends = sorted(
        max(abs(part[end]) for end in ("ci_low", "ci_high", "mean") if known(part[end]))
        for claim in claims
        if claim["type"] != "threshold"
        for part in claim["parts"]
        if part["unit"] == "pp" and known(part["mean"])
    )
    return 2.5 * ends[len(ends) // 2] or 1.0 if ends else 1.0


def spark(part: Mapping[str, Any], scale: float) -> Markup:
    """Hidden from assistive technology, since the numbers stand beside it."""
    if part["unit"] != "pp" or not known(part["mean"]):
        return Markup("")
    shapes: list[str] = []
    if known(part["margin"]) and part["threshold"] is None:
        left, right = _x(-part["margin"], scale), _x(part["margin"], scale)
        shapes.append(
            f'<rect x="{left:.1f}" y="1" width="{right - left:.1f}" height="14" class="b"/>'
        )
    shapes.append('<path d="M50 0V16" class="z"/>')
    shapes += _arrow(part["mean"]) if abs(part["mean"]) > scale else _interval(part, scale)
    body = "".join(shapes)
    return Markup(f'<svg class="spark" viewBox="0 0 100 16" aria-hidden="true">{body}</svg>')


def _interval(part: Mapping[str, Any], scale: float) -> Sequence[str]:
    mean = f'<circle cx="{_x(part["mean"], scale):.1f}" cy="8" r="3.2"/>'
    if not known(part["ci_low"]):
        return [mean]
    low, high = _x(part["ci_low"], scale), _x(part["ci_high"], scale)
    return [f'<path d="M{low:.1f} 8H{high:.1f}" class="i"/>', mean]


def _arrow(mean: float) -> Sequence[str]:
    return ['<path d="M92 4l6 4-6 4z"/>' if mean > 0 else '<path d="M8 4l-6 4 6 4z"/>']


def _x(value: float, scale: float) -> float:
    return MIDDLE + HALF * max(-1.0, min(1.0, value / scale))


SHAPES = {
    "o": '<circle cx="10" cy="5" r="3.4"/>',
    "^": '<path d="M10 1 L14 8 L6 8 z"/>',
    "s": '<path d="M7 2 h6 v6 h-6 z"/>',
}
DASHES = {"o": "none", "^": "4 2", "s": "1.5 1.8"}  # a class has one marker and one line


def legend(orderings: Iterable[str], words: Language) -> Markup:
    """The orderings' colours, markers and lines; the page's script makes switches of them."""
    keys = []
    for ordering in look.in_order(orderings):
        marker, colour = look.mark(ordering).marker, f"var(--o-{ordering})"
        line = f'<path d="M0 5H20" stroke="{colour}" stroke-dasharray="{DASHES[marker]}"/>'
        drawing = f'<svg viewBox="0 0 20 10" fill="{colour}" aria-hidden="true">{line}'
        drawing += f"{SHAPES[marker]}</svg>"
        keys.append(f'<span data-key="{ordering}">{drawing}{look.ordering_words(ordering)}</span>')
    label = words.say("orderings.legend")
    start = f'<div class="legend" role="group" aria-label="{label}">'
    return Markup(start + "".join(keys) + "</div>")
