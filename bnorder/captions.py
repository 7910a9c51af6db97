"""Titles, captions and alternative texts of the figures, generated from what they show.

Each function returns (title, caption, alternative text). A caption says the message first and then
how to read the marks; an alternative text says what a reader who cannot see the figure needs.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bnorder import look
from bnorder.language import ENGLISH
from bnorder.ordering import Ordering
from bnorder.results import Results

Row = Mapping[str, Any]
Words = tuple[str, str, str]
SEEDS = (
    "Each small mark is a seed; the larger mark below it is the mean with its 95 % t-interval, "
    "cut off where it leaves the axis."
)


def measure_words(measure: str) -> str:
    if measure.startswith("steps_to_"):
        return f"steps to {measure.removeprefix('steps_to_').replace('_', '.')} % test accuracy"
    return ENGLISH.measures.get(measure, measure.replace("_", " "))


def contrast_words(contrast: str) -> str:
    """`bn_first - act_first` as people write it."""
    words = {**look.CLASS_WORDS, **look.CUT_WORDS}
    return re.sub(r"[a-z]+_[a-z]+", lambda m: words.get(m[0], m[0]), contrast).replace(" - ", " − ")


def count_words(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def listing(words: Iterable[str]) -> str:
    """`a, b and c`."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]


def pp(value: float, digits: int = 2) -> str:
    """A difference with its sign: +0.31 or −0.31."""
    text = f"{abs(value):.{digits}f}"
    return ("−" if value < 0 and float(text) > 0 else "+") + text


def signed_interval(low: float | None, high: float | None, digits: int = 2) -> str:
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "no interval"
    return f"{pp(low, digits)} to {pp(high, digits)}"


def _of_page(page_of: tuple[int, int]) -> str:
    number, pages = page_of
    return f" (part {number + 1} of {pages})" if pages > 1 else ""


def _several(results: Results) -> bool:
    return len(results.study.datasets) > 1


def _on(results: Results, dataset: str) -> str:
    return f" on {look.dataset_words(dataset)}" if _several(results) else ""


def _arm_words(row: Row) -> str:
    return (
        f"{look.ordering_words(row['ordering'])}, {look.activation_words(row['activation'])}, "
        f"{look.depth_words(int(row['depth']))}"
    )


def classes_shown(orderings: Iterable[str]) -> str:
    """How the marks read, for the classes that are there."""
    shapes = {"bn_first": "circles", "act_first": "triangles", "none": "squares"}
    words = {"bn_first": "BN first", "act_first": "activation first", "none": "without BN"}
    present = {Ordering(o).bn_class for o in orderings}
    return listing(f"{shapes[c]}: {words[c]}" for c in look.CLASS_ORDER if c in present)


def accuracy(results: Results, dataset: str, page_of: tuple[int, int], outside: int) -> Words:
    """Message: the best and the worst mean on the grid."""
    arms = [
        a
        for a in results.table("arms").where(dataset=dataset, variant="base").rows()
        if isinstance(a["mean"], float) and math.isfinite(a["mean"])
    ]
    title = f"Final test accuracy of every run{_on(results, dataset)}{_of_page(page_of)}"
    message = ""
    if arms:
        best, worst = max(arms, key=lambda a: a["mean"]), min(arms, key=lambda a: a["mean"])
        message = (
            f"The highest mean is {best['mean']:.2f} % ({_arm_words(best)}), "
            f"the lowest {worst['mean']:.2f} % ({_arm_words(worst)})."
        )
    reading = f"{SEEDS} {classes_shown(results.study.orderings).capitalize()}."
    reading = reading.replace("bn first", "BN first").replace("without bn", "without BN")
    if outside:
        were = "run lies" if outside == 1 else "runs lie"
        reading += f" {outside:,} {were} left of the axis, marked by an arrowhead at its edge."
    alt = (
        f"Strip plots of the final test accuracy, a panel for each activation and depth, a row for "
        f"each of {count_words(len(results.study.orderings), 'ordering')}. {message}"
    )
    return (
        title,
        f"{message} {reading} All panels share one axis, which does not start at zero.".strip(),
        alt,
    )


