"""Convergence as survival: steps to each threshold, runs that never get there censored.

A run that diverges never gets there, so it is censored at the end of its arm's training, not
where it stopped. The log-rank test takes runs as independent; seeds shared between arms make it
somewhat cautious. Exploration.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from bnorder.claims import AXES
from bnorder.statistics.explore import FAMILY, _holm_by

ARM = list(AXES)


def survival_tables(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`survival` (Kaplan-Meier steps), `survival_summary` and `logrank`, for each threshold."""
    long = steps_to_thresholds(runs)
    steps, summary = _kaplan_meier(long)
    return {"survival": steps, "survival_summary": summary, "logrank": _log_rank(long)}


def steps_to_thresholds(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run and threshold: the step, and whether it was reached there or censored."""
    columns = [c for c in runs.columns if str(c).startswith("steps_to_")]
    if not columns or "steps" not in runs:
        return pd.DataFrame(columns=[*ARM, "seed", "threshold", "step", "reached"])
    end = runs.groupby(ARM)["steps"].transform("max").to_numpy(dtype=np.float64)
    parts = []
    for column in columns:
        step = runs[column].to_numpy(dtype=np.float64)
        part = runs[[*ARM, "seed"]].assign(
            threshold=float(str(column).removeprefix("steps_to_")),
            step=np.where(np.isnan(step), end, step),
            reached=~np.isnan(step),
        )
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _kaplan_meier(long: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    from statsmodels.duration.survfunc import SurvfuncRight

    keys = [*ARM, "threshold"]
    curves, summary = [], []
    for cell, group in long.groupby(keys, sort=False):
        step, reached = group["step"].to_numpy(), group["reached"].to_numpy()
        median = np.nan
        curves.append((*cell, 0.0, len(step), 0, 1.0))
        if reached.any():
            curve = SurvfuncRight(step, reached.astype(int))
            at = zip(curve.surv_times, curve.n_risk, curve.n_events, curve.surv_prob, strict=True)
            curves += [(*cell, float(t), int(k), int(d), float(s)) for t, k, d, s in at]
            below = np.round(curve.surv_prob, 9) < 0.5  # half is half, whatever its last digits
            median = float(curve.surv_times[below][0]) if below.any() else np.nan
        summary.append((*cell, len(step), int(reached.sum()), median))
    return (
        pd.DataFrame(curves, columns=[*keys, "step", "at_risk", "events", "share_not_reached"]),
        pd.DataFrame(summary, columns=[*keys, "n", "reached", "median_steps"]),
    )


def _log_rank(long: pd.DataFrame) -> pd.DataFrame:
    """Every two orderings within each arm family and threshold, with Holm among them."""
    keys = [*FAMILY, "threshold"]
    rows = [
        (*cell, *row)
        for cell, group in long.groupby(keys, sort=False)
        for row in _log_rank_pairs(group)
    ]
    frame = pd.DataFrame(rows, columns=[*keys, "first", "second", "statistic", "p"])
    if frame.empty:
        return frame.assign(p_holm=pd.Series(dtype=float))
    family = frame.groupby(keys, sort=False).ngroup().tolist()
    return frame.assign(p_holm=_holm_by(frame["p"], family))


def _log_rank_pairs(group: pd.DataFrame) -> Iterator[tuple[str, str, float, float]]:
    arms = {
        str(o): (g["step"].to_numpy(), g["reached"].to_numpy().astype(int))
        for o, g in group.groupby("ordering", sort=False)
    }
    for first, second in itertools.combinations(arms, 2):
        (a, reached_a), (b, reached_b) = arms[first], arms[second]
        side = np.repeat([0, 1], [len(a), len(b)])
        reached = np.concatenate([reached_a, reached_b])
        yield first, second, *_log_rank_test(np.concatenate([a, b]), reached, side)


def _log_rank_test(
    steps: npt.NDArray[np.float64], reached: npt.NDArray[np.int64], side: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Log-rank statistic and p; NaN where no run gets there, 0 and 1 where no step can tell.

    No step can tell the sides apart when, at each, all runs still on their way get there, or only
    one side has any left: the statistic's variance is then 0, and so is what it measures.
    """
    from statsmodels.duration.survfunc import survdiff

    if not reached.any():
        return math.nan, math.nan
    try:
        with np.errstate(invalid="ignore", divide="ignore"):
            statistic, p = survdiff(steps, reached, side)
    except np.linalg.LinAlgError:
        return 0.0, 1.0
    return (0.0, 1.0) if math.isnan(p) else (float(statistic), float(p))
