"""Figures with a panel for each depth and activation: final accuracy, learning, convergence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bnorder.language import Language
from bnorder.ordering import Ordering
from bnorder.report import captions, look
from bnorder.report.drawing import (
    TALLEST,
    Drawing,
    Row,
    below,
    beside,
    canvas,
    dots,
    finish,
    known,
    label_inches,
    margins,
    spread,
)
from bnorder.report.results import Results, Table
from bnorder.study import dataset_slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MOST_COLUMNS = 4
MOST_NAMES = 5  # beside each other in a legend
LEAST_ERROR = 1e-3  # percent: an error of 0 cannot stand on a log axis


@dataclass(frozen=True)
class Panel:
    """One small multiple: a data set, a depth and an activation of the base recipe."""

    dataset: str
    depth: int
    activation: str

    @property
    def cell(self) -> dict[str, object]:
        return {
            "dataset": self.dataset,
            "depth": self.depth,
            "activation": self.activation,
            "variant": "base",
        }

    def title(self, words: Language) -> str:
        activation = look.activation_words(self.activation, words)
        return words.say("cell", activation=activation, depth=look.depth_words(self.depth, words))


@dataclass(frozen=True)
class Page:
    """The panels of one figure, and which of how many it is."""

    dataset: str
    rows: list[list[Panel]]
    number: int
    of: int

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row]

    def key(self, start: str, results: Results) -> str:
        several = len(results.study.datasets) > 1
        key = start + (f"-{dataset_slug(self.dataset)}" if several else "")
        return key + (f"-{self.number + 1}" if self.of > 1 else "")


def pages(results: Results, dataset: str, row_height: float) -> list[Page]:
    """Rows of panels, a row a depth and a column an activation, cut into what a page can hold."""
    study = results.study
    acts, depths = study.activations, study.depths
    if len(acts) == 1 or len(acts) > MOST_COLUMNS >= len(depths):
        rows = [[Panel(dataset, d, a) for d in depths] for a in acts]
    else:
        rows = [[Panel(dataset, d, a) for a in acts] for d in depths]
    rows = [r[i : i + MOST_COLUMNS] for r in rows for i in range(0, len(r), MOST_COLUMNS)]
    most = max(1, int(TALLEST / row_height))
    cut = [rows[i : i + most] for i in range(0, len(rows), most)]
    return [Page(dataset, part, number, len(cut)) for number, part in enumerate(cut)]


def axes_of(figure: "Canvas", page: Page) -> npt.NDArray[Any]:
    """(rows, columns) axes on one shared scale; panels that a short row lacks are left out."""
    columns = max(len(row) for row in page.rows)
    axes: npt.NDArray[Any] = figure.subplots(
        len(page.rows), columns, sharex=True, sharey=True, squeeze=False
    )
    for row, panels in enumerate(page.rows):
        for column in range(len(panels), columns):
            axes[row, column].set_visible(False)
            if row:  # the panel above it now carries the axis
                axes[row - 1, column].tick_params(axis="x", labelbottom=True)
    return axes


def each(axes: npt.NDArray[Any], page: Page) -> list[tuple["Axes", Panel]]:
    return [
        (axes[row, column], panel)
        for row, panels in enumerate(page.rows)
        for column, panel in enumerate(panels)
    ]


# --- final accuracy of every run ----------------------------------------------------------------


def accuracy(results: Results) -> list[Drawing]:
    """Final test accuracy: a mark a seed, the mean and its interval beneath, panel by panel."""
    orderings = look.in_order(results.study.orderings)
    row_height = 0.36 + 0.27 * len(orderings)
    drawings = []
    for dataset in results.study.datasets:
        runs = results.runs.where(dataset=dataset, variant="base")
        arms = results.table("arms").where(dataset=dataset, variant="base")
        limits = _with_intervals(robust_limits(runs["test_accuracy_pp"].astype(float)), arms)
        for page in pages(results, dataset, row_height):
            figure = canvas(0.42 + row_height * len(page.rows))
            outside = _accuracy_page(figure, results, page, orderings, limits)
            words = captions.accuracy(results, dataset, (page.number, page.of), outside)
            data = _accuracy_data(results, page)
            drawings.append(finish(figure, page.key("accuracy", results), words, data))
    return drawings


def robust_limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Axis limits that a few runs far below the rest do not flatten.

    values: (n,) percentage points. Runs more than four quartile ranges below the first quartile
    are left out of the range; the figure marks them at its edge.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 100.0
    first, third = np.percentile(finite, [25, 75])
    kept = finite[finite >= first - 4 * max(third - first, 0.05)]
    low, high = float(kept.min()), float(kept.max())
    pad = 0.06 * max(high - low, 0.1)
    return low - pad, high + pad


def _with_intervals(limits: tuple[float, float], arms: Table) -> tuple[float, float]:
    """Wider limits that hold the means' intervals, by half the range at most on either side."""
    if not len(arms):
        return limits
    low, high = limits
    reach = 0.5 * (high - low)
    lows = [v for v in arms["ci_low"] if known(v) and v > low - reach]
    highs = [v for v in arms["ci_high"] if known(v) and v < high + reach]
    return min([low, *lows]), max([high, *highs])


