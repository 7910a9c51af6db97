"""The thread from a printed number back to its place: file, row and column (or key).

While the report is put together, a number carries its source inside the text, between characters
that no text uses; the finished page turns that into `<data value="…" data-src="…">`. The checker
then reads the page as a stranger would: each such number must be what stands at that place, and no
number may stand there without one, but for the project's own fixed words.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from bnorder.errors import UserError
from bnorder.language.printing import BETWEEN, OPEN, SHUT, Num, mark
from bnorder.report.results import read_columns
from bnorder.schema import read_yaml

_MARKED = re.compile(f"{OPEN}([^{BETWEEN}]*){BETWEEN}([^{BETWEEN}]*){BETWEEN}([^{SHUT}]*){SHUT}")
# A number is not part of a name: E1, block1_conv and 2015-02 hold none, nor does v-2.
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,-])[+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)(?![A-Za-z0-9_]|[.,]\d)"
)
_WHOLE = re.compile(r"[+−]?\d[\d,.]*")  # no line ends inside; "< .0001" and "99 %" are not so
_IN_SENTENCE = re.compile(f"(?:< )?{_NUMBER.pattern}")
_WORDED = re.compile(r"[^\W\d_]|\d-\d|%")  # a bare number is no name; a date is one
NEAR_NUMBER = 40  # characters shown around a number that nothing accounts for


class Untraced(UserError):
    """A number in the report that stands in no results file, or not as it is printed."""


def plain(text: str) -> str:
    """The text as a reader sees it, without sources."""
    return _MARKED.sub(r"\3", text)


def as_markup(page: str, *, traced: bool) -> str:
    """A page's marks as elements, kept in one line, with their source when `traced`.

    On paper only what a line could end in is an element: one for each number would take a seventh
    of the time that the PDF takes.
    """
    if traced:
        return _MARKED.sub(r'<data value="\2" data-src="\1">\3</data>', page)
    return _MARKED.sub(
        lambda m: m[3] if _WHOLE.fullmatch(m[3]) else f'<span class="n">{m[3]}</span>', page
    )


# --- sentences that the analysis wrote --------------------------------------------------------


def numbers_in(node: Any, without: Iterable[str] = ()) -> list[Num]:
    """Every number in a part of a results file, the nearest first."""
    if isinstance(node, Num):
        return [node]
    skip = set(without)
    children = node.values() if isinstance(node, Mapping) else node
    if isinstance(node, Mapping):
        children = [child for key, child in node.items() if key not in skip]
    elif not isinstance(node, (list, tuple)):
        return []
    flat = [child for child in children if isinstance(child, Num)]
    nested = [child for child in children if not isinstance(child, Num)]
    return flat + [n for child in nested for n in numbers_in(child, skip)]


def link(text: str, numbers: Sequence[Num], fixed: "Fixed") -> str:
    """A finished sentence with the source of each of its numbers, looked up among `numbers`.

    A number that none of them prints as is left bare, for the checker to complain of.
    """

    def sourced(match: re.Match[str]) -> str:
        found = next((n for n in numbers if _said(n, match[0])), None)
        return mark(found, match[0]) if found is not None else match[0]

    pieces, end = [], 0
    for start, stop in fixed.spans(text):
        pieces += [_IN_SENTENCE.sub(sourced, text[end:start]), text[start:stop]]
        end = stop
    return "".join([*pieces, _IN_SENTENCE.sub(sourced, text[end:])])


def _said(value: float, text: str) -> bool:
    """As `prints_as`; a number without decimals is a count, or a p-value of 1."""
    whole = "." in text or float(value).is_integer() or 0.9995 <= value <= 1
    return whole and prints_as(value, text, unsigned=True)


def prints_as(value: float, text: str, *, unsigned: bool = False) -> bool:
    """Is `text` this value, rounded to the digits that it shows?

    unsigned: a sentence may say `0.3 points below` of −0.3.
    """
    below = re.match(r"\s*[<＜]\s*", text)
    words = text[below.end() :] if below else text
    number = float(re.sub(r"[+,%\s\u00a0]", "", words).replace("−", "-") or "nan")
    value = 100 * value if "%" in words else value
    if below:
        return 0 <= value < number
    digits = len(re.sub(r"[^\d.]", "", words).partition(".")[2])
    if unsigned and number >= 0 and not words.startswith("+"):
        value = abs(value)
    return math.isclose(number, value, rel_tol=1e-12, abs_tol=0.5000001 * 10.0**-digits)


# --- the checker ----------------------------------------------------------------------------------


class Fixed:
    """Words that hold numbers and yet report none: the project's own, names, and quotations."""

    def __init__(self, phrases: Iterable[str]) -> None:
        # Ours may hold entities; a user's text that looks like one is itself.
        held = {" ".join(p.split()) for phrase in phrases for p in (phrase, unescape(phrase))}
        held = {p for p in held if _NUMBER.search(p) and _WORDED.search(p)}
        held |= {p[:1].upper() + p[1:] for p in held}
        listed = sorted(held, key=lambda p: (-len(p), p))
        self._any = re.compile("|".join(map(_bounded, listed))) if listed else None

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self._any.finditer(text) if self._any else ():
            yield match.span()

    def without(self, text: str) -> str:
        return self._any.sub(" … ", text) if self._any else text


