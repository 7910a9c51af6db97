"""A language of the report: its words and templates, and no rule about when to use them.

All text of one language stands in one module, `english` or `chinese`. The grammar (`sentences`, and
the report's `captions`, `view` and `exploration`) chooses a key and fills its fields.
"""

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from bnorder.language.printing import whole


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
