"""Titles, captions and alternative texts of the figures, generated from what they show.

Each function returns (title, caption, alternative text). A caption says the message first and then
how to read the marks; an alternative text says what a reader who cannot see the figure needs.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bnorder.language import Language
from bnorder.language.printing import amount, plain, signed, whole
from bnorder.ordering import Ordering
from bnorder.report import look
from bnorder.report.drawing import MOST_DOTS
from bnorder.report.results import Results, Table

Row = Mapping[str, Any]
Words = tuple[str, str, str]


def contrast_words(contrast: str, words: Language) -> str:
    """`bn_first - act_first` as people write it."""

    def said(name: re.Match[str]) -> str:
        for kind in ("class", "cut"):
            if f"{kind}.{name[0]}" in words.templates:
                return words.say(f"{kind}.{name[0]}")
        return name[0]

    return re.sub(r"[a-z]+_[a-z]+", said, contrast).replace(" - ", " − ")


def interval(row: Row, words: Language, unit: str = "pp") -> str:
    """`−0.12 to +0.30`."""
    low, high = row["ci_low"], row["ci_high"]
    if not _known(low) or not _known(high):
        return words.say("no_interval")
    return words.say("to", low=signed(low, unit), high=signed(high, unit))


def _known(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _place(results: Results, dataset: str, page_of: tuple[int, int] = (0, 1)) -> dict[str, str]:
    """On which data set, and which part of the figure: nothing where there is one of each."""
    words, (number, pages) = results.words, page_of
    several = len(results.study.datasets) > 1
    on = words.say("on", dataset=look.dataset_words(dataset, words)) if several else ""
    part = words.say("of_pages", number=number + 1, pages=pages) if pages > 1 else ""
    return {"on": on, "part": part}


def _sentences(words: Language, *sentences: str) -> str:
    return words.templates["space"].join(s for s in sentences if s)


def arm_words(row: Row, words: Language) -> str:
    return words.say(
        "arm",
        ordering=look.ordering_words(row["ordering"]),
        activation=look.activation_words(row["activation"], words),
        depth=words.count(row["depth"], "depth"),
    )


MARKS = ("circles", "triangles", "squares")  # of the classes, in look.CLASS_ORDER
LINES = ("solid", "dashed", "dotted")


def classes_shown(looks: Sequence[str], orderings: Iterable[str], words: Language) -> str:
    """How MARKS or LINES read, for the classes that are there."""
    names = ("class.bn_first", "class.act_first", "without_bn")
    present = {Ordering(o).bn_class for o in orderings}
    each = zip(look.CLASS_ORDER, looks, names, strict=True)
    used = [words.say(key, words=words.say(name)) for c, key, name in each if c in present]
    return words.capital(words.join(used))


def _known_rows(table: Table, column: str) -> list[Row]:
    return [row for row in table.rows() if _known(row.get(column))]


def accuracy(results: Results, dataset: str, page_of: tuple[int, int], outside: int) -> Words:
    """Message: the best and the worst mean on the grid."""
    words = results.words
    arms = _known_rows(results.table("arms").where(dataset=dataset, variant="base"), "mean")
    message = ""
    if arms:
        best, worst = max(arms, key=lambda a: a["mean"]), min(arms, key=lambda a: a["mean"])
        message = words.say(
            "accuracy.message",
            best=amount(best["mean"]),
            best_arm=arm_words(best, words),
            worst=amount(worst["mean"]),
            worst_arm=arm_words(worst, words),
        )
    marks = classes_shown(MARKS, results.study.orderings, words)
    reading = words.say("accuracy.reading", marks=marks)
    left = words.say("accuracy.outside") if outside else ""
    some = some_drawn(len(results.study.seeds), words)
    note = words.say("accuracy.axis_note")
    orderings = words.count(results.facts["grid"]["ordering"], "orderings")
    return (
        words.say("accuracy.title", **_place(results, dataset, page_of)),
        _sentences(words, message, reading, some, left, note),
        words.say("accuracy.alt", orderings=orderings, message=message),
    )


def some_drawn(n: int, words: Language) -> str:
    """That not each of `n` has a dot, where that is so."""
    return words.templates["dots.some"] if n > MOST_DOTS else ""


def heat(
    results: Results, dataset: str, page_of: tuple[int, int], columns: Sequence[Sequence[Row]]
) -> Words:
    """Message: where the order moves the accuracy most; a column holds the arms of one cell."""
    words, message = results.words, ""
    wide = [column for column in columns if len(column) > 1]
    if wide:
        widest = max(wide, key=lambda column: max(float(a["below_best"]) for a in column))
        worst = max(widest, key=lambda a: float(a["below_best"]))
        best = min(widest, key=lambda a: float(a["below_best"]))
        message = words.say(
            "heat.message",
            activation=look.activation_words(worst["activation"], words),
            depth=words.count(worst["depth"], "depth"),
            spread=amount(worst["below_best"]),
            best=look.ordering_words(best["ordering"]),
            worst=look.ordering_words(worst["ordering"]),
        )
    said = (f"{arm_words(a, words)} {amount(a['mean'])} %" for column in columns for a in column)
    cells = words.templates["semicolon"].join(said)
    return (
        words.say("heat.title", **_place(results, dataset, page_of)),
        _sentences(words, message, words.say("heat.reading")),
        words.say("heat.alt", message=message, cells=cells),
    )


def blocks(orderings: Sequence[str], words: Language) -> Words:
    """Message: which orderings are the same cycle."""
    groups = []
    for bn_class in look.CLASS_ORDER[:2]:
        members = [o for o in orderings if Ordering(o).bn_class == bn_class]
        if len(members) > 1:
            names = words.join(look.ordering_words(o) for o in members)
            label = words.say(f"class.{bn_class}")
            groups.append(words.say("blocks.cycle", orderings=names, words=label))
    semicolon, comma = words.templates["semicolon"], words.templates["comma"]
    message = words.say("blocks.message", groups=semicolon.join(groups)) if groups else ""
    chains = (
        words.say(
            "blocks.chain",
            ordering=look.ordering_words(o),
            layers=comma.join(Ordering(o).layers * 2),
        )
        for o in orderings
    )
    return (
        words.say("blocks.title"),
        _sentences(words, message, words.say("blocks.reading")),
        words.say("blocks.alt", chains=semicolon.join(chains)),
    )


def crossed(verdict: Row) -> bool:
    """Is the claim about any of many contrasts, of which the numbers are one's?"""
    return verdict["type"] == "interaction" and bool(verdict["two_sided"])


