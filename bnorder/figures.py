"""One function a figure: tables in, a drawing with its caption, alternative text and data out."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnorder import captions, look
from bnorder.results import Results, Table
from bnorder.ordering import Ordering

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

STYLE = look.TEMPLATES / "style.mplstyle"
WIDTH = 6.7  # inches: the text width of an A4 page
TALLEST = 8.4  # inches: a figure and its caption still fit on a page
MOST_COLUMNS = 4
LEAST_ERROR = 1e-3  # percent: an error of 0 cannot stand on a log axis


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

    @property
    def rows(self) -> int:
        return self.data.count("\n") - 1


@dataclass(frozen=True)
class Panel:
    """One small multiple: a data set, a depth, an activation of the base recipe."""

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


def draw_all(results: Results) -> list[Drawing]:
    """Every figure that the results can fill, in the order of the report."""
    import matplotlib

    with matplotlib.rc_context(fname=STYLE):
        drawings = [*accuracy(results), blocks(results), forest(results)]
        drawings += [claim(verdict) for verdict in results.claims]
        drawings += [*learning(results), *convergence(results), class_effect(results)]
        drawings += [mixed_model(results)]
    return [d for d in drawings if d is not None]


def _finish(
    canvas: "Canvas",
    key: str,
    title: str,
    caption: str,
    alt: str,
    data: Sequence[Mapping[str, Any]],
) -> Drawing:
    svg, png = io.StringIO(), io.BytesIO()
    canvas.savefig(svg, format="svg", metadata={"Title": alt, "Date": None, "Creator": "bnorder"})
    canvas.savefig(png, format="png", metadata={"Title": alt, "Software": "bnorder"})
    return Drawing(key, title, caption, alt, svg.getvalue(), png.getvalue(), as_csv(data))


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
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


def _canvas(height: float) -> "Canvas":
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height))


def _grid_of_panels(results: Results, dataset: str) -> list[list[Panel]]:
    """Rows of panels: a row a depth, a column an activation; wrapped when there are many."""
    study = results.study
    acts, depths = study.activations, study.depths
    if len(acts) == 1 or (len(acts) > MOST_COLUMNS >= len(depths)):
        rows = [[Panel(dataset, d, a) for d in depths] for a in acts]
    else:
        rows = [[Panel(dataset, d, a) for a in acts] for d in depths]
    wrapped: list[list[Panel]] = []
    for row in rows:
        wrapped += [row[i : i + MOST_COLUMNS] for i in range(0, len(row), MOST_COLUMNS)]
    return wrapped


def _pages(rows: list[list[Panel]], row_height: float) -> list[list[list[Panel]]]:
    most = max(1, int(TALLEST / row_height))
    return [rows[i : i + most] for i in range(0, len(rows), most)]


def _panel_title(panel: Panel) -> str:
    return f"{look.activation_words(panel.activation)}, {look.depth_words(panel.depth)}"


def _base_datasets(results: Results) -> list[str]:
    return list(results.study.datasets)


def robust_limits(values: np.ndarray, share: float = 0.06) -> tuple[float, float]:
    """Axis limits that a few runs far below the rest do not flatten.

    values: (n,) percentage points. Runs more than four quartile ranges below the first quartile
    are left out of the range; the figure marks them at its edge.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 100.0
    first, third = np.percentile(finite, [25, 75])
    low = max(float(finite.min()), float(first - 4 * max(third - first, 0.05)))
    kept = finite[finite >= low]
    low, high = float(kept.min()), float(kept.max())
    pad = share * max(high - low, 0.1)
    return low - pad, high + pad


# --- final accuracy of every run --------------------------------------------------------------


def accuracy(results: Results) -> list[Drawing]:
    """Final test accuracy: every seed a mark, the mean and its interval beneath, panel by panel."""
    orderings = look.in_order(results.study.orderings)
    row_height = 0.55 + 0.27 * len(orderings)
    drawings = []
    for dataset in _base_datasets(results):
        runs = results.runs.where(dataset=dataset, variant="base")
        limits = robust_limits(runs["test_accuracy_pp"].astype(float))
        pages = _pages(_grid_of_panels(results, dataset), row_height)
        for number, page in enumerate(pages):
            canvas = _canvas(0.35 + row_height * len(page))
            outside = _accuracy_page(canvas, results, page, orderings, limits)
            words = captions.accuracy(
                results, dataset, page_of=(number, len(pages)), outside=outside
            )
            data = _accuracy_data(results, page)
            key = "accuracy" + _suffix(results, dataset, number, len(pages))
            drawings.append(_finish(canvas, key, *words, data))
    return drawings


