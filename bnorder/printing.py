"""How the report prints a number; one from a results file carries its source with it."""

import math
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from bnorder.sentences import number, p_value
from bnorder.tracing import mark

DASH = "–"
P = ParamSpec("P")


def _printed(form: Callable[Concatenate[float, P], str]) -> Callable[Concatenate[object, P], str]:
    """A dash for no number, and a mark of where the number stands."""

    @wraps(form)
    def printed(value: object, *args: P.args, **kwargs: P.kwargs) -> str:
        if not isinstance(value, (int, float)) or math.isnan(value):
            return DASH
        return mark(value, form(value, *args, **kwargs))

    return cast("Callable[Concatenate[object, P], str]", printed)


@_printed
def signed(value: float, unit: str = "pp") -> str:
    """A difference with its sign, and enough digits to show which side of zero it is on."""
    text = number(value, least=_digits(unit))
    return text if text.startswith("−") or float(value) == 0 else f"+{text}"


@_printed
def amount(value: float, unit: str = "pp", digits: int = 0) -> str:
    return f"{float(value):.{digits or _digits(unit)}f}".replace("-", "−")


def _digits(unit: str) -> int:
    return {"pp": 2, "steps": 0}.get(unit, 4)


@_printed
def p_text(value: float) -> str:
    return p_value(value).removeprefix("= ")


@_printed
def whole(value: float) -> str:
    return f"{round(value):,}"


@_printed
def plain(value: float) -> str:
    return f"{float(value):g}"


@_printed
def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


@_printed
def rough(value: float) -> str:
    """Two or three digits: 0.42, 3.5, 12, 140."""
    digits = 2 if abs(value) < 1 else 1 if abs(value) < 10 else 0
    return f"{float(value):,.{digits}f}"


@_printed
def significant(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{float(value):,.{digits}f}".replace("-", "−")


FILTERS: dict[str, Callable[..., str]] = {
    "signed": signed,
    "amount": amount,
    "p": p_text,
    "whole": whole,
    "plain": plain,
    "percent": percent,
    "rough": rough,
}
