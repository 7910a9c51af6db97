"""Around the verdicts, as exploration: tables of arms, pairs, survival, class and cut, pairing.

None of these carries a verdict: with few seeds, hundreds of cells cannot.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bnorder.claims import ACCURACY, AXES, Claim, Gap, both_signs, unit_of
from bnorder.statistics import estimates as est
from bnorder.statistics.contrasts import RunTable, describe
from bnorder.statistics.estimates import Floats
from bnorder.statistics.verdicts import SEED, judge
from bnorder.study import Arm

MEASURES = (ACCURACY, "test_loss", "test_error_area")
CLASSES = ("bn_first", "act_first")
CUTS = ("conv_first", "conv_middle", "conv_last")
DRAWS = 10_000  # random flips beyond MAX_EXACT seeds: exploration needs no fourth digit
FAMILY = ["dataset", "activation", "depth", "variant"]


def explore_tables(
    runs: pd.DataFrame, table: RunTable, claims: Sequence[Claim]
) -> dict[str, pd.DataFrame]:
    """Every exploratory table by its file's stem; columns as in docs/verdicts.md."""
    effects, shares = class_cut(table)
    return {
        "arms": arms(runs),
        "pairwise": pairwise(table),
        "class_cut": effects,
        "class_cut_shares": shares,
        "class_effect_seeds": class_effect_seeds(table),
        "correlation": correlation(table),
        "by_variant": by_variant(claims, table),
    }


