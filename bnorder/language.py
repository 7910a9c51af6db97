"""A language of the report: its words and templates, and no rule about when to use them.

All text of one language stands in one module: `bnorder.english`, `bnorder.chinese`. The grammar
(`bnorder.sentences`, `bnorder.captions`, `bnorder.view`) chooses a key and fills its fields.
"""

import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

CODES = ("en", "zh")


@dataclass(frozen=True)
class Language:
    """One language.

    tag: as `<html lang>` has it; templates: key -> text with {fields}, `key.one` where a count of
    one reads otherwise; verdicts, measures, units: words by their names in results files; known:
    the project's own English texts that stand in data files (claims, titles, advice) -> this
    language's.
    """

    code: str
    tag: str
    decimal: str
    templates: Mapping[str, str]
    verdicts: Mapping[str, str]
    measures: Mapping[str, str]
    units: Mapping[str, str]
    known: Mapping[str, str] = field(default_factory=dict)

    def say(self, key: str, /, **fields: object) -> str:
        """The template of `key`, filled; markup where the template has some."""
        return self.templates[key].format(**fields)

    def count(self, n: float, key: str, /, **fields: object) -> str:
        """A count with its noun; n: a number from a results file carries its source."""
        from bnorder.printing import whole

        one = f"{key}.one"
        return self.say(one if n == 1 and one in self.templates else key, n=whole(n), **fields)

    def own(self, text: str) -> str:
        """The project's own English text in this language; anyone else's stays as it is."""
        return self.known.get(" ".join(text.split()), text)

    def join(self, items: Iterable[str]) -> str:
        """`a, b and c`."""
        *head, last = list(items) or [""]
        comma, conjunction = self.templates["comma"], self.templates["and"]
        return conjunction.join([comma.join(head), last]) if head else last

    def capital(self, text: str) -> str:
        return text[:1].upper() + text[1:]

    def fixed(self) -> Iterator[str]:
        """The pieces of text that come from no results file, as a reader sees them."""
        tables = (self.templates, self.verdicts, self.measures, self.units, self.known)
        for text in (text for table in tables for text in table.values()):
            bare = re.sub(r"<[^>]+>", "", text)
            for piece, *_ in string.Formatter().parse(bare):
                yield piece.strip()


@cache
def language(code: str) -> Language:
    """The language of a code, one of CODES."""
    if code == "zh":
        from bnorder.chinese import CHINESE

        return CHINESE
    from bnorder.english import ENGLISH

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
    if name in ("axis", "measure"):
        table = words.measures if name == "measure" else words.templates
        return table.get(str(value) if name == "measure" else f"axis.{value}", str(value))
    if isinstance(value, (list, tuple)):
        return shortened(words, value)
    return words.own(value) if isinstance(value, str) else value


def shortened(words: Language, values: Sequence[object], most: int = 3) -> str:
    """The first few values, and how many more there are."""
    shown = words.templates["comma"].join(str(v)[:80] for v in values[:most])
    more = len(values) - most
    return words.say("and_more", shown=shown, more=more) if more > 0 else shown
