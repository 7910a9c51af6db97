"""How the report prints a number; one from a results file carries its source with it."""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, cast

DASH = "–"
MINUS = "\u2212"
LEVEL = 0.05  # of the tests: no p is rounded onto it
# Around a number and its source; no text uses them.
OPEN, BETWEEN, SHUT = "\ue000", "\ue001", "\ue002"
P = ParamSpec("P")


class Num(float):
    """A number from a results file, with its address `file#place`; prints through the filters."""

    source: str

    def __new__(cls, value: float, source: str) -> "Num":
        number = super().__new__(cls, value)
        number.source = source
        return number

    @property
    def missing(self) -> bool:
        return math.isnan(self)


def mark(value: object, text: str) -> str:
    """`text` with the source of the number that it prints, where `value` has one."""
    if isinstance(value, Num) and not value.missing:
        return f"{OPEN}{value.source}{BETWEEN}{float(value)!r}{BETWEEN}{text}{SHUT}"
    return text


def number(value: float, avoid: Sequence[float] = (0.0,), least: int = 2, most: int = 8) -> str:
    """A number with two significant digits or more, clear of each `avoid` it does not equal."""
    value = 0.0 if abs(value) < 10.0**-most else round(value, 12)  # a tie, not its last digits
    digits = least if value == 0 else max(least, 1 - math.floor(math.log10(abs(value))))
    digits = min(digits, most)
    while digits < most and any(round(value, digits) == a != value for a in avoid):
        digits += 1
    return f"{value:.{digits}f}".replace("-", MINUS)


def p_value(p: float) -> str:
    """With its relation, as in `= .004` or `< .0001`; never rounded onto the 5 % level."""
    if p >= 0.9995:
        return "= 1"
    if p < 0.0001:
        return "< .0001"
    digits = 3 if p >= 0.001 else 4
    while round(p, digits) == LEVEL != p and digits < 12:
        digits += 1
    return "= " + f"{p:.{digits}f}".lstrip("0")


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
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.12g}"


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