def _bounded(phrase: str) -> str:
    """The phrase as a pattern that neither begins nor ends inside another number."""
    before = r"(?<![\d.,])" if phrase[0].isdigit() else ""
    after = r"(?![\d]|[.,]\d)" if phrase[-1].isdigit() else ""
    return before + re.escape(phrase).replace(r"\ ", r"\s") + after


class _Reader(HTMLParser):
    """A page's traced numbers, and its other visible text, block by block."""

    SKIPPED = frozenset({"svg", "script", "style", "code", "pre", "title", "h1"})
    INLINE = frozenset({"a", "b", "i", "span", "code", "data", "em", "strong", "sub", "sup", "br"})
    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.numbers: list[tuple[str, str, str]] = []  # source, value, text
        self.blocks: list[str] = []
        self._block: list[str] = []
        self.feed(page)
        self._end_block()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.INLINE:
            self._end_block()
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "data":
            found = dict(attrs)
            self.numbers.append((found.get("data-src") or "", found.get("value") or "", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.INLINE:
            self._end_block()
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.SKIPPED & set(self.open):
            self._block.append("\N{FULL BLOCK}")
        elif "data" in self.open:
            source, value, text = self.numbers[-1]
            self.numbers[-1] = (source, value, text + data)
            self._block.append("\N{FULL BLOCK}")
        else:
            self._block.append(data)

    def _end_block(self) -> None:
        text = " ".join("".join(self._block).split())
        if text:
            self.blocks.append(text)
        self._block = []


def check(page: str, places: "Places", fixed: Fixed) -> int:
    """How many numbers of the page were traced to their place.

    Raises Untraced, naming the first few, where one does not stand where the page says it does, is
    printed as another number, or stands on the page without a place.
    """
    reader = _Reader(page)
    wrong = [
        f"{text!r} is printed for {value}, and {source} says {places.at(source)!r}"
        for source, value, text in reader.numbers
        if not _stands(places.at(source), float(value), text)
    ]
    wrong += [
        f"{words!r} stands in no results file"
        for block in reader.blocks
        for words in _strays(fixed.without(block))
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise Untraced(
            f"{len(wrong)} numbers of the report cannot be traced: {'; '.join(wrong[:5])}{more}; "
            "the results are whole, this is a mistake in the report's code: please report it"
        )
    return len(reader.numbers)


def _stands(found: object, value: float, text: str) -> bool:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return False
    return float(found) == value and prints_as(value, text, unsigned=True)


def _strays(text: str) -> Iterator[str]:
    for match in _NUMBER.finditer(text):
        start = max(0, match.start() - NEAR_NUMBER)
        yield text[start : match.end() + NEAR_NUMBER]


class Places:
    """Values of results files by their address: `file#row/column`, or `file#/key/key` in JSON.

    The files are read again, and not what the report was made from.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._json = cache(self._read_json)
        self._columns = cache(self._read_columns)

    def at(self, source: str) -> object:
        """The value there; None where there is no such place."""
        name, _, place = source.partition("#")
        if name not in self._files:
            return None
        try:
            if self._files[name].suffix == ".parquet":
                row, _, column = place.partition("/")
                return self._columns(name)[column][int(row)]
            node = self._json(name)
            for key in _keys(place):
                node = node[int(key)] if isinstance(node, list) else node[key]
            return node
        except (KeyError, IndexError, ValueError, TypeError):
            return None

    def _read_json(self, name: str) -> Any:
        if self._files[name].suffix in (".yaml", ".yml"):
            return read_yaml(self._files[name])
        return json.loads(self._files[name].read_text(encoding="utf-8"))

    def _read_columns(self, name: str) -> Mapping[str, Sequence[object]]:
        return read_columns(self._files[name])


def _keys(place: str) -> list[str]:
    """The keys of a JSON pointer (RFC 6901)."""
    return [k.replace("~1", "/").replace("~0", "~") for k in place.split("/")[1:]]
