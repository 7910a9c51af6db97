"""Why: what the probes say beside the claims, over depth, over training, and beside accuracy.

Exploration: a verdict rests on a claim's own measure and on nothing here. Base recipe only.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bnorder.claims import ACCURACY, Claim, Part
from bnorder.statistics import estimates as est
from bnorder.statistics.contrasts import Grid, NotTested, RunTable, contrast_of, weighted_arms
from bnorder.statistics.estimates import Floats
from bnorder.statistics.explore import DRAWS, t_reach
from bnorder.statistics.verdicts import LEVEL, SEED
from bnorder.tables import read_probes

EARLY = 100  # steps: the moment that the claims name
MOMENTS = ("start", "early", "end")
AXES = ["dataset", "ordering", "activation", "depth"]
ESTIMATE = ["n", "mean", "ci_low", "ci_high"]
STEPS = [*AXES, "probe", "step", *ESTIMATE]
LAYERS = [*AXES, "probe", "moment", "step", "layer", *ESTIMATE]
PARTS = ("premise", "consequence", "correlation")
WHY = ["claim", "part", "probe", "moment", "n", "arms"] + [
    f"{part}{name}" for part in PARTS for name in ("", "_low", "_high", "_p", "_word")
]


@dataclass(frozen=True)
class Lens:
    """A probe whose greater values are the worse ones, and how it is shown.

    layers: what is drawn over depth, if anything; logs: which of the two are averaged as
    logarithms, since they span powers of ten.
    """

    layers: str
    logs: tuple[str, ...] = ()


LENSES = {
    "gradient_slope": Lens("activation_gradient_norm", ("activation_gradient_norm",)),
    "bn_input_mean_cv": Lens("bn_input_mean_cv"),
    "bn_input_variance_cv": Lens("bn_input_variance_cv"),
    "landscape_smoothness": Lens("", ("landscape_smoothness",)),
}
LOGS = {name for lens in LENSES.values() for name in lens.logs}


def tables(
    probes: str | Path | None, runs: pd.DataFrame, grid: Grid, claims: Sequence[Claim]
) -> dict[str, pd.DataFrame]:
    """The tables of this page by their files' stems; empty where a study has no probes."""
    wanted = list(dict.fromkeys(c.probe for c in claims if c.probe in LENSES))
    empty = {
        "probe_steps": pd.DataFrame(columns=STEPS).astype(_kinds(STEPS)),
        "probe_layers": pd.DataFrame(columns=LAYERS).astype(_kinds(LAYERS)),
        "why": pd.DataFrame(columns=WHY).astype(_kinds(WHY)),
    }
    if probes is None or not wanted or "run" not in runs:
        return empty
    readings = read_probes(probes, [*wanted, *(LENSES[name].layers for name in wanted)])
    if readings.empty:
        return empty
    last = readings.groupby("dataset")["step"].max()
    each = per_run(readings, wanted)
    table = RunTable(_beside(runs, at_moments(each, last)), grid)
    return {
        "probe_steps": over_training(each),
        "probe_layers": over_depth(readings, wanted, last),
        "why": explanations(claims, table),
    }


def _kinds(columns: Sequence[str]) -> dict[str, type]:
    text = {*AXES, "probe", "moment", "claim", "part", *(f"{part}_word" for part in PARTS)}
    whole = {"depth", "step", "layer", "n", "arms"}
    return {c: int if c in whole else str if c in text else float for c in columns}