def forest(parts: Sequence[tuple[Row, Row]], results: Results) -> Words:
    """Message: which effects exclude zero."""
    words = results.words
    clear = dict.fromkeys(v["id"] for v, p in parts if _excludes_zero(p))
    message = words.say("forest.none")
    if clear:
        message = words.say("forest.clear", claims=words.join(clear))
    numbers = (
        words.say(
            "forest.item",
            claim=" ".join(filter(None, (v["id"], p["name"]))),
            mean=signed(p["mean"]),
            interval=interval(p, words),
            verdict=words.say(f"verdict.{p['verdict']}"),
        )
        for v, p in parts
    )
    alt = words.say("forest.alt", numbers=words.templates["semicolon"].join(numbers))
    either = dict.fromkeys(v["id"] for v, _ in parts if v["two_sided"])
    notes = [words.say("forest.two_sided", claims=words.join(either))] if either else []
    notes += [words.say("crossed.interval")] if any(crossed(v) for v, _ in parts) else []
    notes += [words.say("over_datasets")] if len(results.study.datasets) > 1 else []
    caption = _sentences(words, message, words.say("forest.reading"), *notes)
    return words.say("forest.title"), caption, alt


def _excludes_zero(part: Row) -> bool:
    low, high = part["ci_low"], part["ci_high"]
    return _known(low) and _known(high) and (low > 0 or high < 0)


def claim(verdict: Row, words: Language) -> Words:
    """Message: the verdict's own sentence."""
    parts = verdict["parts"]
    contrast = words.capital(str(verdict["contrast"]).strip().rstrip(".。"))
    word = words.say(f"verdict.{verdict['verdict']}")
    opening = words.say("claim.opening", contrast=contrast, verdict=word)
    margins = verdict["type"] != "threshold" and any(p["margin"] is not None for p in parts)
    reading = words.say("claim.reading_margin" if margins else "claim.reading")
    numbers = (
        words.say(
            "claim.item",
            part=p["name"] or words.say("claim.contrast"),
            mean=signed(p["mean"], p["unit"]) + words.say(f"short_unit.{p['unit']}"),
            interval=interval(p, words, p["unit"]),
        )
        for p in parts
        if p["mean"] is not None
    )
    said = words.templates["semicolon"].join(numbers)
    title = words.say("claim.title", claim=verdict["id"])
    alt = words.say("claim.alt", claim=verdict["id"], numbers=said)
    some = some_drawn(max((len(p["values"]) for p in parts), default=0), words)
    notes = [words.say("crossed.interval")] if crossed(verdict) else []
    averaged = not crossed(verdict) and any(p.get("by_dataset") for p in parts)
    notes += [words.say("averaged")] if averaged else []
    return title, _sentences(words, opening, reading, some, *notes), alt