def _suffix(results: Results, dataset: str, number: int, pages: int) -> str:
    from bnorder.study import dataset_slug

    several = len(results.study.datasets) > 1
    return (f"-{dataset_slug(dataset)}" if several else "") + (
        f"-{number + 1}" if pages > 1 else ""
    )


def _axes(canvas: "Canvas", page: list[list[Any]]) -> "np.ndarray":
    """(rows, columns) axes on one shared scale; panels that a short row lacks are left out."""
    columns = max(len(row) for row in page)
    axes = canvas.subplots(len(page), columns, sharex=True, sharey=True, squeeze=False)
    for row, panels in enumerate(page):
        for column in range(len(panels), columns):
            axes[row, column].set_visible(False)
    return axes


def _accuracy_page(
    canvas: "Canvas",
    results: Results,
    page: list[list[Panel]],
    orderings: list[str],
    limits: tuple[float, float],
) -> int:
    axes = _axes(canvas, page)
    outside = 0
    for row, panels in enumerate(page):
        for column, panel in enumerate(panels):
            ax = axes[row, column]
            ax.set_title(_panel_title(panel))
            for y, ordering in enumerate(orderings):
                outside += _arm_strip(ax, results, panel, ordering, y, limits)
            _order_axis(ax, orderings, labelled=column == 0)
            ax.set_xlim(*limits)
            ax.grid(axis="x")
        axes[row, 0].set_ylim(len(orderings) - 0.4, -0.6)
    canvas.supxlabel("test accuracy at the last epoch (%)", fontsize=8)
    canvas.tight_layout(pad=0.3, h_pad=1.0, w_pad=0.8)
    return outside


def _order_axis(ax: "Axes", orderings: list[str], *, labelled: bool) -> None:
    ax.set_yticks(range(len(orderings)), [look.ordering_words(o) for o in orderings])
    ax.tick_params(axis="y", length=0, labelleft=labelled)
    ax.spines["left"].set_visible(False)
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
    mark = look.mark(ordering)
    runs = results.runs.where(ordering=ordering, **panel.cell)
    values = runs["test_accuracy_pp"].astype(float)
    inside = values >= limits[0]
    rise = y - 0.16 + _spread(len(values), 0.16)
    ax.plot(
        values[inside],
        rise[inside],
        mark.marker,
        color=mark.colour,
        markersize=3,
        alpha=0.65,
        markeredgewidth=0,
        gid=f"o:{ordering}",
    )
    if not inside.all():
        edge = np.full((~inside).sum(), limits[0])
        ax.plot(edge, rise[~inside], "<", color=mark.colour, markersize=4, gid=f"o:{ordering}")
    for arm in results.table("arms").where(ordering=ordering, **panel.cell).rows():
        _interval(ax, arm["mean"], arm["ci_low"], arm["ci_high"], y + 0.2, mark, ordering, limits)
    return int((~inside).sum())


def _interval(
    ax: "Axes",
    mean: float | None,
    low: float | None,
    high: float | None,
    y: float,
    mark: look.Mark,
    ordering: str,
    limits: tuple[float, float],
) -> None:
    if not _is_number(mean) or mean < limits[0]:
        return
    if _is_number(low) and _is_number(high):
        ends = [max(low, limits[0]), min(high, limits[1])]
        ax.plot(ends, [y, y], color=mark.colour, linewidth=1.5, gid=f"o:{ordering}")
    ax.plot(
        [mean],
        [y],
        mark.marker,
        color=mark.colour,
        markersize=5,
        markeredgecolor=look.PAPER,
        markeredgewidth=0.6,
        gid=f"o:{ordering}",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (float, np.floating)) and math.isfinite(value)


def _spread(n: int, half: float) -> np.ndarray:
    """(n,) offsets that keep neighbouring seeds apart, the same for every arm."""
    if n <= 1:
        return np.zeros(n)
    steps = (np.arange(n) * 0.618033988749895) % 1.0  # golden ratio: even, without a pattern
    return np.asarray((steps * 2 - 1) * half)