def blocks(orderings: Sequence[str]) -> Words:
    """Message: which orderings are the same cycle."""
    title = "A block in each ordering"
    groups = []
    for bn_class in look.CLASS_ORDER[:2]:
        members = [o for o in orderings if Ordering(o).bn_class == bn_class]
        if len(members) > 1:
            names = listing(look.ordering_words(o) for o in members)
            groups.append(f"{names} are cuts of one cycle ({look.CLASS_WORDS[bn_class]})")
    message = "; ".join(groups)
    message = f"{message}: inside a stack they differ only at its two ends." if message else ""
    caption = f"{message} Drawn from the orderings themselves, as two blocks of a deeper stack; "
    caption += "pooling between blocks is left out."
    chains = "; ".join(
        f"{look.ordering_words(o)}: input, " + ", ".join(Ordering(o).layers * 2) + ", classifier"
        for o in orderings
    )
    return title, caption.strip(), f"Chains of layers, two blocks of each ordering. {chains}."


def forest(parts: Sequence[tuple[Row, Row]]) -> Words:
    """Message: how many effects reach their margin."""
    clear = [v["id"] for v, p in parts if _excludes_zero(p)]
    title = "Every effect in percentage points"
    if clear:
        named = listing(dict.fromkeys(clear))
        message = f"The 95 % interval excludes zero for {named}, before any correction."
    else:
        message = "Every 95 % interval includes zero."
    reading = (
        "Mark: mean over seeds; line: 95 % t-interval, not adjusted for the number of claims; "
        "shaded: within the claim's margin. Filled circle: supported; cross: contradicted; "
        "diamond: negligible; open circle: inconclusive. Equivalence claims say that the effect "
        "lies inside the shaded band, the others that it lies right of zero."
    )
    numbers = "; ".join(
        f"{v['id']}{' ' + p['name'] if p['name'] else ''} {pp(p['mean'])} "
        f"({signed_interval(p['ci_low'], p['ci_high'])}), {v['verdict']}"
        for v, p in parts
    )
    return title, f"{message} {reading}", f"Forest plot of effects. {numbers}."


