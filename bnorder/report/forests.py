"""Figures with a row an effect: claims, the class effect, the mixed model."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnorder.language import Language
from bnorder.report import captions, look
from bnorder.report.drawing import (
    Drawing,
    Row,
    canvas,
    dots,
    finish,
    interval_line,
    known,
    label_inches,
    margin_band,
    margins,
    named_rows,
    spread,
    wrapped,
    zero,
)
from bnorder.report.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VERDICT_MARKS = {  # marker, filled
    "supported": ("o", True),
    "contradicted": ("X", True),
    "negligible": ("d", True),
    "inconclusive": ("o", False),
    "not tested": ("o", False),
}
MOST_EFFECTS = 30


def forest(results: Results) -> list[Drawing]:
    """Every tested effect in percentage points on one axis: mean, 95 % interval, its own margin."""
    parts = [
        (verdict, part)
        for verdict in results.claims
        for part in verdict["parts"]
        if part["unit"] == "pp" and verdict["type"] != "threshold" and known(part["mean"])
    ]
    if len(parts) < 2:
        return []
    labels = [wrapped(f"{v['id']}  {_part_name(v, p)}".strip(), 38) for v, p in parts]
    figure = canvas(0.5 + 0.27 * len(parts))
    ax = figure.add_subplot()
    for y, (_, part) in enumerate(parts):
        _forest_row(ax, y, part)
    named_rows(ax, labels)
    zero(ax)
    ax.set_xlabel(results.words.say("forest.axis"))
    margins(figure, left=label_inches(labels), top=0.05, bottom=0.42)
    data = [
        {"claim": v["id"], "part": p["name"], "verdict": p["verdict"]}
        | {k: p[k] for k in ("mean", "ci_low", "ci_high", "margin", "n")}
        for v, p in parts
    ]
    return [finish(figure, "forest", captions.forest(parts, results), data)]


def _forest_row(ax: "Axes", y: int, part: Row) -> None:
    margin_band(ax, part["margin"], y, 0.66)
    interval_line(ax, part, y)
    marker, filled = VERDICT_MARKS[part["verdict"]]
    fill = look.INK if filled else look.PAPER
    size = 7 if marker == "X" else 5  # a small cross passes for a diamond
    ax.plot([part["mean"]], [y], marker, markersize=size, color=look.INK, markerfacecolor=fill)


def claims(results: Results) -> list[Drawing]:
    """The evidence of every claim that was tested, families together."""
    drawings = (claim(v, "claim-" + look.slug(v["id"]), results.words) for v in results.by_family())
    return [drawing for drawing in drawings if drawing is not None]


def claim(verdict: Row, key: str, words: Language) -> Drawing | None:
    """A claim's evidence: one contrast a seed, the mean, its 95 % interval and the margin."""
    parts = [p for p in verdict["parts"] if any(known(v) for v in p["values"])]
    if not parts:
        return None
    groups: list[list[Row]] = []
    for part in parts:  # parts on one scale share an axis
        if groups and _scale(groups[-1][0]) == _scale(part):
            groups[-1].append(part)
        else:
            groups.append([part])
    rows = [0.4 * len(group) for group in groups]
    figure = canvas(sum(rows) + 0.5 * len(groups))
    axes = figure.subplots(len(groups), 1, squeeze=False, height_ratios=rows)[:, 0]
    labels = [_part_words(verdict, p, len(parts)) for p in parts]
    for ax, group in zip(axes, groups, strict=True):
        _claim_axis(ax, verdict, group, len(parts), words)
    left = label_inches(labels) if any(labels) else 0.3  # half a tick's label may stand there
    margins(figure, left=left, right=0.25, top=0.05, bottom=0.42, gaps=(0.5, 0.0))
    data = [
        {"claim": verdict["id"], "part": p["name"], "seed": s, "value": v, "unit": p["unit"]}
        for p in parts
        for s, v in _shown(p)
    ]
    return finish(figure, key, captions.claim(verdict, words), data)


def _scale(part: Row) -> tuple[str, str]:
    return str(part["measure"]), str(part["unit"])


def _part_words(verdict: Row, part: Row, parts: int) -> str:
    return wrapped(_part_name(verdict, part)) if parts > 1 else ""


def _part_name(verdict: Row, part: Row) -> str:
    """A part's name; which of many contrasts it is of, in brackets, stands in the text."""
    name = str(part["name"])
    return re.split(r" \(|（", name)[0] if captions.crossed(verdict) else name


