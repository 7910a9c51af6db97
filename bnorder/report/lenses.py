"""Why, in the report: what the probes read over training and over depth, and beside accuracy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnorder.language import Language
from bnorder.language.printing import significant
from bnorder.report import captions, look, panels
from bnorder.report.drawing import (
    TALLEST,
    Drawing,
    Row,
    below,
    beside,
    canvas,
    finish,
    margins,
)
from bnorder.report.results import Results, Table
from bnorder.study import dataset_slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECADES = 30  # a range beyond this factor gets a logarithmic axis
MOMENTS = ("start", "early", "end")
LEAST_LAYERS = 3  # a line over fewer shows nothing


def drawings(results: Results) -> list[Drawing]:
    """For each probe that a claim names: over the training, then over depth."""
    found = []
    for dataset in results.study.datasets:
        for probe in _probes(results.table("probe_steps").where(dataset=dataset)):
            found += _over_training(results, dataset, probe)
        for probe in _probes(results.table("probe_layers").where(dataset=dataset)):
            found += _over_depth(results, dataset, probe)
    return found


def _probes(table: Table) -> list[str]:
    return list(dict.fromkeys(table["probe"])) if len(table) else []


def probe_words(probe: str, words: Language) -> str:
    return words.say(f"why.probe.{probe}")


def _key(start: str, results: Results, dataset: str, probe: str, number: int, of: int) -> str:
    several = f"-{dataset_slug(dataset)}" if len(results.study.datasets) > 1 else ""
    name = probe.replace("_", "-")
    return f"{start}-{name}{several}" + (f"-{number + 1}" if of > 1 else "")


def _over_training(results: Results, dataset: str, probe: str) -> list[Drawing]:
    table = results.table("probe_steps").where(dataset=dataset, probe=probe)
    made = []
    for page in panels.pages(results, dataset, 1.6):
        figure = canvas(0.8 + 1.6 * len(page.rows))
        axes = panels.axes_of(figure, page)
        data: list[Row] = []
        for ax, panel in panels.each(axes, page):
            ax.set_title(panel.title(results.words))
            where = {"activation": panel.activation, "depth": panel.depth}
            data += _lines(ax, table.where(**where), "step", results)
            ax.grid(axis="y")
        if not data:
            continue
        _steps_axis(axes[0, 0], [row["step"] for row in data])
        _value_axis(axes[0, 0], data)
        left = 0.62 + beside(figure, probe_words(probe, results.words))
        below(figure, results.words.say("why.steps"), left)
        panels.legend(figure, [str(row["ordering"]) for row in data])
        margins(figure, left=left, top=0.52, bottom=0.42, gaps=(0.36, 0.14))
        key = _key("why-training", results, dataset, probe, page.number, page.of)
        words = _words(results, dataset, probe, "training", data)
        made.append(finish(figure, key, words, data))
    return made


def _over_depth(results: Results, dataset: str, probe: str) -> list[Drawing]:
    """A row a depth, a column a moment, for the study's first activation."""
    activation = results.study.activations[0]
    where = {"dataset": dataset, "probe": probe, "activation": activation}
    table = results.table("probe_layers").where(**where)
    depths = [d for d in results.study.depths if d >= LEAST_LAYERS]
    moments = [m for m in MOMENTS if len(table.where(moment=m))]
    most = int((TALLEST - 0.8) / 1.6)
    made = []
    cut = [depths[i : i + most] for i in range(0, len(depths), most)]
    for number, part in enumerate(cut if moments else []):
        figure = canvas(0.8 + 1.6 * len(part))
        axes = figure.subplots(len(part), len(moments), sharex="row", sharey=True, squeeze=False)
        data: list[Row] = []
        for row, depth in zip(axes, part, strict=True):
            for ax, moment in zip(row, moments, strict=True):
                ax.set_title(_moment_and_depth(results.words, moment, depth))
                data += _lines(ax, table.where(depth=depth, moment=moment), "layer", results)
                ax.grid(axis="y")
                ax.xaxis.get_major_locator().set_params(integer=True)
        if not data:
            continue
        _value_axis(axes[0, 0], data)
        left = 0.62 + beside(figure, probe_words(probe, results.words))
        below(figure, results.words.say("why.layers"), left)
        panels.legend(figure, [str(row["ordering"]) for row in data])
        margins(figure, left=left, top=0.52, bottom=0.42, gaps=(0.46, 0.14))
        key = _key("why-depth", results, dataset, probe, number, len(cut))
        words = _words(results, dataset, probe, "depth", data)
        made.append(finish(figure, key, words, data))
    return made


def _moment_and_depth(words: Language, moment: str, depth: int) -> str:
    when, blocks = words.say(f"why.{moment}"), look.depth_words(depth, words)
    return words.say("cell", activation=when, depth=blocks)


