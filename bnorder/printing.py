"""How the report prints a number, and the thread from it to its place in a file."""

import math
from collections.abc import Callable

from markupsafe import Markup, escape

from bnorder.results import Num
from bnorder.sentences import number, p_value

DASH = "–"
UNIT_WORDS = {"pp": " pp", "steps": " steps"}


def unit_words(unit: str | None) -> str:
    return UNIT_WORDS.get(unit or "", "")


def filters(*, traced: bool) -> dict[str, Callable[..., str]]:
    """Jinja filters; when `traced`, each number carries its source, for the checker."""

    def show(value: object, text: str) -> str:
        if traced and isinstance(value, Num) and not value.missing:
            return Markup('<data value="{}" data-src="{}">{}</data>').format(
                repr(float(value)), value.source, text
            )
        if text[:1] in "<.":  # a p-value, which a line may not break
            return Markup('<span class="nowrap">{}</span>').format(text)
        return escape(text)

    def made(form: Callable[..., str]) -> Callable[..., str]:
        def printed(value: object, *args: object) -> str:
            missing = not isinstance(value, (int, float)) or math.isnan(value)
            return show(value, DASH if missing else form(value, *args))

        return printed

    return {
        "signed": made(signed),
        "amount": made(amount),
        "p": made(p_text),
        "whole": made(whole),
        "plain": made(plain),
        "percent": made(percent),
    }


def signed(value: float, unit: str = "pp") -> str:
    """A difference with its sign, and enough digits to show which side of zero it is on."""
    text = number(value, least=_digits(unit))
    return text if text.startswith("−") or float(value) == 0 else f"+{text}"


def amount(value: float, unit: str = "pp", digits: int = 0) -> str:
    return f"{value:.{digits or _digits(unit)}f}".replace("-", "−")


def _digits(unit: str) -> int:
    return {"pp": 2, "steps": 0}.get(unit, 4)


def p_text(value: float) -> str:
    return p_value(value).removeprefix("= ")


def whole(value: float) -> str:
    return f"{round(value):,}"


def plain(value: float) -> str:
    return f"{value:g}"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