def _accuracy_page(
    figure: "Canvas",
    results: Results,
    page: Page,
    orderings: list[str],
    limits: tuple[float, float],
) -> int:
    axes = axes_of(figure, page)
    outside = 0
    for ax, panel in each(axes, page):
        ax.set_title(panel.title(results.words))
        for y, ordering in enumerate(orderings):
            outside += _arm_strip(ax, results, panel, ordering, y, limits)
        _order_axis(ax, orderings)
    axes[0, 0].set_xlim(*limits)
    _inner_ticks(axes[0, 0], limits, axes.shape[1])
    axes[0, 0].set_ylim(len(orderings) - 0.4, -0.6)
    left = label_inches(look.ordering_words(o) for o in orderings)
    below(figure, results.words.say("accuracy.axis"), left)
    margins(figure, left=left, top=0.24, bottom=0.42, gaps=(0.36, 0.14))
    return outside


def _inner_ticks(ax: "Axes", limits: tuple[float, float], columns: int) -> None:
    """Ticks that keep clear of both ends, where the labels of two panels would meet."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    low, high = limits
    clear = 0.07 * (high - low)
    steps = [1, 2, 5, 10] if columns < 3 else [1, 2, 2.5, 5, 10]
    ticks = MaxNLocator(6 if columns < 3 else 4, steps=steps).tick_values(low, high)
    ax.xaxis.set_major_locator(FixedLocator([t for t in ticks if low + clear <= t <= high - clear]))


def _order_axis(ax: "Axes", orderings: list[str]) -> None:
    ax.set_yticks(range(len(orderings)), [look.ordering_words(o) for o in orderings])
    ax.tick_params(left=False, bottom=False)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    for y in range(1, len(orderings)):
        if Ordering(orderings[y - 1]).bn_class != Ordering(orderings[y]).bn_class:
            ax.axhline(y - 0.5, color=look.RULE, linewidth=0.6)


def _arm_strip(
    ax: "Axes",
    results: Results,
    panel: Panel,
    ordering: str,
    y: int,
    limits: tuple[float, float],
) -> int:
    """Draw one arm; return how many of its runs lie left of the axis."""
    mark, gid = look.mark(ordering), f"o:{ordering}"
    values = _shown(results, panel, ordering)["test_accuracy_pp"].astype(float)
    rise = y - 0.16 + spread(len(values), 0.16)
    inside, left = values >= limits[0], values < limits[0]
    seeds: dict[str, Any] = {"color": mark.colour, "alpha": 0.65, "markeredgewidth": 0, "gid": gid}
    ax.plot(values[inside], rise[inside], mark.marker, markersize=3, **seeds)
    if left.any():
        edge = np.full(left.sum(), limits[0])
        ax.plot(edge, rise[left], "<", color=mark.colour, markersize=5, gid=gid, clip_on=False)
    for arm in results.table("arms").where(ordering=ordering, **panel.cell).rows():
        _mean_mark(ax, arm, y + 0.2, ordering, limits[0])
    return int(left.sum())


def _mean_mark(ax: "Axes", arm: Row, y: float, ordering: str, least: float) -> None:
    mark, gid = look.mark(ordering), f"o:{ordering}"
    mean, low, high = arm["mean"], arm["ci_low"], arm["ci_high"]
    if not known(mean) or mean < least:
        return
    if known(low) and known(high):
        ax.plot([low, high], [y, y], color=mark.colour, linewidth=1.5, gid=gid)
    edge: dict[str, Any] = {"markeredgecolor": look.PAPER, "markeredgewidth": 0.6}
    ax.plot([mean], [y], mark.marker, color=mark.colour, markersize=5, gid=gid, **edge)


def _shown(results: Results, panel: Panel, ordering: str) -> Table:
    """The runs of an arm that have a dot."""
    runs = results.runs.where(ordering=ordering, **panel.cell)
    return runs.pick(dots(runs["test_accuracy_pp"].astype(float)))


def _accuracy_data(results: Results, page: Page) -> list[Row]:
    axes = ("run", "dataset", "ordering", "bn_class", "activation", "depth", "variant", "seed")
    columns = (*axes, "status", "test_correct", "n_test", "test_accuracy_pp")
    orderings = look.in_order(results.study.orderings)
    tables = [_shown(results, panel, o) for panel in page.panels for o in orderings]
    return [{c: row[c] for c in columns if c in row} for t in tables for row in t.rows()]


# --- learning -------------------------------------------------------------------------------------


def learning(results: Results) -> list[Drawing]:
    """Test error against training steps: the mean of the seeds with its interval."""
    drawings = []
    for dataset in results.study.datasets:
        for page in pages(results, dataset, 1.75):
            figure = canvas(0.7 + 1.75 * len(page.rows))
            data = _learning_page(figure, results, page)
            if data:
                words = captions.learning(results, dataset, (page.number, page.of))
                drawings.append(finish(figure, page.key("learning", results), words, data))
    return drawings


def _learning_page(figure: "Canvas", results: Results, page: Page) -> list[Row]:
    axes = axes_of(figure, page)
    data: list[Row] = []
    for ax, panel in each(axes, page):
        ax.set_title(panel.title(results.words))
        bands = results.table("bands").where(**panel.cell)
        for ordering in look.in_order(results.study.orderings):
            data += _learning_curve(ax, bands.where(ordering=ordering), panel, ordering)
        ax.tick_params(left=False)
        ax.grid(axis="y")
    axes[0, 0].set_yscale("log")
    _error_ticks(axes[0, 0], data)
    _log_steps(axes[0, 0], results)
    below(figure, results.words.say("learning.axis"), 0.5)
    beside(figure, results.words.say("learning.side"))
    legend(figure, results.study.orderings)
    margins(figure, left=0.5, top=0.52, bottom=0.42, gaps=(0.36, 0.14))
    return data


def _learning_curve(ax: "Axes", bands: Table, panel: Panel, ordering: str) -> list[Row]:
    """Draw one arm's curve from the analysis's bands; the points drawn are its rows of data."""
    if not len(bands):
        return []
    mark, gid = look.mark(ordering), f"o:{ordering}"
    bands = bands.sorted_by("step")
    steps = bands["step"].astype(float)
    ends = (bands[f"test_accuracy_pp_{end}"].astype(float) for end in ("mean", "low", "high"))
    mean, high, low = (np.maximum(100.0 - accuracy, LEAST_ERROR) for accuracy in ends)
    ax.fill_between(steps, low, high, color=mark.colour, alpha=0.15, linewidth=0, gid=gid)
    ax.plot(steps, mean, color=mark.colour, linestyle=mark.line, gid=gid)
    columns = ("step", "n", *(f"test_accuracy_pp_{end}" for end in ("mean", "low", "high")))
    return [
        panel.cell | {"ordering": ordering} | {c: row[c] for c in columns} for row in bands.rows()
    ]


def _error_ticks(ax: "Axes", data: Sequence[Row]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    errors = [100.0 - row["test_accuracy_pp_mean"] for row in data if known(row["n"])]
    least = max(min((e for e in errors if e > 0), default=1.0), LEAST_ERROR)
    steps = [m * 10.0**e for e in range(-3, 3) for m in (1, 2, 5) if least / 2 < m * 10.0**e <= 100]
    ax.yaxis.set_major_locator(FixedLocator(steps))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.set_ylim(least / 1.3, 100)


def _log_steps(ax: "Axes", results: Results) -> None:
    """A step axis that begins at 0 and is logarithmic from the first evaluation on."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    steps = results.curves["step"].astype(float) if len(results.curves) else np.array([0.0, 1.0])
    first, last = float(steps[steps > 0].min(initial=steps.max())), float(steps.max())
    ax.set_xscale("symlog", linthresh=max(first, 1.0), linscale=0.3)
    ticks = [m * 10.0**e for e in range(7) for m in (1, 3) if first <= m * 10.0**e <= 0.75 * last]
    ticks = ticks if len(ticks) < 4 else [t for t in ticks if f"{t:g}"[0] == "1"]
    ax.xaxis.set_major_locator(FixedLocator([0.0, *ticks]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.set_xlim(0, last * 1.02)


def legend(figure: "Canvas", orderings: Sequence[str]) -> None:
    """The orderings along the top."""
    from matplotlib.lines import Line2D

    handles = []
    for ordering in look.in_order(orderings):
        mark = look.mark(ordering)
        line = Line2D([], [], color=mark.colour, linestyle=mark.line, gid=f"o:{ordering}")
        line.set_label(look.ordering_words(ordering))
        handles.append(line)
    style: dict[str, Any] = {
        "handlelength": 2.8,
        "columnspacing": 1.6,
        "borderpad": 0.0,
        "borderaxespad": 0.15,
    }
    columns = math.ceil(len(handles) / math.ceil(len(handles) / MOST_NAMES))
    figure.legend(handles=handles, loc="upper center", ncols=columns, **style)


# --- convergence ----------------------------------------------------------------------------------


def convergence(results: Results) -> list[Drawing]:
    """Share of runs still below each threshold against the step (Kaplan-Meier).

    A threshold that no run reached gets no figure: its curves would be flat lines.
    """
    drawings = []
    summary = results.table("survival_summary")
    for dataset in results.study.datasets:
        for threshold in results.study.thresholds:
            reached = summary.where(dataset=dataset, variant="base", threshold=threshold)
            if len(reached) and reached["reached"].sum() > 0:
                drawings += _survival(results, dataset, threshold)
    return drawings


def _survival(results: Results, dataset: str, threshold: float) -> list[Drawing]:
    table = results.table("survival").where(dataset=dataset, variant="base", threshold=threshold)
    drawings = []
    for page in pages(results, dataset, 1.3):
        figure = canvas(0.7 + 1.3 * len(page.rows))
        axes = axes_of(figure, page)
        data: list[Row] = []
        for ax, panel in each(axes, page):
            ax.set_title(panel.title(results.words))
            data += _survival_panel(ax, table.where(**panel.cell), results)
        axes[0, 0].set_ylim(-0.04, 1.04)
        axes[0, 0].set_yticks([0, 0.5, 1], ["0", "½", "1"])
        axes[0, 0].set_xlim(*_when(data))
        below(figure, results.words.say("convergence.axis"), 0.5)
        beside(figure, results.words.say("convergence.side", threshold=f"{threshold:g}"))
        legend(figure, results.study.orderings)
        margins(figure, left=0.5, top=0.52, bottom=0.42, gaps=(0.36, 0.14))
        words = captions.convergence(results, dataset, threshold, (page.number, page.of))
        key = page.key(f"convergence-{threshold:g}".replace(".", "-"), results)
        drawings.append(finish(figure, key, words, data))
    return drawings


def _when(data: Sequence[Row]) -> tuple[float, float]:
    """The span of steps in which the curves fall; to their end where some never reach zero."""
    falls = [float(r["step"]) for r in data if r["events"] > 0] or [0.0]
    first, last = min(falls), max(falls)
    lowest: dict[tuple[object, ...], Row] = {}
    for row in data:
        lowest[tuple(row[c] for c in ("ordering", "activation", "depth"))] = row
    if any(row["share_not_reached"] > 0 for row in lowest.values()):
        last = max(float(r["step"]) for r in data)
    pad = 0.08 * max(last - first, 1.0)
    return max(0.0, first - pad), last + pad


def _survival_panel(ax: "Axes", table: Table, results: Results) -> list[Row]:
    last = float(results.curves["step"].max()) if len(results.curves) else 1.0
    data: list[Row] = []
    ax.grid(axis="y")
    ax.tick_params(left=False)
    for ordering in look.in_order(results.study.orderings):
        arm = table.where(ordering=ordering)
        if not len(arm):
            continue
        arm = arm.sorted_by("step")
        mark, share = look.mark(ordering), arm["share_not_reached"].astype(float)
        steps = np.concatenate([[0.0], arm["step"].astype(float), [last]])
        share = np.concatenate([[1.0], share, share[-1:]])
        line: dict[str, Any] = {
            "color": mark.colour,
            "linestyle": mark.line,
            "gid": f"o:{ordering}",
        }
        ax.step(steps, share, where="post", **line)
        data += arm.rows()
    return data
