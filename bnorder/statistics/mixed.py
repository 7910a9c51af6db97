"""A linear mixed model of accuracy: class x cut x activation x depth fixed, seed random.

Exploration. In percentage points: on fractions the optimiser may report effects of exactly 0.
"""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bnorder.claims import ACCURACY
from bnorder.statistics.estimates import Floats

MOST_SEEDS = 200  # the report says so; the likelihood takes a step of Python for each
FACTORS = {"bn_class": "class", "cut": "cut", "activation": "activation", "depth": "depth"}


@dataclass(frozen=True)
class Design:
    """Columns of the fixed effects, (runs, terms), their names, and the terms left out."""

    matrix: Floats
    names: tuple[str, ...]
    dropped: tuple[str, ...]


def design(runs: pd.DataFrame, factors: Mapping[str, str]) -> Design:
    """Full crossing of sum-coded factors; columns that depend on earlier ones are left out.

    factors: column -> its name in the terms. A coefficient is a level's distance from the mean
    over levels (for two levels: half their difference); the last level is minus the others' sum.
    """
    coded = {name: _sum_coded(runs[column], name) for column, name in factors.items()}
    columns: list[Floats] = [np.ones(len(runs))]
    names = ["mean"]
    for size in range(1, len(coded) + 1):
        for chosen in itertools.combinations(coded.values(), size):
            for cells in itertools.product(*chosen):
                names.append(":".join(name for name, _ in cells))
                columns.append(np.prod([column for _, column in cells], axis=0))
    matrix = np.column_stack(columns)
    diagonal = np.zeros(len(names))
    found = np.abs(np.diag(np.linalg.qr(matrix, mode="r")))
    diagonal[: len(found)] = found
    keep = diagonal > 1e-8 * np.sqrt(len(runs))
    dropped = tuple(name for name, kept in zip(names, keep, strict=True) if not kept)
    kept_names = tuple(name for name, kept in zip(names, keep, strict=True) if kept)
    return Design(matrix[:, keep], kept_names, dropped)


def _sum_coded(values: pd.Series, name: str) -> list[tuple[str, Floats]]:
    levels = values.drop_duplicates().tolist()
    last = (values == levels[-1]).to_numpy(dtype=np.float64)
    return [
        (f"{name}[{level}]", (values == level).to_numpy(dtype=np.float64) - last)
        for level in levels[:-1]
    ]


@dataclass(frozen=True)
class FixedEffect:
    """One coefficient with its 95 % interval (normal, as statsmodels has it)."""

    term: str
    estimate: float
    se: float
    ci_low: float
    ci_high: float
    z: float
    p: float


@dataclass(frozen=True)
class MixedModel:
    """A fit, or the reason why there is none; `converged` is False when it cannot be relied on."""

    measure: str
    formula: str
    n_runs: int
    n_seeds: int
    left_out: str
    fitted: bool = False
    converged: bool = False
    message: str = ""
    dropped: tuple[str, ...] = ()
    effects: tuple[FixedEffect, ...] = ()
    sd_seed: float = math.nan
    sd_residual: float = math.nan
    warnings: tuple[str, ...] = ()


def mixed_model(runs: pd.DataFrame) -> MixedModel:
    """The fitted model; a fit that fails says so and why.

    Orders without both BN and activation have no class and are left out; so are variants other
    than `base`, and seeds beyond the first MOST_SEEDS.
    """
    used = runs[runs["bn_class"] != "none"]
    if "base" in set(runs["variant"]):
        used = used[used["variant"] == "base"]
    used = used[used["seed"].isin(sorted(used["seed"].unique())[:MOST_SEEDS])]
    names = {**FACTORS, "dataset": "dataset"} if used["dataset"].nunique() > 1 else FACTORS
    factors = {c: n for c, n in names.items() if used[c].nunique() > 1}
    about = MixedModel(
        measure=ACCURACY,
        formula=f"{ACCURACY} ~ {' * '.join(factors.values()) or '1'} + (1 | seed)",
        n_runs=len(used),
        n_seeds=int(used["seed"].nunique()),
        left_out=f"{len(runs) - len(used)} of {len(runs)} runs: without a class, not of base, or "
        f"of a seed beyond the first {MOST_SEEDS:,}",
    )
    if ACCURACY not in used or not used[ACCURACY].notna().all():
        return replace(about, message="not every run has a finite accuracy")
    if about.n_seeds < 2 or not factors:
        return replace(about, message="it needs at least two seeds and two levels of a factor")
    fixed = design(used, factors)
    if about.n_runs <= len(fixed.names):
        return replace(about, message="it needs more runs than effects", dropped=fixed.dropped)
    return _fit(used, fixed, about)


OPTIMISERS = ("powell", "bfgs")  # l-bfgs runs off to an infinite likelihood and calls it converged
TOLERANCE = 1e-3  # of the log-likelihood, between the two


def _fit(runs: pd.DataFrame, fixed: Design, about: MixedModel) -> MixedModel:
    """Fitted twice, by optimisers that share no method: what they agree on has converged.

    (At a seed variance of zero one of the two may not call its own fit converged.)
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    y = runs[ACCURACY].to_numpy(dtype=np.float64)
    model = MixedLM(y - y.mean(), fixed.matrix, groups=runs["seed"].to_numpy())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fits = [model.fit(reml=True, method=[method]) for method in OPTIMISERS]
        except (ValueError, np.linalg.LinAlgError) as error:
            return replace(about, message=f"the fit failed: {error}", dropped=fixed.dropped)
        rows = _effects(fixed.names, fits[0], y.mean())
        sd_seed = float(np.sqrt(np.asarray(fits[0].cov_re)[0, 0]))
    trouble = _trouble(fits, rows)
    zero = "; the seeds' own variance is estimated as zero"
    return replace(
        about,
        fitted=True,
        converged=not trouble,
        message=trouble or "converged" + (zero if sd_seed < 1e-3 else ""),
        dropped=fixed.dropped,
        effects=rows,
        sd_seed=sd_seed,
        sd_residual=float(np.sqrt(fits[0].scale)),
        warnings=tuple(sorted({f"{w.category.__name__}: {w.message}" for w in caught})),
    )


def _trouble(fits: Sequence[Any], rows: Sequence[FixedEffect]) -> str:
    """Why the fit is not to be relied on; empty when it is."""
    likelihoods = [float(fit.llf) for fit in fits]
    if not all(np.isfinite(likelihoods)) or not all(np.isfinite(row.se) for row in rows):
        return "the likelihood or a standard error is not finite: do not rely on this fit"
    if not any(fit.converged for fit in fits):
        return "no optimiser converged: do not rely on this fit"
    if abs(likelihoods[0] - likelihoods[1]) > TOLERANCE:
        listed = ", ".join(f"{m} {v:.4f}" for m, v in zip(OPTIMISERS, likelihoods, strict=True))
        return f"two optimisers disagree on the likelihood ({listed}): do not rely on this fit"
    return ""


def _effects(names: Sequence[str], fit: Any, centre: float) -> tuple[FixedEffect, ...]:
    """A row a term; the model is fitted to centred values, so the first gets its centre back."""
    k = len(names)
    columns = (np.asarray(c, dtype=np.float64)[:k] for c in (fit.params, fit.bse))
    rows = []
    for name, b, se in zip(names, *columns, strict=True):
        b = b + centre if name == names[0] else b
        reach = 1.959963984540054 * se
        values = (b, se, b - reach, b + reach, b / se, math.erfc(abs(b / se) / math.sqrt(2)))
        rows.append(FixedEffect(name, *(float(v) for v in values)))
    return tuple(rows)
