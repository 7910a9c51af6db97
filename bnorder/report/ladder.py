"""Would it hold otherwise, in the report: class and cut effects under each control."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnorder.language import Language
from bnorder.report import captions, look, view
from bnorder.report.drawing import (
    TALLEST,
    Drawing,
    Row,
    canvas,
    finish,
    interval_line,
    known,
    label_inches,
    margins,
    named_rows,
    wrapped,
    zero,
)
from bnorder.report.results import Results
from bnorder.study import RECOMPUTED, dataset_slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def variant_words(results: Results, name: str) -> str:
    """What a variant changes, in words."""
    study, words = results.study, results.words
    if name in ("base", RECOMPUTED):
        return words.say("ladder.base" if name == "base" else "ladder.recomputed")
    if study.selection and name == study.selection.name:
        return words.say("ladder.chosen", name=name.replace("_", " "))
    return view.changes_words(results, name)


# --- the picture ----------------------------------------------------------------------------------


def controls(results: Results) -> list[Drawing]:
    """A row a control, a panel an effect: mean and interval, base's interval as a band."""
    drawings = []
    for dataset in results.study.datasets:
        rows = list(results.table("controls").where(dataset=dataset).rows())
        if sum(known(row["mean"]) for row in rows) > 1:
            drawings.append(_controls(results, dataset, rows))
    return drawings


def _controls(results: Results, dataset: str, rows: Sequence[Row]) -> Drawing:
    contrasts = list(dict.fromkeys(str(row["contrast"]) for row in rows))
    names = list(dict.fromkeys(str(row["variant"]) for row in rows))
    labels = [wrapped(variant_words(results, name), 26) for name in names]
    figure = canvas(min(TALLEST, 0.85 + 0.3 * len(names)))
    axes = figure.subplots(1, len(contrasts), sharey=True, squeeze=False)[0]
    for ax, contrast in zip(axes, contrasts, strict=True):
        _effect_panel(ax, results.words, [r for r in rows if r["contrast"] == contrast], names)
    named_rows(axes[0], labels)
    for ax in axes[1:]:
        ax.tick_params(left=False, bottom=False)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x")
    left = label_inches(labels)
    margins(figure, left=left, top=0.4, bottom=0.42, gaps=(0.0, 0.16))
    figure.text(0.5, 0.01, results.words.say("ladder.axis"), ha="center", va="bottom")
    several = len(results.study.datasets) > 1
    key = "controls" + (f"-{dataset_slug(dataset)}" if several else "")
    return finish(figure, key, captions.controls(results, dataset, rows, variant_words), rows)


def _effect_panel(ax: "Axes", words: Language, rows: Sequence[Row], names: Sequence[str]) -> None:
    base = next((row for row in rows if row["variant"] == "base"), None)
    if base is not None and known(base["ci_low"]) and known(base["ci_high"]):
        ax.axvspan(base["ci_low"], base["ci_high"], color=look.BAND, linewidth=0)
    for row in rows:
        if not known(row["mean"]):
            continue
        y = names.index(str(row["variant"]))
        interval_line(ax, row, y)
        filled = row["variant"] == "base" or captions.moved(row)
        fill = look.INK if filled else look.PAPER
        marker = "D" if row["variant"] == "base" else "o"
        ax.plot([row["mean"]], [y], marker, markersize=4.5, color=look.INK, markerfacecolor=fill)
    zero(ax)
    contrast = captions.contrast_words(str(rows[0]["contrast"]), words)
    ax.set_title(contrast.replace(" − ", " −\n"), fontsize=7.5)


# --- the page -------------------------------------------------------------------------------------


def page(results: Results) -> dict[str, Any] | None:
    """What the template needs; None where the study changes nothing."""
    effects = list(results.table("controls").where(effect="class").rows())
    if not effects:
        return None
    counts = {row["variant"]: row for row in results.table("controls_summary").rows()}
    several = len(results.study.datasets) > 1
    return {
        "effects": [
            row
            | {
                "words": variant_words(results, row["variant"]),
                "on": look.dataset_words(row["dataset"], results.words) if several else "",
                "counts": counts.get(row["variant"]),
            }
            for row in effects
        ],
        "changes": _changes(results),
        "choices": _choices(results),
    }


def _changes(results: Results) -> list[dict[str, Any]]:
    """Each claim whose verdict is another one under some control, and where."""
    rows = [row for row in results.table("controls_verdicts").rows() if row["changed"]]
    return [
        {
            "claim": claim,
            "base": next(row["base_verdict"] for row in rows if row["claim"] == claim),
            "under": [
                {"words": variant_words(results, r["variant"]), "verdict": r["verdict"]}
                for r in rows
                if r["claim"] == claim
            ],
        }
        for claim in dict.fromkeys(row["claim"] for row in rows)
    ]


def _choices(results: Results) -> dict[str, Any] | None:
    """What each order chose on the held-out images: a row an order, a cell a variant."""
    table = results.table("choices")
    if not len(table) or results.study.selection is None:
        return None
    names = results.study.selection.variants
    rows: list[Mapping[str, Any]] = []
    for dataset in results.study.datasets:
        for ordering in look.in_order(results.study.orderings):
            found = {
                r["variant"]: r for r in table.where(dataset=dataset, ordering=ordering).rows()
            }
            words = view.ordering_on(results, {"ordering": ordering, "dataset": dataset})
            rows.append({"ordering": words, "cells": [found.get(name) for name in names]})
    heads = [variant_words(results, n) if n != "base" else "base" for n in names]
    return {"heads": heads, "rows": rows, "name": results.study.selection.name}
