"""The report's languages: their words, the grammar that chooses among them, numbers in print."""

from collections.abc import Mapping, Sequence
from functools import cache

from bnorder.language.names import Level
from bnorder.language.words import Language

__all__ = ["CODES", "Language", "Level", "Reason", "language", "shortened", "spoken"]
CODES = ("en", "zh")


@cache
def language(code: str) -> Language:
    """The language of a code, one of CODES."""
    if code == "zh":
        from bnorder.language.chinese import CHINESE

        return CHINESE
    from bnorder.language.english import ENGLISH

    return ENGLISH


class Reason(str):
    """An English text that can be said in another language: its key and fields are kept."""

    key: str
    fields: Mapping[str, object]

    def __new__(cls, key: str, **fields: object) -> "Reason":
        reason = super().__new__(cls, spoken(language("en"), key, fields))
        reason.key, reason.fields = key, fields
        return reason

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, object]]:
        """What a copy is made from."""
        return (self.key,), dict(self.fields)


def spoken(words: Language, key: str, fields: Mapping[str, object]) -> str:
    """A template filled with fields that may be reasons, measures or lists of names."""
    return words.say(key, **{k: _field(words, k, v) for k, v in fields.items()})


def _field(words: Language, name: str, value: object) -> object:
    if isinstance(value, Reason):
        return spoken(words, value.key, value.fields)
    if isinstance(value, Level):
        return value.words(words)
    if name in ("axis", "measure"):
        table = words.measures if name == "measure" else words.templates
        return table.get(str(value) if name == "measure" else f"axis.{value}", str(value))
    if isinstance(value, (list, tuple)):
        return shortened(words, value)
    return words.own(value) if isinstance(value, str) else value


def shortened(words: Language, values: Sequence[object], most: int = 3) -> str:
    """The first few values, and how many more there are."""
    said = (v.words(words) if isinstance(v, Level) else str(v)[:80] for v in values[:most])
    shown = words.templates["comma"].join(said)
    more = len(values) - most
    return words.say("and_more", shown=shown, more=more) if more > 0 else shown