def _accuracy_data(results: Results, page: list[list[Panel]]) -> list[dict[str, Any]]:
    columns = ("run", "dataset", "ordering", "bn_class", "activation", "depth", "variant", "seed")
    columns += ("status", "test_correct", "n_test", "test_accuracy_pp")
    rows = []
    for panel in (p for row in page for p in row):
        table = results.runs.where(**panel.cell)
        rows += [{c: row[c] for c in columns if c in row} for row in table.rows()]
    return rows


# --- a block in each ordering -----------------------------------------------------------------


def blocks(results: Results) -> Drawing:
    """The last two blocks of a stack in each ordering, drawn from the ordering itself."""
    orderings = look.in_order(results.study.orderings)
    canvas = _canvas(0.5 + 0.42 * len(orderings))
    ax = canvas.add_axes((0.005, 0.01, 0.99, 0.98))
    ax.set_axis_off()
    longest = max(len(Ordering(o).layers) for o in orderings)
    ax.set_xlim(0, 3.35 + 2 * (longest + 0.35) + 2.1)
    ax.set_ylim(len(orderings) - 0.4, -0.9)
    for x, words in ((1.95, "the order"), (3.35 + longest + 0.1, "two blocks of it, stacked")):
        ax.text(x, -0.72, words, ha="center" if x > 2 else "right", va="center", fontsize=7.5)
    for y, ordering in enumerate(orderings):
        _block_row(ax, ordering, y, longest)
    data = [
        {
            "ordering": o,
            "layers": " ".join(Ordering(o).layers),
            "class": Ordering(o).bn_class,
            "cut": Ordering(o).cut,
        }
        for o in orderings
    ]
    return _finish(canvas, "blocks", *captions.blocks(orderings), data)


def _block_row(ax: "Axes", ordering: str, y: int, longest: int) -> None:
    mark = look.mark(ordering)
    ax.text(1.95, y, look.ordering_words(ordering), ha="right", va="center", fontsize=8)
    ax.plot([0.1], [y], mark.marker, color=mark.colour, markersize=5)
    x = _box(ax, 2.1, y, 1.05, "input", look.PAPER, look.INK, dashed=True)
    for _ in range(2):
        start = x + 0.12
        for layer in Ordering(ordering).layers:
            fill = {"conv": look.BAND, "bn": mark.colour, "act": look.PAPER}[layer]
            ink = look.PAPER if layer == "bn" else look.INK
            x = _box(ax, x + 0.17, y, 0.83, look.LAYER_WORDS[layer], fill, ink)
        ax.plot(
            [start - 0.02, x + 0.05],
            [y + 0.36] * 2,
            color=mark.colour,
            linewidth=1,
            linestyle=mark.line,
        )
        x += 0.18
    _box(ax, x + 0.05, y, 1.35, "classifier", look.PAPER, look.INK, dashed=True)


def _box(
    ax: "Axes",
    x: float,
    y: float,
    width: float,
    words: str,
    fill: str,
    ink: str,
    *,
    dashed: bool = False,
) -> float:
    """Draw a layer with the arrow that reaches it; return its right edge."""
    from matplotlib.patches import Rectangle

    style = {"linestyle": (0, (2, 1.5))} if dashed else {}
    ax.add_patch(
        Rectangle(
            (x, y - 0.25), width, 0.5, facecolor=fill, edgecolor=look.INK, linewidth=0.6, **style
        )
    )
    ax.text(x + width / 2, y + 0.015, words, ha="center", va="center", fontsize=7, color=ink)
    if x > 2.2:
        ax.plot([x - 0.15, x], [y, y], color=look.INK, linewidth=0.6)
    return x + width


# --- claims -----------------------------------------------------------------------------------


def forest(results: Results) -> Drawing | None:
    """Every tested claim's effect on one axis: mean, 95 % interval, its own margin."""
    parts = [
        (verdict, part)
        for verdict in results.claims
        for part in verdict["parts"]
        if part["unit"] == "pp" and verdict["type"] != "threshold" and _is_number(part["mean"])
    ]
    if len(parts) < 2:
        return None
    canvas = _canvas(0.75 + 0.235 * len(parts))
    ax = canvas.add_subplot()
    for y, (verdict, part) in enumerate(parts):
        _forest_row(ax, y, verdict, part)
    ax.axvline(0, color=look.INK, linewidth=0.6)
    ax.set_yticks(range(len(parts)), [_part_label(v, p) for v, p in parts])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(parts) - 0.4, -0.6)
    ax.set_xlabel("effect in percentage points (right of zero: as the claim says)")
    ax.grid(axis="x")
    canvas.tight_layout(pad=0.3)
    data = [
        {"claim": v["id"], "part": p["name"], "verdict": v["verdict"]}
        | {k: p[k] for k in ("mean", "ci_low", "ci_high", "margin", "n")}
        for v, p in parts
    ]
    return _finish(canvas, "forest", *captions.forest(results, parts), data)


