"""Numbers with the test behind them: paired contrasts, intervals, equivalence, power.

Every function works on the last axis, one paired contrast a seed, so that one study (n,) and
thousands of simulated ones (studies, n) take the same path. Nothing here knows of claims.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64] | npt.NDArray[np.int64]

MAX_EXACT = 20  # seeds up to which all 2**n flips are enumerated
DRAWS = 100_000  # random flips beyond that
CELLS = 4_000_000  # of the largest intermediate matrix: 32 MB
SIMULATED = 12  # seeds up to which power is simulated
MOST_SEEDS = 100_000  # where the search for a sufficient number of seeds ends
ROUNDING = 1e-12  # a distance below it is none


@dataclass(frozen=True)
class Flips:
    """Sign vectors, (n, flips) of int8; `exact` when they stand for all 2**n of them."""

    signs: npt.NDArray[np.int8]
    exact: bool


def flip_signs(
    n: int, rng: np.random.Generator, *, max_exact: int = MAX_EXACT, draws: int = DRAWS
) -> Flips:
    """All sign vectors of n seeds for n <= max_exact, else `draws` random ones from `rng`.

    A vector and its mirror give the same two-sided statistic, so the exact set fixes the first
    sign: 2**(n - 1) columns. Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError("flip_signs needs at least one seed")
    if n > max_exact:
        random = 1 - 2 * rng.integers(2, size=(n, draws), dtype=np.int8)
        return Flips(random.astype(np.int8), exact=False)
    columns = np.arange(2 ** (n - 1), dtype=np.int64)
    bits = (columns[None, :] >> np.arange(n)[:, None]) & 1
    return Flips((1 - 2 * bits).astype(np.int8), exact=True)


def sign_flip_p(differences: Numbers, flips: Flips) -> Floats:
    """Two-sided sign-flip permutation p-value of a zero mean.

    differences: (..., n) one paired contrast a seed; integers are compared exactly, floats with
    a tolerance of 1e-9 of their sum of magnitudes, so that ties are not broken by rounding.
    Returns (...). With random flips the observed one is counted in, which keeps the test valid
    (Phipson & Smyth 2010). Raises ValueError when a difference is not finite or n does not fit.
    Source: Fisher (1935), The Design of Experiments, ch. 21.
    """
    values = np.atleast_2d(differences)
    if values.shape[-1] != flips.signs.shape[0]:
        raise ValueError(f"flips are for {flips.signs.shape[0]} seeds, not {values.shape[-1]}")
    if not np.all(np.isfinite(values)):
        raise ValueError("a difference is not finite; such a contrast cannot be tested")
    integers = np.issubdtype(values.dtype, np.integer)
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    tolerance = 0.5 if integers else 1e-9 * np.abs(rows).sum(axis=1)
    bound = np.abs(rows.sum(axis=1)) - tolerance
    counts = _flips_at_least(rows, bound, flips.signs)
    total = flips.signs.shape[1]
    p: Floats = counts / total if flips.exact else (counts + 1) / (total + 1)
    return p.reshape(np.shape(differences)[:-1])