def _lines(ax: "Axes", table: Table, x: str, results: Results) -> list[Row]:
    """A line and its band for each ordering; the points drawn are its rows of data."""
    data: list[Row] = []
    for ordering in look.in_order(results.study.orderings):
        rows = table.where(ordering=ordering).sorted_by(x) if len(table) else table
        if not len(rows):
            continue
        mark, gid = look.mark(ordering), f"o:{ordering}"
        at, mean, low, high = (rows[c].astype(float) for c in (x, "mean", "ci_low", "ci_high"))
        ax.fill_between(at, low, high, color=mark.colour, alpha=0.15, linewidth=0, gid=gid)
        ax.plot(at, mean, color=mark.colour, linestyle=mark.line, gid=gid)
        data += list(rows.rows())
    ax.tick_params(left=False)
    return data


def _steps_axis(ax: "Axes", steps: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    last = max(steps)
    ax.set_xscale("symlog", linthresh=1.0, linscale=0.3)
    ticks = [0.0, *(t for t in (1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0) if t <= last)]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.set_xlim(0, last * 1.1)


def _value_axis(ax: "Axes", data: Sequence[Row]) -> None:
    """Logarithmic for what spans powers of ten; labels as plain text, without mathtext."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    means = [_mean(row) for row in data if np.isfinite(_mean(row))]
    if means and 0 < DECADES * min(means) < max(means):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(numticks=6))
        ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def _words(
    results: Results, dataset: str, probe: str, over: str, data: Sequence[Row]
) -> captions.Words:
    """Message: at the last point drawn, the orders with the greatest and the least mean."""
    words, x = results.words, "step" if over == "training" else "layer"
    several = len(results.study.datasets) > 1
    on = words.say("on", dataset=look.dataset_words(dataset, words)) if several else ""
    title = words.say(f"why.title.{over}", probe=probe_words(probe, words), on=on)
    last = [row for row in data if row[x] == max(r[x] for r in data)]
    finite = [row for row in last if np.isfinite(float(row["mean"]))]
    message = ""
    if len(finite) > 1:
        most, least = max(finite, key=_mean), min(finite, key=_mean)
        message = words.say(
            "why.extremes",
            where=words.say(f"why.last.{over}"),
            most=captions.arm_words(most, words),
            greatest=significant(most["mean"]),
            least=captions.arm_words(least, words),
            smallest=significant(least["mean"]),
        )
    first = look.activation_words(results.study.activations[0], words)
    lines = captions.classes_shown(captions.LINES, results.study.orderings, words)
    reading = words.say(f"why.reading.{over}", activation=first, lines=lines)
    caption = f"{message}{words.templates['space']}{reading}".strip()
    return title, caption, words.say("why.alt", title=title, message=message)


def _mean(row: Row) -> float:
    return float(row["mean"])


# --- the page -------------------------------------------------------------------------------------


def page(results: Results) -> dict[str, Any] | None:
    """What the template needs: a claim, its rows by moment, and what they come to in words."""
    rows = list(results.table("why").rows())
    if not rows:
        return None
    about = {v["id"]: v for v in results.claims}
    found = []
    for claim in dict.fromkeys(str(row["claim"]) for row in rows):
        ours = [row for row in rows if row["claim"] == claim]
        probe = str(ours[0]["probe"])
        found.append(
            {
                "id": claim,
                "sentence": about[claim]["sentence"] if claim in about else "",
                "verdict": about[claim]["verdict"] if claim in about else "",
                "probe": probe_words(probe, results.words),
                "figures": _figures(probe),
                "rows": [
                    row
                    | {
                        "when": results.words.say(f"why.{row['moment']}"),
                        "part_words": results.words.own(row["part"])
                        if len({r["part"] for r in ours}) > 1
                        else "",
                    }
                    for row in ours
                ],
                "told": _told(ours, about.get(claim, {}).get("type", ""), results.words),
            }
        )
    shown = {claim["id"] for claim in found}
    kin = {about[claim]["family"] for claim in shown if claim in about}
    others = [v["id"] for v in results.claims if v["family"] in kin and v["id"] not in shown]
    return {"claims": found, "without": results.words.join(others)}


def _figures(probe: str) -> list[str]:
    """Starts of the names of this probe's figures."""
    from bnorder.statistics.why import LENSES

    names = [f"why-training-{probe}", f"why-depth-{LENSES[probe].layers or probe}"]
    return [name.replace("_", "-") for name in names]


def _told(rows: Sequence[Row], kind: str, words: Language) -> list[str]:
    """A sentence a part: premise, consequence, and whether they go together; last moment.

    An interaction calls no arm worse: its sentences are about a gap that moves.
    """
    told, why = [], "why.interaction" if kind == "interaction" else "why"
    parts = list(dict.fromkeys(row["part"] for row in rows))
    for part in parts:
        ours = [row for row in rows if row["part"] == part]
        premises = list(dict.fromkeys(str(row["premise_word"]) for row in ours))
        premise = premises[0] if len(premises) == 1 else "mixed"
        last = ours[-1]
        sentence = words.say(
            "why.told",
            premise=words.say(f"{why}.premise.{premise}"),
            consequence=words.say(f"{why}.consequence.{last['consequence_word']}"),
            joined=words.say("why.and" if premise == last["consequence_word"] else "why.but"),
            together=words.say(f"why.together.{last['correlation_word']}"),
        )
        own = words.say("why.of_part", part=words.own(str(part)), sentence=sentence)
        told.append(own if len(parts) > 1 else sentence)
    return told