def _part_label(verdict: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    words = f"{verdict['id']}: {part['name']}" if part["name"] else str(verdict["id"])
    return words if len(words) <= 44 else words[:43] + "…"


VERDICT_MARKS = {
    "supported": ("o", look.INK),
    "contradicted": ("X", look.INK),
    "negligible": ("d", look.INK),
    "inconclusive": ("o", look.PAPER),
    "not tested": ("o", look.PAPER),
}


def _forest_row(ax: "Axes", y: int, verdict: Mapping[str, Any], part: Mapping[str, Any]) -> None:
    if _is_number(part["margin"]):
        ax.barh(y, 2 * part["margin"], left=-part["margin"], height=0.62, color=look.BAND)
    if _is_number(part["ci_low"]) and _is_number(part["ci_high"]):
        ax.plot([part["ci_low"], part["ci_high"]], [y, y], color=look.INK, linewidth=1.3)
    shape, fill = VERDICT_MARKS[verdict["verdict"]]
    ax.plot([part["mean"]], [y], shape, markersize=5, color=look.INK, markerfacecolor=fill)


def claim(verdict: Mapping[str, Any]) -> Drawing | None:
    """A claim's evidence: one contrast a seed, the mean, its 95 % interval and the margin."""
    parts = [p for p in verdict["parts"] if any(_is_number(v) for v in p["values"])]
    if not parts:
        return None
    units = list(dict.fromkeys(p["unit"] for p in parts))
    groups = [[p for p in parts if p["unit"] == unit] for unit in units]
    heights = [0.62 + 0.42 * len(group) for group in groups]
    canvas = _canvas(sum(heights))
    axes = canvas.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, group in zip(axes, groups, strict=True):
        _claim_axis(ax, verdict, group)
    canvas.tight_layout(pad=0.3, h_pad=0.6)
    data = [
        {"claim": verdict["id"], "part": p["name"], "seed": s, "value": v, "unit": p["unit"]}
        for p in parts
        for s, v in zip(p["seeds"], p["values"], strict=True)
    ]
    key = "claim-" + str(verdict["id"])
    return _finish(canvas, key, *captions.claim(verdict), data)


def _claim_axis(ax: "Axes", verdict: Mapping[str, Any], parts: list[Mapping[str, Any]]) -> None:
    threshold = verdict["type"] == "threshold"
    for y, part in enumerate(parts):
        _claim_row(ax, y, part)
    ax.axvline(0, color=look.INK, linewidth=0.7)
    ax.set_yticks(range(len(parts)), [_wrapped(p["name"] or verdict["id"]) for p in parts])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(parts) - 0.45, -0.55)
    unit = "percentage points" if parts[0]["unit"] == "pp" else parts[0]["unit"]
    what = "accuracy above the threshold" if threshold else str(parts[0]["measure"])
    ax.set_xlabel(f"{what}{f', {unit}' if unit else ''}, within seed")
    ax.grid(axis="x")


def _wrapped(words: str, width: int = 26) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(str(words), width)[:2])


def _claim_row(ax: "Axes", y: int, part: Mapping[str, Any]) -> None:
    if _is_number(part["margin"]):
        ax.barh(y, 2 * part["margin"], left=-part["margin"], height=0.86, color=look.BAND)
    values = np.array([float(v) for v in part["values"] if _is_number(v)])
    offsets = y - 0.2 + _spread(len(values), 0.14)
    ax.plot(values, offsets, "o", color=look.INK, alpha=0.45, markersize=3.2, markeredgewidth=0)
    if _is_number(part["ci_low"]) and _is_number(part["ci_high"]):
        ax.plot([part["ci_low"], part["ci_high"]], [y + 0.2] * 2, color=look.INK, linewidth=1.6)
    if _is_number(part["mean"]):
        ax.plot([part["mean"]], [y + 0.2], "D", color=look.INK, markersize=4.5)


# --- learning and convergence -------------------------------------------------------------------


