"""The whole grid as a heat map: a row an ordering, a column a depth and an activation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnorder.ordering import Ordering
from bnorder.report import captions, look
from bnorder.report.drawing import Drawing, Row, canvas, finish, known, label_inches, margins
from bnorder.report.results import Results
from bnorder.study import dataset_slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 9  # a mean with two decimals must fit into its cell
DARKEST = 0.45  # opacity of the worst cell; its text must stay readable in both schemes


def heat(results: Results) -> list[Drawing]:
    """Mean accuracy of every arm; shaded by its distance from the best order of its column."""
    drawings = []
    for dataset in results.study.datasets:
        columns = _columns(results, dataset)
        pages = [columns[i : i + MOST_COLUMNS] for i in range(0, len(columns), MOST_COLUMNS)]
        several = len(results.study.datasets) > 1
        key = "heat" + (f"-{dataset_slug(dataset)}" if several else "")
        for number, page in enumerate(pages):
            name = key + (f"-{number + 1}" if len(pages) > 1 else "")
            drawings.append(_page(results, dataset, page, name, (number, len(pages))))
    return drawings


def _columns(results: Results, dataset: str) -> list[list[Row]]:
    """The arms of each depth and activation that have a mean, by order."""
    arms = results.table("arms").where(dataset=dataset, variant="base")
    columns: list[list[Row]] = []
    for depth in results.study.depths:
        for activation in results.study.activations:
            cell = arms.where(depth=depth, activation=activation).rows()
            rows = {row["ordering"]: row for row in cell if known(row["mean"])}
            if rows:
                columns.append([rows[o] for o in look.in_order(rows)])
    return columns


def _page(
    results: Results,
    dataset: str,
    columns: Sequence[Sequence[Row]],
    key: str,
    page_of: tuple[int, int],
) -> Drawing:
    orderings = look.in_order(results.study.orderings)
    figure = canvas(0.62 + 0.27 * len(orderings))
    ax = figure.add_subplot()
    # a diverged run must not wash out all other shades
    distances = sorted(float(a["below_best"]) for column in columns for a in column)
    deepest = max(distances[int(0.9 * (len(distances) - 1))], 0.05)
    for x, column in enumerate(columns):
        for arm in column:
            _cell(ax, x, orderings.index(arm["ordering"]), arm, deepest)
    _axes(ax, results, columns, orderings)
    left = label_inches(look.ordering_words(o) for o in orderings)
    margins(figure, left=left, top=0.5, bottom=0.08)
    data = [
        {c: a[c] for c in ("arm", "ordering", "activation", "depth", "n", "mean", "below_best")}
        for column in columns
        for a in column
    ]
    return finish(figure, key, captions.heat(results, dataset, page_of, columns), data)


def _cell(ax: "Axes", x: int, y: int, arm: Row, deepest: float) -> None:
    from matplotlib.patches import Rectangle

    mark = look.mark(arm["ordering"])
    depth = min(float(arm["below_best"]) / deepest, 1.0)
    best = float(arm["below_best"]) == 0
    shade: dict[str, Any] = {"facecolor": mark.colour, "alpha": DARKEST * depth, "linewidth": 0}
    ax.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, gid=f"o:{arm['ordering']}", **shade))
    if best:
        frame: dict[str, Any] = {"fill": False, "edgecolor": mark.colour, "linewidth": 1.6}
        ax.add_patch(
            Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, gid=f"o:{arm['ordering']}", **frame)
        )
    weight = "bold" if best else "normal"
    text = f"{float(arm['mean']):.2f}"
    ax.text(x, y, text, ha="center", va="center", fontsize=7.5, fontweight=weight)


def _axes(
    ax: "Axes", results: Results, columns: Sequence[Sequence[Row]], orderings: Sequence[str]
) -> None:
    words = results.words
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(orderings) - 0.5, -0.5)
    labels = [
        look.activation_words(column[0]["activation"], words)
        + "\n"
        + look.depth_words(int(column[0]["depth"]), words)
        for column in columns
    ]
    ax.set_xticks(range(len(columns)), labels)
    ax.set_yticks(range(len(orderings)), [look.ordering_words(o) for o in orderings])
    ax.tick_params(left=False, bottom=False, labelbottom=False, labeltop=True)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for y in range(1, len(orderings)):
        if Ordering(orderings[y - 1]).bn_class != Ordering(orderings[y]).bn_class:
            ax.axhline(y - 0.5, color=look.INK, linewidth=0.6)