def _claim_axis(ax: "Axes", verdict: Row, parts: Sequence[Row], of: int, words: Language) -> None:
    for y, part in enumerate(parts):
        _claim_row(ax, y, part)
        if verdict["type"] != "threshold":  # a threshold has no margin
            margin_band(ax, part["margin"], y, 0.9)
    named_rows(ax, [_part_words(verdict, p, of) for p in parts])
    zero(ax)
    what = look.measure_words(str(parts[0]["measure"]), words)
    if verdict["type"] == "threshold":
        what = words.say("claim.above_threshold", measure=what)
    unit = words.say(f"unit.{parts[0]['unit']}")
    ax.set_xlabel(words.say("claim.axis", measure=what, unit=unit))


def _claim_row(ax: "Axes", y: int, part: Row) -> None:
    values = np.array([float(v) for _, v in _shown(part) if known(v)])
    offsets = y - 0.18 + spread(len(values), 0.15)
    ax.plot(values, offsets, "o", color=look.INK, alpha=0.5, markersize=3.4, markeredgewidth=0)
    interval_line(ax, part, y + 0.24, 1.7)
    if known(part["mean"]):
        ax.plot([part["mean"]], [y + 0.24], "D", color=look.INK, markersize=4.5)


def _shown(part: Row) -> list[tuple[object, object]]:
    """The seeds and values of a part that have a dot."""
    pairs = list(zip(part["seeds"], part["values"], strict=True))
    values = np.array([float(v) if known(v) else math.nan for _, v in pairs])
    return [pairs[i] for i in dots(values)]


def class_effect(results: Results) -> list[Drawing]:
    """The class effect by activation and depth, as exploration."""
    rows = [
        row
        for row in results.table("class_cut").where(variant="base", effect="class").rows()
        if row["measure"] == "test_accuracy_pp" and known(row["mean"]) and _drawn(row, results)
    ]
    if len(rows) < 2:
        return []
    several = len(results.study.datasets) > 1
    labels = [captions.cell_words(r, results.words, several=several) for r in rows]
    figure = canvas(0.5 + 0.22 * len(rows))
    ax = figure.add_subplot()
    for y, row in enumerate(rows):
        whole = str(row["activation"]) == "all" and str(row["depth"]) == "all"
        interval_line(ax, row, y)
        ax.plot([row["mean"]], [y], "D" if whole else "o", color=look.INK, markersize=5)
    named_rows(ax, labels)
    zero(ax)
    ax.set_xlabel(results.words.say("class_effect.axis"))
    margins(figure, left=label_inches(labels), top=0.05, bottom=0.42)
    return [finish(figure, "class-effect", captions.class_effect(results, rows), rows)]


def _drawn(row: Row, results: Results) -> bool:
    """Is it over all activations and depths, or one of those that figures show?"""
    activations = {"all", *results.study.activations}
    depths = {"all", *map(str, results.study.depths)}
    return str(row["activation"]) in activations and str(row["depth"]) in depths


def mixed_model(results: Results) -> list[Drawing]:
    """Fixed effects of the mixed model: estimate and 95 % interval, as exploration."""
    found = model_effects(results.mixed_model)
    effects = found[:MOST_EFFECTS]
    if not effects:
        return []
    labels = [captions.term_words(str(e["term"]), results.words) for e in effects]
    figure = canvas(0.5 + 0.19 * len(effects))
    ax = figure.add_subplot()
    for y, effect in enumerate(effects):
        interval_line(ax, effect, y, 1.3)
        ax.plot([effect["estimate"]], [y], "o", color=look.INK, markersize=4)
    named_rows(ax, labels)
    zero(ax)
    ax.set_xlabel(results.words.say("mixed.axis"))
    margins(figure, left=min(label_inches(labels), 3.6), top=0.05, bottom=0.42)
    words = captions.mixed_model(results, effects, some=len(effects) < len(found))
    return [finish(figure, "mixed-model", words, effects)]


def model_effects(model: Row) -> list[Row]:
    """The model's effects but for the overall mean and that of the data sets, in sizes of their
    own: no axis could hold them beside the others."""
    if not model or not model.get("fitted"):
        return []
    return [
        e
        for e in model["effects"]
        if known(e["estimate"])
        and str(e["term"]).lower() not in {"mean", "intercept", "(intercept)"}
        and not re.fullmatch(r"dataset\[[^:]*\]", str(e["term"]))
        and not (known(e["se"]) and e["se"] > 1e3 * max(math.fabs(e["estimate"]), 1e-9))
    ]
