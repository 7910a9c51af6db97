"""From a table of runs to one number a seed: a claim's terms as weighted arms, exactly.

Accuracies are counts of correct answers, so their contrasts are computed in whole numbers: two
differences that are equal tie, and no test breaks on the rounding of a mean.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from bnorder.claims import ACCURACY, AXES, Claim, Part, Term
from bnorder.errors import UserError
from bnorder.language import Level, Reason
from bnorder.ordering import Activation, Ordering
from bnorder.statistics.estimates import Floats, Numbers, standing_out
from bnorder.study import Arm, Study
from bnorder.study import describe as describe  # explore.py asks for it here

MICRO = 1_000_000  # accuracies without counts are compared in millionths of a point
LARGEST_EXACT = 2**50  # sums beyond this lose digits as doubles; then means are used as they are
AT_BN = ("bn_input_", "running_loss")  # measures that need BN
KEYWORDS = {"dataset": ("all", "first", "rest"), "depth": ("all", "least", "greatest")}


class NotTested(Exception):
    """Why the data at hand cannot test a contrast; key and fields as in the language's words."""

    def __init__(self, key: str, **fields: object) -> None:
        self.reason = Reason(f"reason.{key}", **fields)
        super().__init__(self.reason)


@dataclass(frozen=True)
class Grid:
    """The values on each axis that a study, or a table of runs, has; and its seeds."""

    dataset: tuple[str, ...]
    ordering: tuple[str, ...]
    activation: tuple[str, ...]
    depth: tuple[int, ...]
    variant: tuple[str, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of_study(cls, study: Study) -> "Grid":
        return cls(
            study.datasets,
            study.orderings,
            study.activations,
            study.depths,
            tuple(study.variants),
            tuple(study.seeds),
        )

    @classmethod
    def of_runs(cls, runs: pd.DataFrame) -> "Grid":
        """The values in order of appearance (depths and seeds sorted)."""
        seen = {axis: tuple(runs[axis].drop_duplicates().tolist()) for axis in AXES}
        seen["depth"] = tuple(sorted(seen["depth"]))
        return cls(**seen, seeds=tuple(sorted(runs["seed"].drop_duplicates().tolist())))

    def values(self, axis: str) -> tuple[str | int, ...]:
        values: tuple[str | int, ...] = getattr(self, axis)
        return values


@dataclass(frozen=True)
class Measured:
    """One measure of all runs: values (arms, seeds) in its unit, NaN where missing.

    counts: the same as whole numbers out of `out_of` (arms,), for accuracies; else None.
    """

    values: Floats
    counts: npt.NDArray[np.int64] | None
    out_of: npt.NDArray[np.int64] | None


@dataclass(frozen=True)
class Contrast:
    """A part's contrast within each seed, each (n,), in the order of the grid's seeds.

    keys: what the sign-flip test compares, whole numbers where that is possible.
    plus, minus: the two sides' values; weights: of each arm.
    arms: all that were taken into account.
    all: of a crossed part, every contrast, (k, n); values, keys, sides and weights are those of the
    one that stands out most, and `which` says which it is.
    """

    values: Floats
    keys: Numbers
    plus: Floats
    minus: Floats
    weights: Mapping[Arm, Fraction]
    arms: Collection[Arm]
    all: Floats | None = None
    which: str = ""


class RunTable:
    """A checked table of runs (see `bnorder.tables`), by arm and seed."""

    def __init__(self, runs: pd.DataFrame, grid: Grid) -> None:
        self.runs = runs
        self.grid = grid
        self._measured: dict[str, Measured] = {}
        arms = runs.groupby(list(AXES), sort=False, observed=True).ngroup().to_numpy()
        first = np.unique(arms, return_index=True)[1]
        cells = runs.iloc[first][list(AXES)].itertuples(index=False, name=None)
        self.index = {Arm(*cell): row for row, cell in enumerate(cells)}
        column = {seed: i for i, seed in enumerate(grid.seeds)}
        seeds = runs["seed"].map(column)
        self._places = (arms, seeds.to_numpy(dtype=np.int64))

    @cached_property
    def present(self) -> npt.NDArray[np.bool_]:
        """(arms, seeds): is there such a run?"""
        there = np.zeros((len(self.index), len(self.grid.seeds)), dtype=bool)
        there[self._places] = True
        return there

    def diverged(self, arms: Collection[Arm]) -> int:
        """Runs of `arms` that diverged; 0 where the table does not say."""
        if "status" not in self.runs:
            return 0
        found = self.runs.loc[self.runs["status"] == "diverged", list(AXES)]
        return sum(Arm(*cell) in arms for cell in found.itertuples(index=False, name=None))

    def measured(self, measure: str) -> Measured | None:
        """A measure by arm and seed; None where the table has no such column."""
        if measure not in self.runs:
            return None
        if measure not in self._measured:
            self._measured[measure] = self._measure(measure)
        return self._measured[measure]

    def _measure(self, measure: str) -> Measured:
        values = np.full((len(self.index), len(self.grid.seeds)), np.nan)
        values[self._places] = self.runs[measure].to_numpy(dtype=np.float64)
        values[~np.isfinite(values)] = np.nan
        if measure != ACCURACY:
            return Measured(values, None, None)
        known = np.nan_to_num(values)
        counts = np.rint(known * MICRO).astype(np.int64)
        out_of = np.full(len(values), 100 * MICRO, dtype=np.int64)
        n_test = self._images_of_arms()
        if n_test is not None:
            counts, out_of = self._filled("test_correct"), n_test
        return Measured(values, counts, out_of)

    def _images_of_arms(self) -> npt.NDArray[np.int64] | None:
        """(arms,) test images; None unless every accuracy has a count out of its arm's number."""
        if not {"test_correct", "n_test"} <= set(self.runs.columns):
            return None
        counted = self.runs["test_correct"].notna() | self.runs[ACCURACY].isna()
        images = self.runs["n_test"].groupby(self._places[0])
        if not counted.all() or (images.nunique() != 1).any():
            return None
        return images.first().to_numpy(dtype=np.int64)

    def _filled(self, column: str) -> npt.NDArray[np.int64]:
        filled = np.zeros((len(self.index), len(self.grid.seeds)), dtype=np.int64)
        numbers = self.runs[column].to_numpy(dtype=np.float64)
        filled[self._places] = np.nan_to_num(numbers).astype(np.int64)
        return filled


def weighted_arms(part: Part, grid: Grid) -> dict[Arm, Fraction]:
    """Each arm's weight in a part's contrast; raises NotTested when the grid lacks one.

    Not of a crossed part, which has many; see `crossed_weights`.
    """
    _check_cuts(part.terms, grid)
    weights: dict[Arm, Fraction] = {}
    for term in part.terms:
        arms = _selected(term, grid)
        for arm in arms:
            weights[arm] = weights.get(arm, Fraction(0)) + term.weight / len(arms)
    weights = {arm: weight for arm, weight in weights.items() if weight}
    if not weights:
        raise NotTested("same")
    return weights


def crossed_weights(part: Part, grid: Grid) -> dict[str, dict[Arm, Fraction]]:
    """Each of a crossed part's contrasts, in words, with its arms' weights.

    All else is averaged over. Raises NotTested where an axis has one value only.
    """
    assert part.crossed
    arms = _selected(part.terms[0], grid)
    levels = [list(dict.fromkeys(getattr(arm, axis) for arm in arms)) for axis in part.crossed]
    for axis, found in zip(part.crossed, levels, strict=True):
        if len(found) < 2:
            raise NotTested("two_values", axis=axis, have=_levels(axis, found))
    one, two = part.crossed
    contrasts: dict[str, dict[Arm, Fraction]] = {}
    for a, b in itertools.combinations(levels[0], 2):
        for c, d in itertools.combinations(levels[1], 2):
            signs = {(a, c): 1, (b, c): -1, (a, d): -1, (b, d): 1}
            cells = {arm: signs.get((getattr(arm, one), getattr(arm, two)), 0) for arm in arms}
            each = Fraction(4, sum(map(abs, cells.values())))
            levels_of = {"a": Level(one, a), "b": Level(one, b), "c": Level(two, c)}
            words = Reason("crossed", **levels_of, d=Level(two, d))
            contrasts[words] = {arm: sign * each for arm, sign in cells.items() if sign}
    return contrasts


def _selected(term: Term, grid: Grid) -> list[Arm]:
    axes = {axis: _axis_values(axis, term, grid) for axis in AXES}
    return [
        Arm(str(dataset), str(ordering), str(activation), int(depth), str(variant))
        for dataset in axes["dataset"]
        for ordering in axes["ordering"]
        for activation in axes["activation"]
        for depth in axes["depth"]
        for variant in axes["variant"]
    ]


def _axis_values(axis: str, term: Term, grid: Grid) -> Sequence[str | int]:
    if axis == "ordering":
        return _orderings(term, grid)
    have = grid.values(axis)
    default: tuple[str | int, ...] = ("base",) if axis == "variant" and len(have) > 1 else ("all",)
    named = term.select.get(axis, default)
    if named == ("all",):
        return have
    if named[0] in KEYWORDS.get(axis, ()):
        if len(have) < 2:
            raise NotTested("two_values", axis=axis, have=_levels(axis, have))
        ordered = tuple(sorted(have)) if axis == "depth" else have
        ends = {"first": ordered[:1], "rest": ordered[1:]}
        return (ends | {"least": ordered[:1], "greatest": ordered[-1:]})[str(named[0])]
    lacking = [value for value in named if value not in have]
    if lacking:
        raise NotTested(
            "lacks", axis=axis, lacking=_levels(axis, lacking), have=_levels(axis, have)
        )
    return named


def _levels(axis: str, values: Sequence[str | int]) -> list[object]:
    """Values of an axis, to be named as people write it; a depth is its number."""
    return [value if axis == "depth" else Level(axis, value) for value in values]


def _orderings(term: Term, grid: Grid) -> Sequence[str]:
    """The orderings that a term names, or those of the grid with its class and cut."""
    named = term.select.get("ordering", ("all",))
    lacking = [str(o) for o in named if o != "all" and o not in grid.ordering]
    if lacking:
        have = _levels("ordering", grid.ordering)
        raise NotTested("lacks", axis="ordering", lacking=_levels("ordering", lacking), have=have)
    chosen = [o for o in grid.ordering if named == ("all",) or o in named]
    for axis in ("bn_class", "cut"):
        wanted = term.select.get(axis)
        if wanted:
            chosen = [o for o in chosen if describe(o)[axis] in wanted]
            for value in wanted:
                if value not in [describe(o)[axis] for o in chosen]:
                    raise NotTested("no_class", axis=axis, value=Level(axis, value))
    return chosen


def _check_cuts(terms: Sequence[Term], grid: Grid) -> None:
    """Classes are compared over the same cuts only, or the cut would pass for the class."""
    cuts: dict[str, set[str]] = {}
    for term in terms:
        classes = term.select.get("bn_class", ())
        if len(classes) == 1 and classes[0] != "none":
            cuts[str(classes[0])] = {describe(o)["cut"] for o in _orderings(term, grid)}
    if len({frozenset(c) for c in cuts.values()}) > 1:
        listed = "; ".join(f"{name}: {_list(sorted(c))}" for name, c in cuts.items())
        raise NotTested("cuts", listed=listed)


def contrast_of(part: Part, table: RunTable) -> Contrast:
    """A part's contrast, one number a seed; raises NotTested rather than use fewer runs."""
    if part.crossed:
        return _crossed_contrast(part, table)
    weights = weighted_arms(part, table.grid)
    measured, taken = _measured(list(weights), table, part.measure)
    values = measured.values[taken]
    w: Floats = np.array([float(weight) for weight in weights.values()])
    threshold = part.threshold or 0.0
    plain: Floats = w @ values - threshold
    keys: Numbers = plain
    if measured.counts is not None and measured.out_of is not None:
        exact = _exact(weights, measured.counts[taken], measured.out_of[taken], threshold)
        if exact is not None:
            keys, scale = exact
            plain = np.asarray(keys * scale, dtype=np.float64)
    plus = np.clip(w, 0, None) @ values
    minus = np.clip(-w, 0, None) @ values + threshold
    return Contrast(plain, keys, plus, minus, weights, weights.keys())


def _measured(
    arms: Sequence[Arm], table: RunTable, measure: str
) -> tuple[Measured, npt.NDArray[np.int64]]:
    """The measure and the arms' rows in it; raises NotTested where it lacks a run's value."""
    measured = table.measured(measure)
    if measured is None:
        raise NotTested("unmeasured", measure=measure)
    rows = [table.index.get(arm) for arm in arms]
    _check_complete(arms, rows, measured, table, measure)
    return measured, np.array([row for row in rows if row is not None])


def _crossed_contrast(part: Part, table: RunTable) -> Contrast:
    """All contrasts of a crossed part, and the one that stands out most from its own spread."""
    weights = crossed_weights(part, table.grid)
    arms = list(dict.fromkeys(arm for each in weights.values() for arm in each))
    measured, taken = _measured(arms, table, part.measure)
    values = measured.values[taken]
    w: Floats = np.array([[float(x.get(arm, 0)) for arm in arms] for x in weights.values()])
    found: Floats = w @ values
    best = int(np.argmax(standing_out(found)))
    which = list(weights)[best]
    plus, minus = np.clip(w[best], 0, None) @ values, np.clip(-w[best], 0, None) @ values
    return Contrast(found[best], found[best], plus, minus, weights[which], arms, found, which)


def _check_complete(
    arms: Sequence[Arm], rows: Sequence[int | None], m: Measured, table: RunTable, measure: str
) -> None:
    seeds = table.grid.seeds
    if len(seeds) < 2:
        raise NotTested("two_seeds")
    missing, blank = [], []
    for arm, row in zip(arms, rows, strict=True):
        for column, seed in enumerate(seeds):
            if row is None or not table.present[row, column]:
                missing.append(f"{arm.id}.s{seed}")
            elif math.isnan(m.values[row, column]):
                blank.append(f"{arm.id}.s{seed}")
    needed = len(arms) * len(seeds)
    if blank:
        _check_applies(arms, measure, table)
    if missing:
        raise NotTested("missing", n=len(missing), needed=needed, runs=missing)
    if blank:
        raise NotTested("blank", n=len(blank), needed=needed, column=measure, runs=blank)


def _check_applies(arms: Sequence[Arm], measure: str, table: RunTable) -> None:
    """Raise NotTested where a probe cannot have been read: no BN there, or too short a run."""
    name, _, step = measure.partition("@")
    if name.startswith(AT_BN):
        without = list(dict.fromkeys(a.ordering for a in arms if "bn" not in a.ordering.split("-")))
        if without:
            raise NotTested("no_bn", measure=measure, without=_levels("ordering", without))
    if step.isdigit() and "steps" in table.runs:
        shortest = float(table.runs["steps"].min())
        if math.isfinite(shortest) and int(step) > shortest:
            raise NotTested("too_short", measure=measure, step=step, steps=int(shortest))


def _exact(
    weights: Mapping[Arm, Fraction],
    counts: npt.NDArray[np.int64],
    out_of: npt.NDArray[np.int64],
    threshold: float,
) -> tuple[npt.NDArray[np.int64], float] | None:
    """The contrast as whole numbers and the points that one of them stands for."""
    each = [w / int(n) for w, n in zip(weights.values(), out_of, strict=True)]
    offset = Fraction(str(threshold)) / 100
    scale = math.lcm(offset.denominator, *(weight.denominator for weight in each))
    largest = sum(abs(w) * scale * int(n) for w, n in zip(each, out_of, strict=True))
    if largest * counts.shape[1] > LARGEST_EXACT:
        return None
    whole = np.array([int(weight * scale) for weight in each], dtype=np.int64)
    return whole @ counts - int(offset * scale), 100 / scale


def check_meaning(claims: Sequence[Claim], path: str, grid: Grid) -> None:
    """Raise UserError for an axis value that could be in no study: a slip, not a missing arm."""
    for claim in claims:
        for part in claim.parts:
            for term in part.terms:
                for axis, values in term.select.items():
                    for value in values:
                        _check_value(axis, value, grid, f"{path}: claim {claim.id}: {axis}")


def _check_value(axis: str, value: str | int, grid: Grid, where: str) -> None:
    if axis in ("bn_class", "cut") or value in (*grid.values(axis), *KEYWORDS.get(axis, ("all",))):
        return
    try:
        if axis == "ordering":
            Ordering(str(value))
        elif axis == "activation":
            Activation(str(value))
        elif axis == "variant":
            raise UserError(f"{value!r}: expected one of {_list(grid.variant)}")
    except UserError as error:
        have = f"; the runs have {_list(grid.values(axis))}" if axis != "variant" else ""
        raise UserError(f"{where}: {error}{have}") from None


def _list(values: Sequence[object], most: int = 3) -> str:
    shown = ", ".join(str(v)[:80] for v in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")
