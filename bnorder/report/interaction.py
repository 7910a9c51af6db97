"""The class effect against depth, a line for each activation: do depth and activation enter?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnorder.report import captions, look
from bnorder.report.drawing import (
    Drawing,
    Row,
    below,
    beside,
    canvas,
    dots,
    finish,
    known,
    margins,
    spread,
)
from bnorder.report.results import Results
from bnorder.study import dataset_slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = ((0, ()), (0, (5, 1.5)), (0, (1.2, 1.4)), (0, (6, 1.4, 1.2, 1.4)), (0, (3, 3)))
MARKS = "ovDsP"


def interaction(results: Results) -> list[Drawing]:
    """One figure a data set, where both classes stand at the same cuts and depths differ."""
    drawings = []
    for dataset in results.study.datasets:
        rows = _rows(results, dataset)
        depths = {str(row["depth"]) for row in rows}
        if len(depths) > 1 and len(results.study.activations) <= len(LINES):
            several = len(results.study.datasets) > 1
            key = "interaction" + (f"-{dataset_slug(dataset)}" if several else "")
            drawings.append(_draw(results, dataset, rows, key))
    return drawings


def _rows(results: Results, dataset: str) -> list[Row]:
    """The class effect on accuracy in each cell of activation and depth."""
    table = results.table("class_cut").where(
        dataset=dataset, variant="base", effect="class", measure="test_accuracy_pp"
    )
    return [
        row
        for row in table.rows()
        if str(row["depth"]) != "all" and known(row["mean"]) and _of_cell(row, results)
    ]


def _of_cell(row: Row, results: Results) -> bool:
    """A study of one activation has no row for it alone."""
    return len(results.study.activations) == 1 or str(row["activation"]) != "all"


def _draw(results: Results, dataset: str, rows: Sequence[Row], key: str) -> Drawing:
    words, study = results.words, results.study
    figure = canvas(2.5)
    ax = figure.add_subplot()
    depths = sorted(study.depths)
    lines = [[r for r in rows if str(r["activation"]) in (a, "all")] for a in study.activations]
    for number, line in enumerate(lines):
        _line(ax, results, dataset, line, depths, (number, len(lines)))
    ax.axhline(0, color=look.INK, linewidth=0.7)
    ax.set_xticks(range(len(depths)), [str(d) for d in depths])
    ax.set_xlim(-0.4, len(depths) - 0.6)
    ax.grid(axis="y")
    ax.tick_params(left=False, bottom=False)
    below(figure, words.say("interaction.axis"), 0.62)
    beside(figure, words.say("interaction.side"))
    figure.legend(loc="upper center", ncols=len(lines), handlelength=3.2, borderaxespad=0.15)
    margins(figure, left=0.62, top=0.32, bottom=0.42)
    return finish(figure, key, captions.interaction(results, dataset, rows), rows)


def _line(
    ax: "Axes",
    results: Results,
    dataset: str,
    rows: Sequence[Row],
    depths: Sequence[int],
    number_of: tuple[int, int],
) -> None:
    """An activation's line; lines stand side by side, so that their intervals do not overlap."""
    number, lines = number_of
    aside = 0.16 * (number - (lines - 1) / 2)
    rows = sorted(rows, key=lambda r: int(float(r["depth"])))
    x = np.array([depths.index(int(float(r["depth"]))) for r in rows]) + aside
    means = np.array([float(r["mean"]) for r in rows])
    for at, row in zip(x, rows, strict=True):
        _seeds(ax, results, dataset, row, float(at))
        if known(row["ci_low"]) and known(row["ci_high"]):
            ax.plot([at, at], [row["ci_low"], row["ci_high"]], color=look.INK, linewidth=1.5)
    name = str(rows[0]["activation"]) if rows else ""
    activation = results.study.activations[number] if name == "all" else name
    shape: dict[str, Any] = {"marker": MARKS[number], "markersize": 5, "color": look.INK}
    shape |= {"markeredgecolor": look.PAPER, "markeredgewidth": 0.6, "linewidth": 1.0}
    label = look.activation_words(activation, results.words)
    ax.plot(x, means, linestyle=LINES[number], label=label, **shape)


def _seeds(ax: "Axes", results: Results, dataset: str, row: Row, at: float) -> None:
    seeds = results.table("class_effect_seeds").where(
        dataset=dataset, variant="base", activation=row["activation"], depth=row["depth"]
    )
    values = seeds["value"].astype(float) if len(seeds) else np.zeros(0)
    values = values[dots(values)]
    style: dict[str, Any] = {"color": look.INK, "alpha": 0.4, "markersize": 2.6}
    ax.plot(at + 0.045 + 0.3 * spread(len(values), 0.08), values, "o", markeredgewidth=0, **style)
