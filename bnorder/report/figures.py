"""The figures of the report, in its order; and the diagram of a block in each ordering."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bnorder.language import Language
from bnorder.ordering import Ordering
from bnorder.report import captions, forests, heat, interaction, ladder, lenses, look, panels
from bnorder.report.drawing import STYLE, Drawing, canvas, drawn, finish
from bnorder.report.fonts import fonts_for
from bnorder.report.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_all(results: Results) -> list[Drawing]:
    """Every figure that the results can fill, in the order of the report."""
    import matplotlib

    results = replace(results, study=drawn(results.study))

    makers: tuple[Callable[[Results], list[Drawing]], ...] = (
        panels.accuracy,
        heat.heat,
        blocks,
        forests.forest,
        forests.claims,
        panels.learning,
        panels.convergence,
        lenses.drawings,
        ladder.controls,
        interaction.interaction,
        forests.class_effect,
        forests.mixed_model,
    )
    with matplotlib.rc_context(fname=STYLE):
        _set_fonts(results.words)
        return [
            replace(drawing, script=f"{make.__module__.replace('.', '/')}.py")
            for make in makers
            for drawing in make(results)
        ]


def _set_fonts(words: Language) -> None:
    """The language's own font behind the project's."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    fonts = fonts_for(words.tag)
    if fonts is None:
        return
    if fonts.sans not in fontManager.get_font_names():  # installed since the list was made
        fontManager.addfont(fonts.file)
    matplotlib.rcParams["font.family"] = [*matplotlib.rcParams["font.family"], fonts.sans]


def blocks(results: Results) -> list[Drawing]:
    """Two blocks of a stack in each ordering, drawn from the ordering itself."""
    orderings = look.in_order(results.study.orderings)
    longest = max(len(Ordering(o).layers) for o in orderings)
    figure = canvas(0.3 + 0.36 * len(orderings))
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_axis_off()
    ax.set_xlim(0, 4.75 + 2 * (longest + 0.3))
    ax.set_ylim(len(orderings) - 0.4, -0.85)
    for y, ordering in enumerate(orderings):
        _block_row(ax, ordering, y, results.words)
    data = [
        {
            "ordering": o,
            "layers": " ".join(Ordering(o).layers),
            "class": Ordering(o).bn_class,
            "cut": Ordering(o).cut,
        }
        for o in orderings
    ]
    return [finish(figure, "blocks", captions.blocks(orderings, results.words), data)]


def _block_row(ax: "Axes", ordering: str, y: int, words: Language) -> None:
    mark = look.mark(ordering)
    ax.plot([0.12], [y], mark.marker, color=mark.colour, markersize=5)
    ax.text(0.3, y, look.ordering_words(ordering), ha="left", va="center")
    ax.text(1.98, y, words.say("blocks.input"), ha="right", va="center", fontsize=7)
    x = 2.05
    for block in (1, 2):
        left = x + 0.2
        for layer in Ordering(ordering).layers:
            x = _layer(ax, x + 0.2, y, layer, mark)
        line: dict[str, Any] = {"color": mark.colour, "linewidth": 1.1, "linestyle": mark.line}
        ax.plot([left, x], [y + 0.37] * 2, **line)
        if y == 0:
            name = words.say("blocks.block", n=block)
            ax.text((left + x) / 2, -0.6, name, ha="center", va="center", fontsize=7)
        x += 0.1
    ax.plot([x - 0.1, x + 0.1], [y, y], color=look.INK, linewidth=0.6)
    ax.text(x + 0.15, y, words.say("blocks.classifier"), ha="left", va="center", fontsize=7)


def _layer(ax: "Axes", x: float, y: int, layer: str, mark: look.Mark) -> float:
    """Draw a layer and the line that reaches it; return its right edge."""
    from matplotlib.patches import Rectangle

    fill = {"conv": look.BAND, "bn": mark.colour, "act": look.PAPER}[layer]
    # a tint, so that ink stays readable on every ordering's colour, on light and on dark paper
    tint = 0.35 if layer == "bn" else 1.0
    ax.add_patch(Rectangle((x, y - 0.25), 0.8, 0.5, facecolor=fill, alpha=tint, linewidth=0))
    box = {"facecolor": "none", "edgecolor": look.INK, "linewidth": 0.6}
    ax.plot([x - 0.2, x], [y, y], color=look.INK, linewidth=0.6)
    ax.add_patch(Rectangle((x, y - 0.25), 0.8, 0.5, **box))  # type: ignore[arg-type]
    ax.text(
        x + 0.4,
        y,
        look.LAYER_WORDS[layer],
        ha="center",
        va="center_baseline",
        fontsize=7,
    )
    return x + 0.8