def learning(results: Results) -> list[Drawing]:
    """Test error against training steps: the mean of the seeds with its interval."""
    drawings = []
    row_height = 1.75
    for dataset in _base_datasets(results):
        pages = _pages(_grid_of_panels(results, dataset), row_height)
        for number, page in enumerate(pages):
            canvas = _canvas(0.55 + row_height * len(page))
            data = _learning_page(canvas, results, page)
            if not data:
                continue
            words = captions.learning(results, dataset, page_of=(number, len(pages)))
            key = "learning" + _suffix(results, dataset, number, len(pages))
            drawings.append(_finish(canvas, key, *words, data))
    return drawings


def _learning_page(
    canvas: "Canvas", results: Results, page: list[list[Panel]]
) -> list[dict[str, Any]]:
    axes = _axes(canvas, page)
    data: list[dict[str, Any]] = []
    for row, panels in enumerate(page):
        for column, panel in enumerate(panels):
            ax = axes[row, column]
            ax.set_title(_panel_title(panel))
            bands = results.table("bands").where(**panel.cell)
            for ordering in look.in_order(results.study.orderings):
                data += _learning_curve(ax, bands.where(ordering=ordering), panel, ordering)
            ax.set_xscale("symlog", linthresh=_first_step(results.curves), linscale=0.3)
            ax.set_yscale("log")
            _plain_log(ax)
            ax.grid(axis="y")
    canvas.supxlabel("training steps (log scale)", fontsize=8)
    canvas.supylabel("test error (%, log scale)", fontsize=8)
    _legend(canvas, look.in_order(results.study.orderings))
    return data


def _first_step(curves: Table) -> float:
    steps = curves["step"][curves["step"] > 0]
    return float(steps.min()) if len(steps) else 1.0