def _flips_at_least(rows: Floats, bound: Floats, signs: npt.NDArray[np.int8]) -> Floats:
    """For each row, how many sign vectors give a sum of at least `bound`; in bounded memory."""
    counts = np.zeros(len(rows))
    width = max(1, min(signs.shape[1], CELLS // max(1, signs.shape[0])))
    for left in range(0, signs.shape[1], width):
        block = signs[:, left : left + width].astype(np.float64)
        height = max(1, CELLS // block.shape[1])
        for top in range(0, len(rows), height):
            part = slice(top, top + height)
            counts[part] += (np.abs(rows[part] @ block) >= bound[part, None]).sum(axis=1)
    return counts


def standing_out(differences: Floats) -> Floats:
    """|sum| over the root of the sum of squares of (..., n) differences, (...); 0 for all zeros.

    It grows with |t| and, unlike t, has a denominator that no flip of signs changes.
    """
    values = np.asarray(differences, dtype=np.float64)
    size = np.sqrt((values**2).sum(axis=-1))
    out: Floats = np.abs(values.sum(axis=-1)) / np.where(size > 0, size, 1.0)
    return out


def largest_flip_p(differences: Floats, flips: Flips) -> Floats:
    """Sign-flip p-value that any of several contrasts has a mean other than zero.

    differences: (k, ..., n), k contrasts whose seeds are flipped together, so that what they share
    is kept. The largest `standing_out` of the k is compared with the largest under each flip.
    Returns (...). Source: the max-statistic of Westfall & Young (1993), as in Nichols & Holmes
    (2002), Hum. Brain Mapp. 15, 1-25.
    """
    values = np.asarray(differences, dtype=np.float64)
    k, n = values.shape[0], values.shape[-1]
    studies = values.reshape(k, -1, n)
    counts = np.array(
        [
            (_largest(studies[:, i], flips) >= standing_out(studies[:, i]).max() - 1e-9).sum()
            for i in range(studies.shape[1])
        ]
    )
    total = flips.signs.shape[1]
    p: Floats = counts / total if flips.exact else (counts + 1) / (total + 1)
    return p.reshape(values.shape[1:-1])


def _largest(contrasts: Floats, flips: Flips) -> Floats:
    """The largest `standing_out` of (k, n) contrasts under each flip; in bounded memory."""
    size = np.sqrt((contrasts**2).sum(axis=1, keepdims=True))
    rows = contrasts / np.where(size > 0, size, 1.0)
    width = max(1, CELLS // len(rows))
    signs = flips.signs
    blocks = (signs[:, left : left + width] for left in range(0, signs.shape[1], width))
    return np.concatenate([np.abs(rows @ block.astype(np.float64)).max(axis=0) for block in blocks])


def simultaneous_t(contrasts: Floats, flips: Flips, level: float) -> float:
    """How many standard errors all k means together stay within, with probability 1 - level.

    contrasts: (k, n). The quantile of the largest |t| under flips of the centred contrasts, which
    knows how they hang together, but never more than Bonferroni's t.
    """
    from scipy import stats

    k, n = contrasts.shape
    bonferroni = float(stats.t.isf(level / k / 2, n - 1))
    if attainable_level(n, level) <= 0:  # too few flips for such a quantile
        return bonferroni
    largest = _largest(contrasts - contrasts.mean(axis=1, keepdims=True), flips)
    r = float(np.quantile(largest, 1 - level, method="higher"))
    if r * r >= n * (1 - 1e-12):
        return bonferroni
    return min(bonferroni, r * math.sqrt((n - 1) / (n - r * r)))


def smallest_p(n: int) -> float:
    """The least two-sided p-value that n sign flips can give."""
    return 2.0 ** (1 - n) if n <= MAX_EXACT else 1 / (DRAWS + 1)


def mean_and_error(differences: Numbers) -> tuple[Floats, Floats]:
    """Mean and standard error, (...) each; an error that is rounding only counts as 0."""
    values = np.asarray(differences, dtype=np.float64)
    mean = values.mean(axis=-1)
    error = values.std(axis=-1, ddof=1) / math.sqrt(values.shape[-1])
    scale = np.abs(values).max(axis=-1)
    return mean, np.where(error <= 1e-12 * scale, 0.0, error)


def t_interval(differences: Numbers, level: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper end of the t-interval of the mean, (...) each."""
    from scipy import stats

    mean, error = mean_and_error(differences)
    reach = stats.t.ppf((1 + level) / 2, np.shape(differences)[-1] - 1) * error
    return mean - reach, mean + reach


def paired_t_p(differences: Numbers) -> Floats:
    """Two-sided p-value of the paired t-test, (...); without spread the sign-flip test's."""
    mean, error = mean_and_error(differences)
    return np.minimum(1.0, 2 * _t_upper(np.abs(mean), error, np.shape(differences)[-1]))


def tost_p(differences: Numbers, margin: float) -> Floats:
    """Two one-sided t-tests that the mean lies within +-margin: the larger p-value, (...).

    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657-680.
    """
    mean, error = mean_and_error(differences)
    return _t_upper(margin - np.abs(mean), error, np.shape(differences)[-1])


def outside_p(differences: Numbers, margin: float) -> Floats:
    """Two-sided p-value that the mean lies beyond +-margin, (...); 1 for a mean within.

    Below .05 exactly when the 95 % t-interval lies wholly outside the margin.
    """
    mean, error = mean_and_error(differences)
    beyond = np.abs(mean) - margin
    p = np.minimum(1.0, 2 * _t_upper(beyond, error, np.shape(differences)[-1]))
    return np.where(beyond > 0, p, 1.0)


def _t_upper(distance: Floats, error: Floats, n: int) -> Floats:
    """P(T >= distance / error); without spread that of n equal signs, or 1 at zero and below.

    n equal values have no t, and a handful of them prove little: 2^-n, as by flips of their signs.
    """
    from scipy import stats

    certain = np.where(distance > ROUNDING, 0.5**n, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.sf(distance / error, n - 1)
    return np.where(error > 0, p, certain)


def wilcoxon_p(differences: Floats) -> float:
    """Two-sided Wilcoxon signed-rank p-value of one (n,) contrast, zeros dropped; 1 if all are.

    With ties and at most MAX_EXACT values all flips of the signed ranks are counted (scipy would
    draw them, slowly); else scipy's own distribution.
    """
    from scipy import stats

    values = np.round(np.asarray(differences, dtype=np.float64), 9)  # equal but for rounding: ties
    values = values[values != 0]
    if not values.size:
        return 1.0
    ranks = stats.rankdata(np.abs(values))
    if len(np.unique(ranks)) == len(ranks) or len(values) > MAX_EXACT:
        return float(stats.wilcoxon(values).pvalue)
    doubled = np.rint(2 * ranks * np.sign(values)).astype(np.int64)
    return float(sign_flip_p(doubled, flip_signs(len(values), np.random.default_rng(0))))


def holm(p: Floats) -> Floats:
    """Holm's step-down adjusted p-values over the last axis, (..., m).

    statsmodels has it for one family; simulations need it for thousands at once.
    Source: Holm (1979), Scand. J. Statist. 6, 65-70.
    """
    p = np.asarray(p, dtype=np.float64)
    m = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    stepped = np.take_along_axis(p, order, axis=-1) * (m - np.arange(m))
    stepped = np.minimum(1.0, np.maximum.accumulate(stepped, axis=-1))
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, stepped, axis=-1)
    return adjusted


@dataclass(frozen=True)
class EffectSize:
    """Hedges' g and its 95 % interval; NaN where the sides have no spread."""

    g: float
    low: float
    high: float


def hedges_g_av(plus: Floats, minus: Floats) -> EffectSize:
    """Paired difference over the two sides' average spread, corrected for small samples.

    plus, minus: (n,) one value a seed. d_av = mean difference / sqrt((s1^2 + s2^2) / 2)
    (Cumming 2012, The New Statistics, ch. 11), times J = 1 - 3 / (4 df - 1) (Hedges 1981).
    Interval: the noncentral t, scaled (Algina & Keselman 2003, Educ. Psychol. Meas. 63, 537-553),
    without J, which would cost it 3 points of coverage at five seeds.
    """
    n = len(plus)
    difference = np.asarray(plus) - np.asarray(minus)
    average = math.sqrt((np.var(plus, ddof=1) + np.var(minus, ddof=1)) / 2)
    spread = float(np.std(difference, ddof=1))
    scale = max(float(np.abs(plus).max()), float(np.abs(minus).max()))
    if min(average, spread) <= 1e-12 * scale or n < 3:
        return EffectSize(math.nan, math.nan, math.nan)
    factor = spread / average / math.sqrt(n)
    t = float(difference.mean()) / (spread / math.sqrt(n))
    low, high = _noncentrality_interval(t, n - 1)
    correction = 1 - 3 / (4 * (n - 1) - 1)
    return EffectSize(t * factor * correction, low * factor, high * factor)


def _noncentrality_interval(t: float, df: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the noncentrality that may have given t; NaN where scipy finds none."""
    from scipy import optimize, stats

    if t < 0:  # scipy's distribution function is lost far out on this side
        low, high = _noncentrality_interval(-t, df, level)
        return -high, -low
    reach = 8 * math.sqrt(1 + t * t / (2 * df))  # about 8 standard errors of the noncentrality

    def end(tail: float, left: float, right: float) -> float:
        try:
            root = optimize.brentq(lambda c: stats.nct.cdf(t, df, c) - tail, left, right)
        except ValueError:
            return math.nan
        return float(root)

    # scipy has no value for a noncentrality far below zero; where t lies beyond the central
    # distribution's limit the end is above zero anyway.
    least = 0.0 if stats.t.cdf(t, df) >= (1 + level) / 2 else t - 5
    return end((1 + level) / 2, least, t), end((1 - level) / 2, t - 1, t + reach)


def attainable_level(n: int, level: float) -> float:
    """The largest p-value below `level` that n sign flips can give; 0 where there is none."""
    if n > MAX_EXACT:
        return level
    step = 2.0 ** (1 - n)
    return (math.ceil(level / step - 1e-9) - 1) * step


def power_of_mean(effect: float, sd: float, n: int, level: float) -> float:
    """Power of the sign-flip test at `level` to find a mean `effect`, in the effect's direction.

    Up to SIMULATED seeds it is read off a simulation of the test itself with normal spread: at
    strict levels so few flips are left that the t-test's power is up to 8 points too high.
    Beyond, the noncentral t at the attainable level.
    """
    from scipy import stats

    level = attainable_level(n, level)
    if level <= 0 or n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if effect else level / 2
    shift = abs(effect) / sd * math.sqrt(n)
    if n <= SIMULATED:
        shifts, p = _simulated_p(n)
        return float(np.interp(shift, shifts, (p <= level + 1e-12).mean(axis=1)))
    critical = stats.t.ppf(1 - level / 2, n - 1)
    power = float(stats.nct.sf(critical, n - 1, shift))
    return 1.0 if math.isnan(power) else power  # scipy gives NaN far out in the tail


@cache
def _simulated_p(n: int) -> tuple[Floats, Floats]:
    """Sign-flip p-values of simulated contrasts: shifts (k,) in standard errors, p (k, studies).

    Evenly spread (Sobol) draws, the same at every shift, so that power rises smoothly; a wrong
    sign counts as p = 1.
    """
    from scipy import stats

    signs = flip_signs(n, np.random.default_rng(0)).signs.astype(np.float64)
    points = 2 ** min(12, int(math.log2(2 * CELLS // signs.shape[1])))
    noise = stats.norm.ppf(stats.qmc.Sobol(n, rng=np.random.default_rng(0)).random(points))
    flipped, ones = noise @ signs, signs.sum(axis=0) / math.sqrt(n)
    shifts = np.linspace(0.0, 9.0, 25)
    p = np.ones((len(shifts), len(noise)))
    for row, shift in zip(p, shifts, strict=True):
        observed = flipped[:, :1] + shift * ones[0]  # the first column flips nothing
        share = (np.abs(flipped + shift * ones) >= observed - 1e-9).mean(axis=1)
        row[:] = np.where(observed[:, 0] > 0, share, 1.0)
    return shifts, p


def power_of_tost(effect: float, margin: float, sd: float, n: int, level: float) -> float:
    """Power to show a true mean `effect` within +-margin: normal in the mean, t in the spread.

    P(both one-sided tests reject) given the sample variance, averaged over its distribution.
    Source: Phillips (1990), J. Pharmacokinet. Biopharm. 18, 137-144.
    """
    from scipy import stats

    if n < 2:
        return 0.0
    if sd == 0:  # then p is 2^-n, as in `tost_p`
        return float(abs(effect) < margin and 0.5**n < level)
    critical = stats.t.ppf(1 - level, n - 1)
    # Equal-probability points of s / sigma: a quadrature that needs no tuning.
    points = stats.chi2.ppf((np.arange(400) + 0.5) / 400, n - 1)
    reach = margin * math.sqrt(n) / sd - critical * np.sqrt(points / (n - 1))
    shift = effect * math.sqrt(n) / sd
    inside = stats.norm.cdf(reach - shift) - stats.norm.cdf(-reach - shift)
    return float(np.where(reach > 0, inside, 0.0).mean())


def smallest_detectable(sd: float, n: int, level: float, power: float = 0.8) -> float:
    """The least true effect that n seeds find with `power`; NaN where no effect would do."""
    from scipy import optimize

    if attainable_level(n, level) <= 0 or n < 2:
        return math.nan
    if sd == 0:
        return 0.0

    def lack(d: float) -> float:
        return power_of_mean(d, 1.0, n, level) - power

    upper = 1.0
    while lack(upper) < 0:
        upper *= 2
        if upper > 64:  # at the strictest levels a handful of seeds never gets there
            return math.nan
    return sd * float(optimize.brentq(lack, 0.0, upper))


def smallest_equivalence(sd: float, n: int, level: float, power: float = 0.8) -> float:
    """The least margin within which n seeds would show equivalence of equals with `power`.

    NaN where none would do: without spread a handful of seeds proves nothing.
    """
    from scipy import optimize

    if n < 2 or (sd == 0 and 0.5**n >= level):
        return math.nan
    if sd == 0:
        return 0.0
    upper = 1.0
    while power_of_tost(0.0, upper, 1.0, n, level) < power:
        upper *= 2
    found = optimize.brentq(lambda m: power_of_tost(0.0, m, 1.0, n, level) - power, 1e-9, upper)
    return sd * float(found)


Question = Literal["effect", "equivalence", "outside"]


def seeds_needed(
    question: Question, mean: float, margin: float, sd: float, level: float, power: float = 0.8
) -> int | None:
    """Seeds that answer `question` with `power`, were `mean` and `sd` the true ones; None: never.

    effect: the mean differs from zero; equivalence: it lies within +-margin; outside: beyond it.
    """
    if question == "equivalence" and abs(mean) >= margin:
        return None
    distance = abs(mean) - margin if question == "outside" else abs(mean)
    if question != "equivalence" and distance <= 1e-12 * max(sd, 1e-300):
        return None

    def enough(n: int) -> bool:
        if question == "equivalence":
            return power_of_tost(mean, margin, sd, n, level) >= power
        return power_of_mean(distance, sd, n, level) >= power

    return _first_true(enough, 2, MOST_SEEDS)


def _first_true(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least n in low..high for which a monotone condition holds; None if it never does."""
    upper = low
    while not enough(upper):
        if upper >= high:
            return None
        low, upper = upper + 1, min(high, upper * 2)
    while low < upper:
        middle = (low + upper) // 2
        low, upper = (low, middle) if enough(middle) else (middle + 1, upper)
    return low