def learning(results: Results, dataset: str, page_of: tuple[int, int]) -> Words:
    """Message: the orders with the least and the largest mean error over the training."""
    words, message = results.words, ""
    arms = _known_rows(results.table("arms").where(dataset=dataset, variant="base"), "area_mean")
    if arms:
        least, most = min(arms, key=_area), max(arms, key=_area)
        message = words.say(
            "learning.message",
            least=arm_words(least, words),
            low=amount(least["area_mean"]),
            most=arm_words(most, words),
            high=amount(most["area_mean"]),
        )
    panels = words.count(results.facts["grid"]["panels"], "panels")
    return (
        words.say("learning.title", **_place(results, dataset, page_of)),
        _sentences(
            words,
            message,
            words.say(
                "learning.reading", lines=classes_shown(LINES, results.study.orderings, words)
            ),
        ),
        words.say("learning.alt", panels=panels, message=message).strip(),
    )


def _area(row: Row) -> float:
    return float(row["area_mean"])


def convergence(
    results: Results, dataset: str, threshold: float, page_of: tuple[int, int]
) -> Words:
    """Message: where runs got there and where they did not."""
    words = results.words
    found = results.table("survival_summary").where(
        dataset=dataset, variant="base", threshold=threshold
    )
    counts = next(
        c
        for c in results.facts["convergence"]
        if (c["dataset"], float(c["threshold"])) == (dataset, float(threshold))
    )
    message = _survival_message(list(found.rows()), counts, words)
    place = _place(results, dataset, page_of)
    return (
        words.say("convergence.title", threshold=plain(counts["threshold"]), **place),
        _sentences(words, message, words.say("convergence.reading")),
        words.say("convergence.alt", message=message).strip(),
    )


def _survival_message(rows: Sequence[Row], counts: Row, words: Language) -> str:
    threshold, medians = plain(counts["threshold"]), _medians(rows, counts, words)
    if counts["every"] == counts["arms"]:
        key = "convergence.every"
    elif counts["none"] == counts["arms"]:
        return words.say("convergence.no_run", threshold=threshold)
    else:
        key = "convergence.some_none" if counts["none"] else "convergence.some"
    numbers = {k: whole(counts[k]) for k in ("every", "arms", "none")}
    return _sentences(words, words.say(key, threshold=threshold, **numbers), medians)


def _medians(rows: Sequence[Row], counts: Row, words: Language) -> str:
    """Between which steps the medians lie, and of which arms; nothing where they do not differ."""
    known = [r for r in rows if _known(r["median_steps"])]
    if not known:
        return ""
    fast, slow = min(known, key=_median), max(known, key=_median)
    if _median(fast) == _median(slow):
        return ""
    every = counts["known"] == counts["arms"]

    def named(row: Row, same: float) -> str:
        return arm_words(row, words) if same == 1 else words.count(same, "arms_of")

    return words.say(
        "convergence.medians" if every else "convergence.medians_some",
        known=whole(counts["known"]),
        fast=named(fast, counts["fastest"]),
        low=whole(fast["median_steps"]),
        slow=named(slow, counts["slowest"]),
        high=whole(slow["median_steps"]),
    )


def _median(row: Row) -> float:
    return float(row["median_steps"])


def cell_words(row: Row, words: Language, *, several: bool) -> str:
    """`ReLU, 2 blocks`, `all activations, 2 blocks`, … of a row of exploration."""
    act, depth = str(row["activation"]), str(row["depth"])
    cell = words.say(
        "cell",
        activation=words.say("all_activations")
        if act == "all"
        else look.activation_words(act, words),
        depth=words.say("all_depths")
        if depth == "all"
        else look.depth_words(int(float(depth)), words),
    )
    if not several:
        return cell
    return words.say("cell.on", dataset=look.dataset_words(row["dataset"], words), cell=cell)