def per_run(readings: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """One row a run, probe and step: the mean over the layers that the probe reads."""
    chosen = readings[readings["probe"].isin(wanted)]
    keys = ["run", *AXES, "probe", "step"]
    return chosen.groupby(keys, sort=False, observed=True)["value"].mean().reset_index()


def at_moments(each: pd.DataFrame, last: pd.Series) -> pd.DataFrame:
    """One row a run, a column `probe@moment`: at the start, after 100 steps, at the run's end."""
    end = each["dataset"].map(last)
    found = []
    for moment, step in zip(MOMENTS, (0, EARLY, end), strict=True):
        rows = each[each["step"] == step]
        found.append(rows.assign(column=rows["probe"] + "@" + moment))
    return pd.concat(found).pivot(index="run", columns="column", values="value")


def _beside(runs: pd.DataFrame, wide: pd.DataFrame) -> pd.DataFrame:
    named = runs.assign(run=runs["run"].astype(str))
    return named.merge(wide, left_on="run", right_index=True, how="left")


# --- pictures -------------------------------------------------------------------------------------


def over_training(each: pd.DataFrame) -> pd.DataFrame:
    """One row an arm, probe and step: the mean over seeds with its 95 % t-interval."""
    return _averaged(each, [*AXES, "probe", "step"])[STEPS]


def over_depth(readings: pd.DataFrame, wanted: Sequence[str], last: pd.Series) -> pd.DataFrame:
    """One row an arm, probe, moment and layer: the mean over seeds with its 95 % t-interval."""
    names = [LENSES[name].layers for name in wanted]
    chosen = readings[readings["probe"].isin(names) & (readings["layer"] > 0)]
    end = chosen["dataset"].map(last)
    frames = [
        chosen[chosen["step"] == step].assign(moment=moment)
        for moment, step in zip(MOMENTS, (0, EARLY, end), strict=True)
    ]
    return _averaged(pd.concat(frames), [*AXES, "probe", "moment", "step", "layer"])[LAYERS]


def _averaged(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean and interval of `value` by `keys`; of what spans powers of ten, the geometric ones."""
    logs = frame["probe"].isin(LOGS).to_numpy()
    value = frame["value"].to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore"):
        value = np.where(logs, np.log(np.where(logs, value, 1.0)), value)
    frame = frame.assign(value=np.where(np.isfinite(value), value, np.nan))
    found = frame.groupby(keys, sort=False, observed=True)["value"].agg(["count", "mean", "std"])
    reach = t_reach(found["std"].to_numpy(), found["count"].to_numpy())
    found = found.rename(columns={"count": "n"}).reset_index()
    found["ci_low"], found["ci_high"] = found["mean"] - reach, found["mean"] + reach
    logs = found["probe"].isin(LOGS).to_numpy()
    for column in ("mean", "ci_low", "ci_high"):
        found[column] = np.where(logs, np.exp(np.where(logs, found[column], 0)), found[column])
    return found.sort_values(keys, kind="stable")


# --- does it explain the difference in accuracy? --------------------------------------------------


def explanations(claims: Sequence[Claim], table: RunTable) -> pd.DataFrame:
    """One row a claim with a probe, part and moment.

    premise: are the arms that the claim calls worse those with the greater (worse) probe?
    consequence: are they those with the lower accuracy? Both are the claim's own contrast within
    seeds, above 0 where the answer is yes. correlation: within a seed and among the orders of one
    data set, activation and depth, between the ranks of probe and accuracy; below 0 where a worse
    probe goes with a lower accuracy. Words: `yes`, `no` (the opposite), `open`, by the sign-flip
    test at 5 %, not adjusted.
    """
    rows = []
    for claim, (part, better) in _stories(claims):
        for moment in MOMENTS:
            measure = f"{claim.probe}@{moment}"
            row = _explanation(better, measure, table)
            if row is not None:
                rows.append((claim.id, part.name, claim.probe, moment, *row))
    return pd.DataFrame(rows, columns=WHY).astype(_kinds(WHY))


def _stories(claims: Sequence[Claim]) -> Iterator[tuple[Claim, tuple[Part, Part]]]:
    """Claims with their parts as contrasts of accuracy, above 0 as the claim's story has it.

    A part on accuracy says so itself; one on a probe says that those arms have the greater probe,
    hence the lower accuracy. Parts that come to the same contrast count once.
    """
    for claim in claims:
        seen = []
        for part in claim.parts if claim.probe in LENSES else ():
            if part.crossed or part.threshold is not None:
                continue
            about_accuracy = part.measure == ACCURACY
            if not about_accuracy and part.measure.partition("@")[0] not in _PROBED:
                continue
            sign = 1 if about_accuracy else -1
            terms = tuple(replace(t, weight=sign * t.weight) for t in part.terms)
            if terms not in seen:
                seen.append(terms)
                yield claim, (part, replace(part, measure=ACCURACY, terms=terms))


_PROBED = {*LENSES, "running_loss_pp"}


def _explanation(better: Part, measure: str, table: RunTable) -> list[object] | None:
    worse = replace(
        better, measure=measure, terms=tuple(replace(t, weight=-t.weight) for t in better.terms)
    )
    try:
        premise, consequence = contrast_of(worse, table), contrast_of(better, table)
    except NotTested:
        return None
    arms = weighted_arms(better, table.grid)
    found = correlations(table, [table.index[arm] for arm in arms], measure)
    row: list[object] = [len(table.grid.seeds), len(arms)]
    for values, sign in ((premise.values, 1), (consequence.values, 1), (found, -1)):
        row += _told(values, sign)
    return row


def _told(values: Floats, sign: int) -> list[object]:
    """Mean, interval, p and the answer of one number a seed; sign: of a mean that says yes."""
    if len(values) < 2 or not np.isfinite(values).all():
        return [np.nan] * 4 + ["open"]
    flips = est.flip_signs(len(values), np.random.default_rng(SEED), draws=DRAWS)
    p = float(est.sign_flip_p(values, flips))
    low, high = est.t_interval(values)
    mean = float(values.mean())
    word = "open" if p >= LEVEL else "yes" if sign * mean > 0 else "no"
    return [mean, float(low), float(high), p, word]


def correlations(table: RunTable, rows: Sequence[int], measure: str) -> Floats:
    """Within each seed, how accuracy goes with a probe among orders that share all else, (seeds,).

    Ranks among the orders of each data set, activation and depth with three orders or more,
    centred, then one correlation over all of them (Spearman's, stratified). NaN where nothing
    varies.
    """
    from scipy import stats

    probe, accuracy = table.measured(measure), table.measured(ACCURACY)
    assert probe and accuracy
    arms = {row: arm for arm, row in table.index.items() if row in set(rows)}
    cells = [
        [row for row, _ in group]
        for _, group in itertools.groupby(
            sorted(arms.items(), key=lambda item: _cell(item[1])), key=lambda item: _cell(item[1])
        )
    ]
    found = []
    for seed in range(len(table.grid.seeds)):
        pairs = []
        for cell in cells:
            x, y = probe.values[cell, seed], accuracy.values[cell, seed]
            both = np.isfinite(x) & np.isfinite(y)
            if both.sum() > 2:
                ranks = [stats.rankdata(v[both]) for v in (x, y)]
                pairs.append([r - r.mean() for r in ranks])
        a, b = (np.concatenate([p[i] for p in pairs]) if pairs else np.zeros(1) for i in (0, 1))
        size = float(np.sqrt((a**2).sum() * (b**2).sum()))
        found.append(float((a * b).sum()) / size if size else np.nan)
    return np.array(found)


def _cell(arm: object) -> tuple[str, str, int, str]:
    return (arm.dataset, arm.activation, arm.depth, arm.variant)  # type: ignore[attr-defined]