def _excludes_zero(part: Row) -> bool:
    low, high = part["ci_low"], part["ci_high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def claim(verdict: Row) -> Words:
    """Message: the verdict's own sentence."""
    title = f"Evidence for {verdict['id']}"
    parts = verdict["parts"]
    reading = "Each dot is a seed's contrast, the diamond the mean with its 95 % t-interval"
    margins = verdict["type"] != "threshold" and any(p["margin"] is not None for p in parts)
    reading += "; shaded: within the margin." if margins else "."
    numbers = "; ".join(
        f"{p['name'] or 'the contrast'}: mean {_value(p)}, 95 % interval {_interval(p)}"
        for p in parts
        if p["mean"] is not None
    )
    alt = f"Per-seed values of claim {verdict['id']} around zero. {numbers}."
    return title, f"{_opening(verdict)} {reading}", alt


def _opening(verdict: Row) -> str:
    contrast = str(verdict["contrast"]).strip().rstrip(".")
    return f"{contrast[:1].upper()}{contrast[1:]}: {verdict['verdict']}."


def _value(part: Row) -> str:
    unit = " pp" if part["unit"] == "pp" else f" {part['unit']}".rstrip()
    return pp(part["mean"], digits_of(part["unit"])) + unit


def _interval(part: Row) -> str:
    return signed_interval(part["ci_low"], part["ci_high"], digits_of(part["unit"]))


def digits_of(unit: str) -> int:
    return {"pp": 2, "steps": 0}.get(unit, 4)


def learning(results: Results, dataset: str, page_of: tuple[int, int]) -> Words:
    """Message: the orders with the least and the largest mean error over the training."""
    title = f"Test error while training{_on(results, dataset)}{_of_page(page_of)}"
    arms = [
        a
        for a in results.table("arms").where(dataset=dataset, variant="base").rows()
        if isinstance(a.get("area_mean"), float) and math.isfinite(a["area_mean"])
    ]
    message = ""
    if arms:
        least, most = min(arms, key=_area), max(arms, key=_area)
        message = (
            f"Averaged over the training, the error is least for {_arm_words(least)} "
            f"({least['area_mean']:.2f} %) and largest for {_arm_words(most)} "
            f"({most['area_mean']:.2f} %). "
        )
    reading = (
        "Line: mean of the seeds; band: its 95 % t-interval at each evaluation. Solid: BN first, "
        "dashed: activation first, dotted: without BN. Both axes are logarithmic, shared by all "
        "panels."
    )
    panels = len(results.study.activations) * len(results.study.depths)
    alt = f"Learning curves, {count_words(panels, 'panel')}, a line for each ordering. {message}"
    return title, message + reading, alt.strip()


def _area(row: Row) -> float:
    return float(row["area_mean"])


def convergence(
    results: Results, dataset: str, threshold: float, page_of: tuple[int, int]
) -> Words:
    """Message: where runs got there and where they did not."""
    title = f"Steps to {threshold:g} % test accuracy{_on(results, dataset)}{_of_page(page_of)}"
    rows = list(
        results.table("survival_summary")
        .where(dataset=dataset, variant="base", threshold=threshold)
        .rows()
    )
    message = _survival_message(rows, threshold)
    reading = (
        "Each line is the share of an ordering's runs that have not reached the threshold at any "
        "evaluation so far (Kaplan–Meier; a run that never gets there counts to its last step)."
    )
    alt = f"Falling step curves, a panel for each activation and depth. {message}"
    return title, f"{message} {reading}".strip(), alt.strip()


def _survival_message(rows: Sequence[Row], threshold: float) -> str:
    if not rows:
        return ""
    never = [r for r in rows if r["reached"] == 0]
    every = [r for r in rows if r["reached"] == r["n"]]
    if len(every) == len(rows):
        message = f"Every run reached {threshold:g} %."
    elif len(never) == len(rows):
        return f"No run reached {threshold:g} %."
    else:
        message = f"Every run reached {threshold:g} % in {len(every)} of {len(rows)} arms"
        message += f", none did in {len(never)}." if never else "."
    medians = [
        r for r in rows if r["median_steps"] is not None and math.isfinite(r["median_steps"])
    ]
    if len(medians) > 1:
        fast, slow = min(medians, key=_median), max(medians, key=_median)
        if _median(fast) < _median(slow):
            message += (
                f" The median is least for {_arm_words(fast)} ({_median(fast):,.0f} steps) and "
                f"largest for {_arm_words(slow)} ({_median(slow):,.0f} steps)."
            )
    return message


def _median(row: Row) -> float:
    return float(row["median_steps"])


def cell_words(row: Row, *, several: bool) -> str:
    """`ReLU, 2 blocks`, `all activations, 2 blocks`, … of a row of exploration."""
    act, depth = str(row["activation"]), str(row["depth"])
    words = "all activations" if act == "all" else look.activation_words(act)
    words += ", all depths" if depth == "all" else f", {look.depth_words(int(float(depth)))}"
    return f"{look.dataset_words(row['dataset'])}: {words}" if several else words


def class_effect(rows: Sequence[Row]) -> Words:
    """Message: where the class effect's interval excludes zero."""
    clear = [r for r in rows if _excludes_zero(r)]
    title = "BN first against activation first, cell by cell"
    message = f"The interval excludes zero in {len(clear)} of {len(rows)} rows."
    caption = (
        f"{message} Mark: mean within-seed difference in test accuracy (diamond: over the whole "
        "grid); line: 95 % t-interval, not adjusted. Exploration: no verdict rests on it."
    )
    numbers = "; ".join(
        f"{cell_words(r, several=False)} {pp(r['mean'])} "
        f"({signed_interval(r['ci_low'], r['ci_high'])})"
        for r in rows
    )
    return title, caption, f"Forest plot of the class effect. {numbers}."


def term_words(term: str) -> str:
    """A model term such as `class[bn_first]:depth[2]` as people read it."""
    return " × ".join(_factor_words(factor) for factor in term.split(":"))


def _factor_words(factor: str) -> str:
    match = re.fullmatch(r"(\w+)\[(.+)\]", factor)
    if not match:
        return factor.replace("_", " ")
    axis, level = match.groups()
    if axis == "depth":
        return look.depth_words(int(level)) if level.isdigit() else f"depth {level}"
    if axis == "activation":
        return look.activation_words(level)
    return {**look.CLASS_WORDS, **look.CUT_WORDS}.get(level, level)


def mixed_model(model: Row, effects: Sequence[Row]) -> Words:
    """Message: whether the fit converged and how many effects exclude zero."""
    clear = sum(_excludes_zero(e) for e in effects)
    state = "converged" if model.get("converged") else "did not converge"
    title = "Mixed model of test accuracy"
    caption = (
        f"The fit {state}; {clear} of {len(effects)} terms have a 95 % interval without zero. "
        "Mark: fixed effect, as a deviation from the mean of all (sum coding); line: its interval; "
        "the seed is a random effect. Exploration: no verdict rests on it."
    )
    numbers = "; ".join(
        f"{term_words(str(e['term']))} {pp(e['estimate'])}"
        for e in effects
        if e["estimate"] is not None
    )
    return title, caption, f"Forest plot of the model's fixed effects. {numbers}."