def interaction(results: Results, dataset: str, rows: Sequence[Row]) -> Words:
    """Message: in which cell the classes lie furthest apart."""
    words = results.words
    widest = max(rows, key=lambda r: abs(float(r["mean"])))
    message = words.say(
        "interaction.message",
        cell=cell_words(widest, words, several=False),
        mean=signed(widest["mean"]),
        interval=interval(widest, words),
    )
    some = some_drawn(len(results.study.seeds), words)
    return (
        words.say("interaction.title", on=_place(results, dataset)["on"]),
        _sentences(words, message, words.say("interaction.reading"), some),
        words.say("interaction.alt", message=message),
    )


def class_effect(results: Results, rows: Sequence[Row]) -> Words:
    """Message: where the class effect's interval excludes zero."""
    words, counts = results.words, results.facts["exploration"]["class_effect"]
    message = words.say(
        "class_effect.message", clear=whole(counts["clear"]), rows=whole(counts["rows"])
    )
    numbers = (
        words.say(
            "class_effect.item",
            cell=cell_words(r, words, several=False),
            mean=signed(r["mean"]),
            interval=interval(r, words),
        )
        for r in rows
    )
    return (
        words.say("class_effect.title"),
        _sentences(words, message, words.say("class_effect.reading")),
        words.say("class_effect.alt", numbers=words.templates["semicolon"].join(numbers)),
    )


LEVEL = 0.05
MOST_MOVED = 4  # effects that a caption names


def moved(row: Row) -> bool:
    """Does a control's effect differ from that of the study's own recipe?"""
    return _known(row["change_p_holm"]) and bool(row["change_p_holm"] < LEVEL)


def controls(
    results: Results,
    dataset: str,
    rows: Sequence[Row],
    variant_words: Callable[[Results, str], str],
) -> Words:
    """Message: which effects move under which control."""
    words = results.words
    clear = [row for row in rows if moved(row)]
    named = [
        words.say(
            "ladder.under",
            effect=contrast_words(row["contrast"], words),
            control=variant_words(results, row["variant"]),
        )
        for row in clear[:MOST_MOVED]
    ]
    key = "ladder.moved_more" if len(clear) > MOST_MOVED else "ladder.moved"
    message = words.say(key, named=words.join(named)) if clear else words.say("ladder.still")
    numbers = (
        words.say(
            "ladder.item",
            control=variant_words(results, r["variant"]),
            effect=contrast_words(r["contrast"], words),
            mean=signed(r["mean"]),
            interval=interval(r, words),
        )
        for r in rows
        if _known(r["mean"])
    )
    return (
        words.say("ladder.title", on=_place(results, dataset)["on"]),
        _sentences(words, message, words.say("ladder.reading")),
        words.say("ladder.alt", numbers=words.templates["semicolon"].join(numbers)),
    )


def term_words(term: str, words: Language) -> str:
    """A model term such as `class[bn_first]:depth[2]` as people read it."""
    return " × ".join(_factor_words(factor, words) for factor in term.split(":"))


def _factor_words(factor: str, words: Language) -> str:
    match = re.fullmatch(r"(\w+)\[(.+)\]", factor)
    if not match:
        return factor.replace("_", " ")
    axis, level = match.groups()
    if axis == "depth":
        any_depth = words.say("depth.any", level=level)
        return look.depth_words(int(level), words) if level.isdigit() else any_depth
    if axis == "activation":
        return look.activation_words(level, words)
    if axis == "dataset":
        return look.dataset_words(level, words)
    return words.templates.get(f"{axis}.{level}", level)


def mixed_model(results: Results, effects: Sequence[Row], *, some: bool) -> Words:
    """Message: whether the fit converged and how many effects exclude zero.

    some: not all of them are drawn.
    """
    words, counts = results.words, results.facts["exploration"]["mixed_model"]
    key = "mixed.converged" if results.mixed_model.get("converged") else "mixed.failed"
    message = words.say(key, clear=whole(counts["clear"]), rows=whole(counts["rows"]))
    numbers = (
        words.say("mixed.item", term=term_words(str(e["term"]), words), mean=signed(e["estimate"]))
        for e in effects
        if e["estimate"] is not None
    )
    notes = [words.say("mixed.some")] if some else []
    notes += [words.say("mixed.datasets")] if len(results.study.datasets) > 1 else []
    return (
        words.say("mixed.title"),
        _sentences(words, message, words.say("mixed.reading"), *notes),
        words.say("mixed.alt", numbers=words.templates["semicolon"].join(numbers)),
    )