def _plain_log(ax: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.tick_params(axis="y", which="minor", length=0)
    ax.tick_params(axis="x", which="minor", length=1.5)


def _learning_curve(ax: "Axes", bands: Table, panel: Panel, ordering: str) -> list[dict[str, Any]]:
    """Draw one arm's curve from the analysis's bands; the points drawn are its rows of data."""
    if not len(bands):
        return []
    mark = look.mark(ordering)
    bands = bands.sorted_by("step")
    steps = bands["step"].astype(float)
    mean, high, low = (
        np.maximum(100.0 - bands[f"test_accuracy_pp_{end}"].astype(float), LEAST_ERROR)
        for end in ("mean", "low", "high")
    )
    ax.fill_between(
        steps, low, high, color=mark.colour, alpha=0.15, linewidth=0, gid=f"o:{ordering}"
    )
    ax.plot(steps, mean, color=mark.colour, linestyle=mark.line, gid=f"o:{ordering}")
    columns = ("step", "n", *(f"test_accuracy_pp_{end}" for end in ("mean", "low", "high")))
    return [
        panel.cell | {"ordering": ordering} | {c: row[c] for c in columns} for row in bands.rows()
    ]


def _legend(canvas: "Canvas", orderings: Sequence[str], *, top: bool = True) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for ordering in orderings:
        mark = look.mark(ordering)
        handles.append(
            Line2D(
                [],
                [],
                color=mark.colour,
                linestyle=mark.line,
                marker=mark.marker,
                markersize=4,
                label=look.ordering_words(ordering),
            )
        )
    height = canvas.get_figheight()
    columns = min(len(handles), 6)
    lines = math.ceil(len(handles) / columns)
    canvas.tight_layout(pad=0.3, h_pad=0.8, w_pad=0.6, rect=(0, 0, 1, 1 - 0.2 * lines / height))
    canvas.legend(
        handles=handles,
        loc="upper center",
        ncols=columns,
        handlelength=2.6,
        columnspacing=1.4,
        borderpad=0,
        borderaxespad=0.1,
    )


def convergence(results: Results) -> list[Drawing]:
    """Share of runs still below each threshold against the step (Kaplan-Meier)."""
    survival = results.table("survival")
    drawings = []
    if not len(survival):
        return []
    for dataset in _base_datasets(results):
        rows = _grid_of_panels(results, dataset)
        for threshold in results.study.thresholds:
            table = survival.where(dataset=dataset, variant="base", threshold=threshold)
            if not len(table):
                continue
            drawings += _survival_pages(results, table, dataset, threshold, rows)
    return drawings


def _survival_pages(
    results: Results, table: Table, dataset: str, threshold: float, rows: list[list[Panel]]
) -> list[Drawing]:
    row_height = 1.45
    drawings = []
    pages = _pages(rows, row_height)
    for number, page in enumerate(pages):
        canvas = _canvas(0.55 + row_height * len(page))
        axes = _axes(canvas, page)
        for row, panels in enumerate(page):
            for column, panel in enumerate(panels):
                _survival_panel(axes[row, column], table.where(**panel.cell), panel, results)
        canvas.supxlabel("training steps", fontsize=8)
        canvas.supylabel(f"share of runs still below {threshold:g} %", fontsize=8)
        _legend(canvas, look.in_order(results.study.orderings))
        words = captions.convergence(results, dataset, threshold, page_of=(number, len(pages)))
        key = f"convergence-{threshold:g}" + _suffix(results, dataset, number, len(pages))
        data = [_without_trace(r) for p in sum(page, []) for r in table.where(**p.cell).rows()]
        drawings.append(_finish(canvas, key, *words, data))
    return drawings


def _without_trace(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row)


def _survival_panel(ax: "Axes", table: Table, panel: Panel, results: Results) -> None:
    ax.set_title(_panel_title(panel))
    last = float(results.curves["step"].max()) if len(results.curves) else 1.0
    for ordering in look.in_order(results.study.orderings):
        arm = table.where(ordering=ordering)
        if not len(arm):
            continue
        mark = look.mark(ordering)
        order = np.argsort(arm["step"])
        steps = np.concatenate([[0.0], arm["step"][order].astype(float), [last]])
        share = arm["share_not_reached"][order].astype(float)
        share = np.concatenate([[1.0], share, share[-1:]])
        ax.step(
            steps, share, where="post", color=mark.colour, linestyle=mark.line, gid=f"o:{ordering}"
        )
    ax.set_ylim(-0.04, 1.04)
    ax.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    ax.set_xlim(0, last)
    ax.grid(axis="y")


# --- exploration --------------------------------------------------------------------------------


def class_effect(results: Results) -> Drawing | None:
    """Class and cut effects by activation and depth, as exploration."""
    table = results.table("class_cut")
    rows = [
        r
        for r in (table.where(variant="base").rows() if len(table) else [])
        if r["effect"] == "class"
        and r["unit"] == "pp"
        and _is_number(r["mean"])
        and str(r["measure"]).startswith("test acc")
    ]
    if len(rows) < 2:
        return None
    canvas = _canvas(0.6 + 0.26 * len(rows))
    ax = canvas.add_subplot()
    labels = []
    for y, row in enumerate(rows):
        whole = str(row["activation"]) == "all" and str(row["depth"]) == "all"
        if _is_number(row["ci_low"]) and _is_number(row["ci_high"]):
            ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=look.INK, linewidth=1.4)
        ax.plot([row["mean"]], [y], "D" if whole else "o", color=look.INK, markersize=5)
        labels.append(captions.cell_words(row, several=len(results.study.datasets) > 1))
    ax.axvline(0, color=look.INK, linewidth=0.6)
    ax.set_yticks(range(len(rows)), labels)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("BN first − activation first, test accuracy (percentage points)")
    ax.grid(axis="x")
    canvas.tight_layout(pad=0.3)
    return _finish(canvas, "class-effect", *captions.class_effect(rows), rows)


def mixed_model(results: Results) -> Drawing | None:
    """Fixed effects of the mixed model: estimate and 95 % interval, as exploration."""
    model = results.mixed_model
    effects = [e for e in model.get("effects", []) if _is_number(e["estimate"])] if model else []
    effects = [e for e in effects if str(e["term"]).lower() not in {"intercept", "(intercept)"}]
    if not model or not model.get("fitted") or not effects:
        return None
    effects = effects[:32]
    canvas = _canvas(0.6 + 0.22 * len(effects))
    ax = canvas.add_subplot()
    for y, effect in enumerate(effects):
        if _is_number(effect["ci_low"]) and _is_number(effect["ci_high"]):
            ax.plot([effect["ci_low"], effect["ci_high"]], [y, y], color=look.INK, linewidth=1.3)
        ax.plot([effect["estimate"]], [y], "o", color=look.INK, markersize=4)
    ax.axvline(0, color=look.INK, linewidth=0.6)
    ax.set_yticks(range(len(effects)), [captions.term_words(str(e["term"])) for e in effects])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(effects) - 0.4, -0.6)
    ax.set_xlabel("estimate (percentage points of test accuracy)")
    ax.grid(axis="x")
    canvas.tight_layout(pad=0.3)
    return _finish(canvas, "mixed-model", *captions.mixed_model(model), effects)