def t_reach(sd: Floats, n: Floats, level: float = 0.95) -> Floats:
    """Half the width of the t-interval of a mean; NaN below two values."""
    from scipy import stats

    n = np.asarray(n, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        reach: Floats = stats.t.ppf((1 + level) / 2, n - 1) * sd / np.sqrt(n)
    return reach


def clopper_pearson(events: Floats, n: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Exact interval of a share. Source: Clopper & Pearson (1934), Biometrika 26, 404-413."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(np.asarray(events), np.asarray(n), 1 - level, method="beta")
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def arms(runs: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: accuracy with its interval, loss, area, and divergences."""
    columns = ["dataset", "ordering", "bn_class", "cut", "activation", "depth", "variant"]
    groups = runs.groupby(columns, sort=False)
    frame = groups.size().rename("runs").reset_index()
    frame["arm"] = [Arm(*cell).id for cell in frame[list(AXES)].itertuples(index=False, name=None)]
    if ACCURACY in runs:
        accuracy = groups[ACCURACY].agg(["count", "mean", "std", "min", "max"]).reset_index()
        names = {"count": "n", "std": "sd"}
        frame = frame.merge(accuracy.rename(columns=names), on=columns)
        reach = t_reach(frame["sd"].to_numpy(), frame["n"].to_numpy())
        frame["ci_low"], frame["ci_high"] = frame["mean"] - reach, frame["mean"] + reach
    for name, measure in (("loss_mean", "test_loss"), ("area_mean", "test_error_area")):
        frame[name] = groups[measure].mean().to_numpy() if measure in runs else np.nan
    if "status" in runs:
        diverged = runs["status"].eq("diverged").groupby([runs[c] for c in columns], sort=False)
        frame["diverged"] = diverged.sum().to_numpy()
    else:
        frame["diverged"] = 0
    frame["diverged_share"] = frame["diverged"] / frame["runs"]
    low, high = clopper_pearson(frame["diverged"].to_numpy(), frame["runs"].to_numpy())
    if "mean" in frame:
        best = frame.groupby(["dataset", "activation", "depth", "variant"])["mean"].transform("max")
        frame["below_best"] = best - frame["mean"]
    return frame.assign(diverged_low=low, diverged_high=high)


def bands(curves: pd.DataFrame) -> pd.DataFrame:
    """One row an arm and step: mean and 95 % t-interval over the seeds still training."""
    keys = [*AXES, "step"]
    measures = [m for m in (ACCURACY, "test_loss", "train_loss") if m in curves]
    groups = curves.groupby(keys, sort=True)
    rows = [groups["epoch"].mean() if "epoch" in curves else groups.size().rename("runs")]
    for measure in measures:
        stats = groups[measure].agg(["count", "mean", "std"])
        reach = t_reach(stats["std"].to_numpy(), stats["count"].to_numpy())
        rows.append(stats["mean"].rename(f"{measure}_mean"))
        rows.append((stats["mean"] - reach).rename(f"{measure}_low"))
        rows.append((stats["mean"] + reach).rename(f"{measure}_high"))
    frame = pd.concat([groups.size().rename("n"), *rows], axis=1).reset_index()
    described = {o: describe(o) for o in frame["ordering"].unique()}
    for column in ("bn_class", "cut"):
        frame[column] = frame["ordering"].map({o: d[column] for o, d in described.items()})
    return frame


def _pairs(table: RunTable) -> Iterator[tuple[int, tuple[Arm, Arm]]]:
    """Pairs of orderings that share all else, with the number of their family."""
    grid = table.grid
    families = itertools.product(grid.dataset, grid.activation, grid.depth, grid.variant)
    for number, (dataset, activation, depth, variant) in enumerate(families):
        there = [Arm(dataset, o, activation, depth, variant) for o in grid.ordering]
        there = [arm for arm in there if arm in table.index]
        for pair in itertools.combinations(there, 2):
            yield number, pair


def pairwise(table: RunTable) -> pd.DataFrame:
    """Every two orderings within each arm family, by sign-flip test with Holm in the family."""
    columns = [*FAMILY, "first", "second", "n", "mean", "ci_low", "ci_high", "p", "p_holm"]
    measured = table.measured(ACCURACY)
    pairs = list(_pairs(table))
    if measured is None or not pairs or len(table.grid.seeds) < 2:
        return pd.DataFrame(columns=columns)
    counts, out_of = measured.counts, measured.out_of
    assert counts is not None and out_of is not None  # of an accuracy
    one = np.array([table.index[first] for _, (first, _) in pairs])
    two = np.array([table.index[second] for _, (_, second) in pairs])
    values = measured.values[one] - measured.values[two]
    whole = np.isfinite(values).all(axis=1)
    frame = pd.DataFrame(
        [
            (a.dataset, a.activation, a.depth, a.variant, a.ordering, b.ordering)
            for _, (a, b) in pairs
        ],
        columns=columns[:6],
    )
    frame["n"] = np.isfinite(values).sum(axis=1)
    values, one, two = values[whole], one[whole], two[whole]
    shares = counts[one] * out_of[two, None] - counts[two] * out_of[one, None]  # whole numbers tie
    flips = est.flip_signs(len(table.grid.seeds), np.random.default_rng(SEED), draws=DRAWS)
    low, high = est.t_interval(values)
    found = {
        "mean": values.mean(axis=1),
        "ci_low": low,
        "ci_high": high,
        "p": est.sign_flip_p(shares, flips),
    }
    for name, column in found.items():
        frame.loc[whole, name] = column
    return frame.assign(p_holm=_holm_by(frame["p"], [number for number, _ in pairs]))


def _holm_by(p: pd.Series, family: Sequence[int]) -> pd.Series:
    """Holm's p within each family; what has no p-value stays out of it."""
    known = p.dropna()
    groups = known.groupby(pd.Series(family, index=p.index)[known.index])
    adjusted = groups.transform(lambda g: est.holm(g.to_numpy(dtype=np.float64)))
    return adjusted.reindex(p.index)


def correlation(table: RunTable) -> pd.DataFrame:
    """Does pairing pay? Correlation between arms within seeds, and what it saves.

    ratio: variance of a paired difference over that of an unpaired one, averaged over all pairs
    of arms; worth: how many unpaired seeds one paired seed replaces (1 / ratio).
    """
    rows = []
    for dataset, variant in itertools.product(table.grid.dataset, table.grid.variant):
        chosen = [r for a, r in table.index.items() if (a.dataset, a.variant) == (dataset, variant)]
        for measure in MEASURES:
            measured = table.measured(measure)
            if measured is None:
                continue
            x = measured.values[chosen]
            x = x[np.isfinite(x).all(axis=1)]
            x = x[np.ptp(x, axis=1) > 0] if x.size else x
            if len(x) < 2 or x.shape[1] < 3:
                continue
            rows.append((dataset, variant, measure, *_pairing(x)))
    names = ["arms", "n", "mean_correlation", "sd_paired", "sd_unpaired", "ratio", "worth"]
    return pd.DataFrame(rows, columns=["dataset", "variant", "measure", *names])


def _pairing(x: Floats) -> tuple[int, int, float, float, float, float, float]:
    """x: (arms, seeds). Sums over pairs of arms from sums over arms: no quadratic table."""
    k, n = x.shape
    pairs = k * (k - 1) / 2
    variance = x.var(axis=1, ddof=1)
    paired = (k * variance.sum() - x.sum(axis=0).var(ddof=1)) / pairs
    unpaired = (k - 1) * variance.sum() / pairs
    z = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(variance)[:, None]
    r = (z.sum(axis=0).var(ddof=1) - k) / 2 / pairs
    ratio = paired / unpaired
    sds = float(np.sqrt(paired)), float(np.sqrt(unpaired))
    return k, n, float(r), *sds, float(ratio), float(1 / ratio)


def by_variant(claims: Sequence[Claim], table: RunTable) -> pd.DataFrame:
    """Every claim judged again under each variant, where there are several; exploration."""
    columns = ["variant", "claim", "part", "verdict", "mean", "ci_low", "ci_high", "p"]
    rows: list[tuple[object, ...]] = []
    if len(table.grid.variant) > 1:
        for variant in table.grid.variant:
            for v in judge([_under(c, variant) for c in claims], table, resamples=0):
                for e in v.estimates:
                    row = (e.name, v.verdict, e.mean, e.ci_low, e.ci_high, e.p)
                    rows.append((variant, v.claim.id, *row))
                if not v.estimates:
                    nothing = [np.nan] * 4
                    rows.append((variant, v.claim.id, "", v.verdict, *nothing))
    return pd.DataFrame(rows, columns=columns)


def _under(claim: Claim, variant: str) -> Claim:
    """The claim with the variant of each term that names none set to this one."""
    parts = tuple(
        replace(
            part,
            terms=tuple(replace(t, select={"variant": (variant,), **t.select}) for t in part.terms),
        )
        for part in claim.parts
    )
    return replace(claim, parts=parts)


# --- class and cut ---------------------------------------------------------------------------


def class_cut(table: RunTable) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Effects of class, of cut and of both, and their shares of the differences between orders.

    Only where both classes stand at the same two or more cuts. For each data set, variant and
    measure: over all activations and depths, and for each of them alone.
    """
    effects: list[tuple[object, ...]] = []
    shares: list[tuple[object, ...]] = []
    contrasts: list[Floats] = []
    orders = crossed_orders(table.grid.ordering)
    for where, x in _all_slices(table, orders):
        for effect, words, d in effects_of(x, orders):
            effects.append((*where, effect, words))
            contrasts.append(d)
        shares += [(*where, *row) for row in _shares(x, orders)]
    names = ["dataset", "activation", "depth", "variant", "measure", "unit", "effect"]
    frame = pd.DataFrame(effects, columns=[*names, "contrast"])
    return _with_estimates(frame, contrasts), pd.DataFrame(shares, columns=[*names, "share"])


def class_effect_seeds(table: RunTable) -> pd.DataFrame:
    """The class effect in accuracy seed by seed, in the slices of `class_cut`."""
    orders = crossed_orders(table.grid.ordering)
    rows = [
        (*where[:4], seed, float(value))
        for where, x in _all_slices(table, orders)
        if where[4] == ACCURACY
        for seed, value in zip(table.grid.seeds, effects_of(x, orders)[0][2], strict=True)
    ]
    return pd.DataFrame(
        rows, columns=["dataset", "activation", "depth", "variant", "seed", "value"]
    )


def _with_estimates(frame: pd.DataFrame, contrasts: Sequence[Floats]) -> pd.DataFrame:
    """The frame with n, mean, interval and sign-flip p of each row's contrast."""
    if not contrasts:
        return frame.reindex(columns=[*frame.columns, "n", "mean", "ci_low", "ci_high", "p"])
    d = np.array(contrasts)
    n = d.shape[1]
    flips = est.flip_signs(n, np.random.default_rng(SEED), draws=DRAWS)
    low, high = est.t_interval(d)
    p = est.sign_flip_p(d, flips)
    return frame.assign(n=n, mean=d.mean(axis=1), ci_low=low, ci_high=high, p=p)


Where = tuple[str, str, str, str, str, str]


def _all_slices(table: RunTable, orders: "Orders") -> Iterator[tuple[Where, Floats]]:
    """Every complete (orders, seeds) table with its data set, activation, depth, ..., unit."""
    if not orders or len(table.grid.seeds) < 2:
        return
    for dataset, variant in itertools.product(table.grid.dataset, table.grid.variant):
        for measure in MEASURES:
            cells = cells_of(table, orders, dataset, variant, measure)
            if cells is None:
                continue
            for activation, depth, x in _slices(cells, table):
                if np.isfinite(x).all():
                    yield (dataset, activation, depth, variant, measure, unit_of(measure)), x


Orders = dict[tuple[str, str], str]


def crossed_orders(orderings: Sequence[str], least: int = 2) -> Orders:
    """(class, cut) -> ordering for the cuts at which both classes stand; {} below `least` cuts."""
    found = {(describe(o)["bn_class"], describe(o)["cut"]): o for o in orderings}
    cuts = [cut for cut in CUTS if all((c, cut) in found for c in CLASSES)]
    if len(cuts) < least:
        return {}
    return {(c, cut): found[c, cut] for c in CLASSES for cut in cuts}


def cells_of(
    table: RunTable, orders: Orders, dataset: str, variant: str, measure: str
) -> Floats | None:
    """(orders, activations, depths, seeds), NaN where missing."""
    measured = table.measured(measure)
    if measured is None:
        return None
    grid = table.grid
    shape = (len(orders), len(grid.activation), len(grid.depth), len(grid.seeds))
    cells = np.full(shape, np.nan)
    for i, ordering in enumerate(orders.values()):
        for j, activation in enumerate(grid.activation):
            for k, depth in enumerate(grid.depth):
                row = table.index.get(Arm(dataset, ordering, activation, depth, variant))
                if row is not None:
                    cells[i, j, k] = measured.values[row]
    return cells


def _slices(cells: Floats, table: RunTable) -> Iterator[tuple[str, str, Floats]]:
    """(activation, depth, (orders, seeds)): over all, by activation, by depth, and by both."""
    grid = table.grid
    yield "all", "all", cells.mean(axis=(1, 2))
    if len(grid.activation) > 1:
        for j, activation in enumerate(grid.activation):
            yield activation, "all", cells[:, j].mean(axis=1)
    if len(grid.depth) > 1:
        for k, depth in enumerate(grid.depth):
            yield "all", str(depth), cells[:, :, k].mean(axis=1)
    if len(grid.activation) > 1 and len(grid.depth) > 1:
        for j, activation in enumerate(grid.activation):
            for k, depth in enumerate(grid.depth):
                yield activation, str(depth), cells[:, j, k]


def effects_of(x: Floats, orders: Orders) -> list[tuple[str, str, Floats]]:
    """x: (orders, seeds). Each effect as a contrast within seeds, (seeds,)."""
    names = list(orders)
    cuts = list(dict.fromkeys(cut for _, cut in names))
    first, second = ({cut: x[names.index((c, cut))] for cut in cuts} for c in CLASSES)
    gap = {cut: first[cut] - second[cut] for cut in cuts}
    level = {cut: (first[cut] + second[cut]) / 2 for cut in cuts}
    pairs = list(itertools.combinations(cuts, 2))
    words = f"{CLASSES[0]} - {CLASSES[1]}"
    return [
        ("class", words, np.mean(list(gap.values()), axis=0)),
        *(("cut", f"{a} - {b}", level[a] - level[b]) for a, b in pairs),
        *(("class x cut", f"({words}) at {a} - at {b}", gap[a] - gap[b]) for a, b in pairs),
        *(("class at a cut", f"{words} at {cut}", gap[cut]) for cut in cuts),
    ]


def opposite_gaps(table: RunTable) -> tuple[Gap, ...]:
    """Of data sets where BN before and after the activation each do better at some cut: all cuts.

    In test accuracy of the study's own recipe, averaged over activations and depths. Better means
    that a 95 % interval excludes zero.
    """
    orders, found = crossed_orders(table.grid.ordering), []
    variant = "base" if "base" in table.grid.variant else table.grid.variant[0]
    for dataset in table.grid.dataset if len(table.grid.seeds) > 1 else ():
        cells = cells_of(table, orders, dataset, variant, ACCURACY) if orders else None
        if cells is None or not np.isfinite(cells).all():
            continue
        x, names = cells.mean(axis=(1, 2)), list(orders)
        gaps = []
        for cut in dict.fromkeys(cut for _, cut in names):
            d = x[names.index((CLASSES[0], cut))] - x[names.index((CLASSES[1], cut))]
            low, high = est.t_interval(d)
            first, second = (orders[c, cut] for c in CLASSES)
            gaps.append(Gap(dataset, first, second, float(d.mean()), float(low), float(high)))
        if both_signs((g.ci_low, g.ci_high) for g in gaps):
            found += gaps
    return tuple(found)


def _shares(x: Floats, orders: Orders) -> Iterator[tuple[str, float]]:
    """Shares of the sum of squares between the orders' means; descriptive, noise included."""
    means = x.mean(axis=1).reshape(len(CLASSES), -1)
    centred = means - means.mean()
    by_class = np.broadcast_to(centred.mean(axis=1, keepdims=True), centred.shape)
    by_cut = np.broadcast_to(centred.mean(axis=0, keepdims=True), centred.shape)
    total = float((centred**2).sum())
    parts = {
        "class": by_class,
        "cut": by_cut,
        "class x cut": centred - by_class - by_cut,
    }
    for effect, part in parts.items():
        yield effect, float((part**2).sum()) / total if total > 0 else float("nan")
