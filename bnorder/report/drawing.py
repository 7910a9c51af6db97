"""What every figure shares: a canvas with margins in inches, and the finished drawing."""

import csv
import io
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard
from unicodedata import east_asian_width

import numpy as np
import numpy.typing as npt

from bnorder.report import look
from bnorder.report.tracing import plain
from bnorder.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Row = Mapping[str, Any]
Words = tuple[str, str, str]  # title, caption, alternative text
STYLE = look.TEMPLATES / "style.mplstyle"
WIDTH = 6.7  # inches: the text width of an A4 page
LETTER = 0.62  # ems that a letter takes on average
TALLEST = 8.2  # inches: a figure and its caption still fit on a page
MOST_PANELS = 48  # of one kind of figure, a panel for each data set, activation and depth
MOST_DOTS = 100  # in one strip: more would be a smear, and a page that grows with the runs


@dataclass(frozen=True)
class Drawing:
    """A figure as the report shows it."""

    key: str
    title: str
    caption: str
    alt: str
    svg: str
    png: bytes
    data: str  # CSV
    script: str = ""  # the module that drew it

    @property
    def rows(self) -> int:
        return self.data.count("\n") - 1


def drawn(study: Study) -> Study:
    """The study with only those activations and depths that its figures show: all, if they can.

    Depths are thinned first, evenly, and keep the least and the greatest.
    """
    room = max(1, MOST_PANELS // len(study.datasets))
    activations = study.activations[:room]
    most = min(len(study.depths), max(1, room // len(activations)))
    places = np.linspace(0, len(study.depths) - 1, most).round().astype(int)
    depths = tuple(study.depths[i] for i in places)
    return replace(study, activations=activations, depths=depths)


def canvas(height: float) -> "Canvas":
    """An empty figure, `height` inches tall."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height))


def finish(figure: "Canvas", key: str, words: Words, data: Sequence[Row]) -> Drawing:
    """The figure as SVG and PNG, without a date, so that it is the same bytes each time."""
    title, caption, alt = words
    alt = plain(alt)
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Title": alt, "Date": None, "Creator": "bnorder"})
    figure.savefig(png, format="png", metadata={"Title": plain(title), "Software": "bnorder"})
    return Drawing(key, title, caption, alt, svg.getvalue(), png.getvalue(), as_csv(data))


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a header; numbers in full precision, empty for none."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _plain(v) for k, v in row.items()} for row in rows)
    return out.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return ""
        return int(number) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return value


def known(value: object) -> TypeGuard[float]:
    """A finite number."""
    return isinstance(value, (float, np.floating)) and math.isfinite(value)


def label_inches(labels: Iterable[str], size: float = 7.5) -> float:
    """Room that tick labels need; an estimate, since measuring them costs more than drawing."""
    longest = max((_ems(line) for label in labels for line in label.split("\n")), default=0.0)
    return 0.1 + longest * size / 72


def _ems(text: str) -> float:
    """About how wide a text is: a Chinese character takes 1, a letter 0.62."""
    return sum(1.0 if _is_wide(letter) else LETTER for letter in text)


def _is_wide(letter: str) -> bool:
    return east_asian_width(letter) in "WF"


def wrapped(words: str, width: int = 30) -> str:
    """At most two lines; what does not fit ends in an ellipsis."""
    words = plain(words)  # a number drawn has no place for its source
    if any(map(_is_wide, words)):
        return _wrapped_wide(words, width * LETTER)
    lines = textwrap.wrap(words, width, break_on_hyphens=False)
    if len(lines) > 2:
        lines = [lines[0], textwrap.shorten(" ".join(lines[1:]), width, placeholder=" …")]
    return "\n".join(lines)


def _wrapped_wide(words: str, ems: float) -> str:
    """At most two lines of Chinese, which may break after any character but inside no name."""
    lines = [""]
    for piece in re.findall(r"[^\s\u2e80-\uffef]+|.", words):
        if _ems(lines[-1] + piece) > ems and lines[-1]:
            lines.append("")
        lines[-1] += piece
    shown = [line.strip() for line in lines[:2]]
    return "\n".join(shown) + (" …" if len(lines) > 2 else "")


def margins(
    figure: "Canvas",
    *,
    left: float,
    top: float,
    bottom: float,
    right: float = 0.12,
    gaps: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Place the panels; all in inches. gaps: between rows, between columns."""
    width, height = figure.get_size_inches()
    spec = figure.axes[0].get_subplotspec()
    rows, columns = spec.get_gridspec().get_geometry() if spec else (1, 1)
    panel_height = (height - top - bottom - gaps[0] * (rows - 1)) / rows
    panel_width = (width - left - right - gaps[1] * (columns - 1)) / columns
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        hspace=gaps[0] / panel_height,
        wspace=gaps[1] / panel_width,
    )


def below(figure: "Canvas", words: str, left: float) -> None:
    """The label of the shared x axis, centred under the panels."""
    width, height = figure.get_size_inches()
    figure.text((left + (width - left) / 2) / width, 0.05 / height, words, ha="center", va="bottom")


def beside(figure: "Canvas", words: str) -> float:
    """The label of the shared y axis, in two lines where the figure is low.

    Gives the inches that the second line takes from the panels.
    """
    label = figure.text(0.03 / WIDTH, 0.5, "", ha="left", va="center", ma="center", rotation=90)
    points = float(label.get_fontsize())
    text = wrapped(words, int(figure.get_size_inches()[1] * 72 / (points * LETTER)))
    label.set_text(text)
    return 1.2 * points / 72 * text.count("\n")


def dots(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Which values of a strip are drawn: all, or MOST_DOTS of them evenly spaced in rank.

    values: (n,) -> (at most MOST_DOTS,) indices in rising order, the least's and the greatest's
    among them. So each dot stands for as many values. Source: quantile dot plots, Kay et al. 2016.
    """
    if len(values) <= MOST_DOTS:
        return np.arange(len(values))
    ranks = np.linspace(0, len(values) - 1, MOST_DOTS).round().astype(int)
    return np.sort(np.argsort(values, kind="stable")[ranks])


def spread(n: int, half: float) -> npt.NDArray[np.float64]:
    """(n,) offsets that keep neighbouring seeds apart, the same for every arm."""
    if n <= 1:
        return np.zeros(n)
    steps = (np.arange(n) * 0.618033988749895) % 1.0  # golden ratio: even, without a pattern
    return np.asarray((steps * 2 - 1) * half)


def named_rows(ax: "Axes", labels: Sequence[str]) -> None:
    """A y axis of names, the first on top, with light vertical rules."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(left=False, bottom=False)  # the rules are ticks enough, and quicker
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(labels) - 0.45, -0.55)
    ax.grid(axis="x")


def zero(ax: "Axes") -> None:
    ax.axvline(0, color=look.INK, linewidth=0.7)


def interval_line(ax: "Axes", row: Row, y: float, width: float = 1.4) -> None:
    """The 95 % interval of a row, where it has one."""
    if known(row["ci_low"]) and known(row["ci_high"]):
        ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=look.INK, linewidth=width)


def margin_band(ax: "Axes", margin: object, y: float, height: float) -> None:
    if known(margin):
        ax.barh(y, 2 * margin, left=-margin, height=height, color=look.BAND)
