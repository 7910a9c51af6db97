"""Would it hold otherwise: how the effects of class and cut, and the verdicts, move by variant.

Exploration: the controls are many, and no verdict on a claim rests on them.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bnorder.claims import ACCURACY, Moved
from bnorder.statistics import estimates as est
from bnorder.statistics.contrasts import RunTable
from bnorder.statistics.estimates import Floats
from bnorder.statistics.explore import DRAWS, Orders, cells_of, crossed_orders, effects_of
from bnorder.statistics.verdicts import LEVEL, SEED

SHOWN = ("class", "cut")
LADDER = ["dataset", "variant", "effect", "contrast", "n", "mean", "ci_low", "ci_high", "p"]
CHANGE = ["change", "change_low", "change_high", "change_p", "change_p_holm"]
VERDICT_COLUMNS = ["claim", "variant", "verdict", "base_verdict", "changed"]


def tables(table: RunTable, by_variant: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of this page by their files' stems; empty where a study has one variant."""
    verdicts = changed_verdicts(by_variant)
    return {
        "controls": controls(table),
        "controls_verdicts": verdicts,
        "controls_summary": summary(verdicts),
    }


def controls(table: RunTable) -> pd.DataFrame:
    """One row a data set, variant and effect of class or cut on test accuracy.

    In percentage points, averaged over activations and depths: mean, 95 % t-interval and sign-flip
    p over the seeds; and the same of its change from `base`, within seeds, with Holm's p over the
    variants. NaN where a variant lacks runs. With both classes at one cut only, the class alone.
    """
    orders = crossed_orders(table.grid.ordering, least=1)
    seeds = len(table.grid.seeds)
    if len(table.grid.variant) < 2 or "base" not in table.grid.variant or not orders or seeds < 2:
        numbers = dict.fromkeys([*LADDER[4:], *CHANGE], float) | {"n": int}
        return pd.DataFrame(columns=[*LADDER, *CHANGE]).astype(numbers)
    flips = est.flip_signs(seeds, np.random.default_rng(SEED), draws=DRAWS)
    rows = []
    for dataset in table.grid.dataset:
        base = dict(_effects(table, orders, dataset, "base"))
        for variant in table.grid.variant:
            for key, d in _effects(table, orders, dataset, variant):
                change = d - base[key] if variant != "base" else d * np.nan
                where = (dataset, variant, *key)
                rows.append((*where, *_estimate(d, flips), *_estimate(change, flips)[1:], np.nan))
    return _with_holm(pd.DataFrame(rows, columns=[*LADDER, *CHANGE]))


def lost_under(found: pd.DataFrame) -> tuple[Moved, ...]:
    """Variants under which the class effect of `base` is gone or turned round, of `controls`.

    `base` has an interval without zero, the variant one that does not lie on the same side, and
    the change is clear after Holm.
    """
    classes = found[found["effect"] == "class"]
    base = classes[classes["variant"] == "base"].set_index("dataset")
    lost = []
    for row in classes[classes["change_p_holm"] < LEVEL].to_dict("records"):
        low, high = base.loc[row["dataset"], ["ci_low", "ci_high"]]
        above, below = low > 0 and row["ci_low"] <= 0, high < 0 and row["ci_high"] >= 0
        if above or below:
            numbers = (row[name] for name in ("mean", "ci_low", "ci_high", *CHANGE[:3], CHANGE[4]))
            lost.append(Moved(str(row["dataset"]), str(row["variant"]), *map(float, numbers)))
    return tuple(lost)


def _effects(
    table: RunTable, orders: Orders, dataset: str, variant: str
) -> Iterator[tuple[tuple[str, str], Floats]]:
    """(effect, contrast) and its (seeds,) values, NaN where a run is missing."""
    cells = cells_of(table, orders, dataset, variant, ACCURACY)
    if cells is None:
        return
    for effect, words, d in effects_of(cells.mean(axis=(1, 2)), orders):
        if effect in SHOWN:
            yield (effect, words), d


def _estimate(d: Floats, flips: est.Flips) -> tuple[float, ...]:
    """n, mean, both ends of its interval, and p."""
    if not np.isfinite(d).all():
        return (0, np.nan, np.nan, np.nan, np.nan)
    low, high = est.t_interval(d)
    return (len(d), float(d.mean()), float(low), float(high), float(est.sign_flip_p(d, flips)))


def _with_holm(frame: pd.DataFrame) -> pd.DataFrame:
    """Holm's p of each change, over the variants of a data set and contrast."""
    for _, rows in frame.dropna(subset=["change_p"]).groupby(["dataset", "contrast"]):
        frame.loc[rows.index, "change_p_holm"] = est.holm(rows["change_p"].to_numpy())
    return frame


def changed_verdicts(by_variant: pd.DataFrame) -> pd.DataFrame:
    """One row a claim and variant: its verdict there, that under `base`, and whether they differ.

    Only claims that `base` can test; one that a variant cannot test has not changed.
    """
    each = by_variant.drop_duplicates(["variant", "claim"])
    base = each[each["variant"] == "base"].set_index("claim")["verdict"]
    found = each[each["variant"] != "base"].assign(base_verdict=each["claim"].map(base))
    found = found[found["base_verdict"].notna() & (found["base_verdict"] != "not tested")]
    tested = found["verdict"] != "not tested"
    return found.assign(changed=tested & (found["verdict"] != found["base_verdict"]))[
        VERDICT_COLUMNS
    ]


def summary(verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row a variant: claims that it could test, and verdicts that changed."""
    rows = [
        (variant, int((rows["verdict"] != "not tested").sum()), int(rows["changed"].sum()))
        for variant, rows in verdicts.groupby("variant", sort=False)
    ]
    frame = pd.DataFrame(rows, columns=["variant", "tested", "changed"])
    return frame.astype({"tested": int, "changed": int})
