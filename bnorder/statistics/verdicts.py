"""From claims and runs to verdicts, by the rules of the analysis plan.

One path serves a single study, its resamples and thousands of simulated studies: a part's numbers
have the shape (studies, seeds), and `decide` returns (studies, claims).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bnorder.claims import Claim, Estimate, Interval, Part, Stability, Verdict, VerdictWord
from bnorder.language import Reason
from bnorder.statistics import estimates as est
from bnorder.statistics.contrasts import Contrast, NotTested, RunTable, contrast_of
from bnorder.statistics.estimates import Flips, Floats, Numbers

LEVEL = 0.05
POWER = 0.8
Z_POWER = 0.8416  # the normal quantile of it
RESAMPLES = 500
SEED = 20230101  # of every generator in the analysis: the same table gives the same bytes
WORDS: tuple[VerdictWord, ...] = ("inconclusive", "supported", "contradicted", "negligible")


@dataclass(frozen=True)
class PartData:
    """A part's contrasts of many studies: values and what the flips compare, (studies, n).

    Of a crossed part (k, studies, n), its k contrasts.
    """

    values: Floats
    keys: Numbers

    @classmethod
    def of_study(cls, contrast: Contrast) -> "PartData":
        if contrast.all is not None:
            return cls(contrast.all[:, None], contrast.all[:, None])
        return cls(contrast.values[None], contrast.keys[None])

    def drawn(self, seeds: npt.NDArray[np.int64]) -> "PartData":
        """Of one study, with the seeds (resamples, n) in the place of its own."""
        return PartData(self.values[..., seeds].squeeze(-3), self.keys[..., seeds].squeeze(-3))


@dataclass(frozen=True)
class PartTests:
    """A part's p-values, (studies,) each: sign-flip, what speaks for it, what against, TOST."""

    p: Floats
    support: Floats
    against: Floats
    tost: Floats


@dataclass(frozen=True)
class Decisions:
    """(studies, claims) each: index into WORDS, p and whether it speaks for the claim, Holm's p,
    and the level that the claim met.
    """

    words: npt.NDArray[np.int64]
    p: Floats
    p_for: npt.NDArray[np.bool_]
    p_adjusted: Floats
    holm_level: Floats


def part_tests(claim: Claim, part: Part, data: PartData, flips: Flips) -> PartTests:
    """The p-values of one part; p = 1 for the direction in which the mean does not point.

    A crossed part is supported if any of its contrasts differs from 0, negligible if all do not.
    """
    if part.crossed:
        p = est.largest_flip_p(data.values, flips)
        ones = np.ones_like(p)
        tost = est.tost_p(data.values, part.margin).max(axis=0) if part.margin else ones
        return PartTests(p, p, ones, tost)
    mean = data.values.mean(axis=-1)
    tost = est.tost_p(data.values, part.margin) if part.margin else np.ones_like(mean)
    p = est.sign_flip_p(data.keys, flips)
    if claim.type == "equivalence" and part.margin:
        return PartTests(p, tost, est.outside_p(data.values, part.margin), tost)
    if claim.two_sided:
        return PartTests(p, p, np.ones_like(p), tost)
    total = data.keys.sum(axis=-1)  # whole numbers have an exact sign
    return PartTests(p, np.where(total > 0, p, 1.0), np.where(total < 0, p, 1.0), tost)


def decide(claims: Sequence[Claim], tests: Sequence[Sequence[PartTests]]) -> Decisions:
    """Verdicts on the claims of one family, Holm over all of them.

    A claim is supported when every part is (its p: the largest), contradicted when any part is
    (the smallest, times their number), negligible when its only part is; else inconclusive.
    """
    support = np.stack([np.max([t.support for t in parts], axis=0) for parts in tests], axis=-1)
    against = np.stack(
        [np.minimum(1, len(p) * np.min([t.against for t in p], axis=0)) for p in tests], axis=-1
    )
    p = np.minimum(support, against)
    adjusted = est.holm(p)
    p_for = support <= against
    words = np.where(adjusted < LEVEL, np.where(p_for, 1, 2), 0)
    for column, (claim, parts) in enumerate(zip(claims, tests, strict=True)):
        if claim.type in ("direction", "interaction") and len(parts) == 1:
            small = (words[:, column] == 0) & (parts[0].tost < LEVEL)
            words[small, column] = 3
    return Decisions(words, p, p_for, adjusted, _holm_levels(p, adjusted))


def _holm_levels(p: Floats, adjusted: Floats) -> Floats:
    """The level that each claim met: its own Holm step, or the one at which the family stopped."""
    m = p.shape[-1]
    rank = np.argsort(np.argsort(p, axis=-1, kind="stable"), axis=-1, kind="stable")
    rejected = adjusted < LEVEL
    step = np.where(rejected, rank, rejected.sum(axis=-1, keepdims=True))
    levels: Floats = LEVEL / (m - step)
    return levels


def judge(claims: Sequence[Claim], table: RunTable, resamples: int = RESAMPLES) -> list[Verdict]:
    """A verdict on every claim, in the order given; families by the claims' own names."""
    contrasts: dict[str, list[Contrast]] = {}
    reasons: dict[str, str] = {}
    for claim in claims:
        try:
            contrasts[claim.id] = [_contrast(claim, part, table) for part in claim.parts]
        except NotTested as reason:
            reasons[claim.id] = reason.reason
    made: dict[str, Verdict] = {}
    flips = est.flip_signs(len(table.grid.seeds), np.random.default_rng(SEED))
    for family in dict.fromkeys(claim.family for claim in claims):
        tested = [c for c in claims if c.family == family and c.id in contrasts]
        if tested:
            parts = {c.id: contrasts[c.id] for c in tested}
            made |= _judge_family(tested, parts, table, flips, resamples)
    return [made.get(c.id) or untested(c, reasons[c.id]) for c in claims]


def _contrast(claim: Claim, part: Part, table: RunTable) -> Contrast:
    try:
        return contrast_of(part, table)
    except NotTested as reason:
        if len(claim.parts) == 1:
            raise
        raise NotTested("part", part=part.name, reason=reason.reason) from None


def untested(claim: Claim, reason: str) -> Verdict:
    return Verdict(claim, "not tested", False, reason, math.nan, math.nan, math.nan, ())


def _judge_family(
    claims: Sequence[Claim],
    contrasts: Mapping[str, Sequence[Contrast]],
    table: RunTable,
    flips: Flips,
    resamples: int,
) -> dict[str, Verdict]:
    data = {c.id: [PartData.of_study(x) for x in contrasts[c.id]] for c in claims}
    tests = [_tests(c, data[c.id], flips) for c in claims]
    decisions = decide(claims, tests)
    stability = _stability(claims, data, decisions.words[0], resamples)
    made = {}
    for i, claim in enumerate(claims):
        made[claim.id] = _verdict(
            claim, contrasts[claim.id], tests[i], decisions, i, stability[i], table
        )
    return made


def _tests(claim: Claim, data: Sequence[PartData], flips: Flips) -> list[PartTests]:
    return [part_tests(claim, p, d, flips) for p, d in zip(claim.parts, data, strict=True)]


def _stability(
    claims: Sequence[Claim],
    data: Mapping[str, Sequence[PartData]],
    words: npt.NDArray[np.int64],
    resamples: int,
) -> list[Stability | None]:
    """How often each verdict comes out when the same seeds are drawn with replacement."""
    if resamples < 1:
        return [None] * len(claims)
    n = data[claims[0].id][0].values.shape[-1]
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(n, size=(resamples, n))
    flips = est.flip_signs(n, rng, max_exact=12, draws=4096)
    again = {name: [part.drawn(drawn) for part in parts] for name, parts in data.items()}
    redone = decide(claims, [_tests(c, again[c.id], flips) for c in claims]).words
    return [
        Stability(resamples, {w: float((redone[:, i] == k).mean()) for k, w in enumerate(WORDS)})
        for i in range(len(claims))
    ]


def _verdict(
    claim: Claim,
    contrasts: Sequence[Contrast],
    tests: Sequence[PartTests],
    decisions: Decisions,
    column: int,
    stability: Stability | None,
    table: RunTable,
) -> Verdict:
    word = WORDS[int(decisions.words[0, column])]
    level = float(decisions.holm_level[0, column])
    estimates = tuple(
        (_crossed_estimate if part.crossed else _estimate)(
            claim, part, contrast, test, level, table
        )
        for part, contrast, test in zip(claim.parts, contrasts, tests, strict=True)
    )
    if len(estimates) == 1:
        estimates = (replace(estimates[0], verdict=word),)
    small = word in ("supported", "contradicted") and claim.type in ("direction", "interaction")
    return Verdict(
        claim=claim,
        verdict=word,
        too_small=small and all(float(t.tost[0]) < LEVEL for t in tests),
        reason="",
        p=float(decisions.p[0, column]),
        p_adjusted=float(decisions.p_adjusted[0, column]),
        holm_level=level,
        estimates=estimates,
        p_for=bool(decisions.p_for[0, column]),
        stability=stability,
        checks_disagree=_disagreements(claim, estimates),
        diverged=table.diverged({arm for contrast in contrasts for arm in contrast.arms}),
        seeds_to_settle=_seeds_to_settle(claim, estimates, level) if word == WORDS[0] else None,
    )


def _seeds_to_settle(claim: Claim, estimates: Sequence[Estimate], level: float) -> int | None:
    """Seeds for all parts to be supported, or for one to be contradicted, whichever is sooner."""
    if len(estimates) == 1:
        return estimates[0].seeds_to_settle
    parts = list(zip(claim.parts, estimates, strict=True))
    for_all = [_to_support(claim, part, e, level) for part, e in parts]
    against = [_to_contradict(claim, part, e, level / len(parts)) for part, e in parts]
    routes = [n for n in against if n is not None]
    if None not in for_all:
        routes.append(max(n for n in for_all if n is not None))
    return min(routes, default=None)


def _to_support(claim: Claim, part: Part, e: Estimate, level: float) -> int | None:
    if e.verdict == "supported":
        return e.n
    if part.crossed:
        return e.seeds_to_settle
    if claim.type == "equivalence":
        return est.seeds_needed("equivalence", e.mean, part.margin or 0.0, e.sd, level, POWER)
    return _to_find(e, level) if e.mean > 0 or claim.two_sided else None


def _to_contradict(claim: Claim, part: Part, e: Estimate, level: float) -> int | None:
    if claim.two_sided:
        return None
    if claim.type == "equivalence":
        return est.seeds_needed("outside", e.mean, part.margin or 0.0, e.sd, level, POWER)
    return _to_find(e, level) if e.mean < 0 else None


def _to_find(e: Estimate, level: float) -> int | None:
    return est.seeds_needed("effect", e.mean, 0.0, e.sd, level, POWER)


def _disagreements(claim: Claim, estimates: Sequence[Estimate]) -> tuple[str, ...]:
    """Checks that fall on the other side of the 5 % level than the sign-flip test."""
    if claim.type == "equivalence":
        return ()
    found = []
    for e in (e for e in estimates if not math.isnan(e.t_p)):  # a crossed part has no such checks
        for check, p in (("t", e.t_p), ("wilcoxon", e.wilcoxon_p)):
            if (p < LEVEL) != (e.p < LEVEL):
                name = Reason(f"check.{check}")
                found.append(Reason("check.part", part=e.name, check=name) if e.name else name)
    return tuple(found)


def _estimate(
    claim: Claim, part: Part, contrast: Contrast, test: PartTests, level: float, table: RunTable
) -> Estimate:
    values = contrast.values
    low, high = est.t_interval(values)
    tost_low, tost_high = est.t_interval(values, 1 - 2 * LEVEL)
    sd, n = float(np.std(values, ddof=1)), len(values)
    _, error = est.mean_and_error(values)
    sd = 0.0 if float(error) == 0 else sd
    g = est.EffectSize(math.nan, math.nan, math.nan)
    if claim.type != "threshold":  # a threshold has one side and no spread of its own
        g = est.hedges_g_av(contrast.plus, contrast.minus)
    word = _part_word(claim, test, level)
    return Estimate(
        name=part.name,
        measure=part.measure,
        unit=part.unit,
        margin=part.margin,
        threshold=part.threshold,
        verdict=word,
        mean=float(values.mean()),
        ci_low=float(low),
        ci_high=float(high),
        tost_low=float(tost_low),
        tost_high=float(tost_high),
        sd=sd,
        n=n,
        seeds=table.grid.seeds,
        values=tuple(float(v) for v in values),
        p=float(test.p[0]),
        t_p=float(est.paired_t_p(values)),
        wilcoxon_p=est.wilcoxon_p(values),
        tost_p=float(test.tost[0]) if part.margin else math.nan,
        outside_p=float(est.outside_p(values, part.margin)) if part.margin else math.nan,
        g_av=g.g,
        g_low=g.low,
        g_high=g.high,
        smallest_detectable=_detectable(claim, sd, n, level),
        seeds_to_settle=_to_settle(claim, part, float(values.mean()), sd, level, word),
        plus={a.id: float(w) for a, w in contrast.weights.items() if w > 0},
        minus={a.id: float(-w) for a, w in contrast.weights.items() if w < 0},
        by_dataset=() if part.crossed else _by_dataset(part, table),
    )


def _crossed_estimate(
    claim: Claim, part: Part, contrast: Contrast, test: PartTests, level: float, table: RunTable
) -> Estimate:
    """The contrast that stands out most, with an interval that holds for all of them at once.

    It was picked for being the largest, so checks that know nothing of the others are left out.
    """
    assert contrast.all is not None
    plain = _estimate(claim, part, contrast, test, level, table)
    n, error = plain.n, plain.sd / math.sqrt(plain.n)
    flips = est.flip_signs(n, np.random.default_rng(SEED))
    reach = est.simultaneous_t(contrast.all, flips, LEVEL) * error
    detectable, needed = math.nan, None
    if est.attainable_level(n, level) > 0:
        factor = est.simultaneous_t(contrast.all, flips, level) + Z_POWER
        detectable = factor * error
        if plain.verdict == "inconclusive" and plain.mean:
            needed = max(n, math.ceil((factor * plain.sd / plain.mean) ** 2))
    none = dict.fromkeys(("t_p", "wilcoxon_p", "g_av", "g_low", "g_high"), math.nan)
    return replace(
        plain,
        name=Reason("part.most", part=part.name, which=contrast.which)
        if part.name
        else contrast.which,
        by_dataset=_two_orders(part, contrast, table),
        ci_low=plain.mean - reach,
        ci_high=plain.mean + reach,
        tost_low=math.nan,
        tost_high=math.nan,
        smallest_detectable=detectable,
        seeds_to_settle=needed,
        **none,  # type: ignore[arg-type]
    )


def _part_word(claim: Claim, test: PartTests, level: float) -> VerdictWord:
    """A part's own verdict at the level that its claim met; a part among several pays for them."""
    steps = round(LEVEL / level)
    if float(test.support[0]) * steps < LEVEL:
        return "supported"
    if float(test.against[0]) * steps * len(claim.parts) < LEVEL:
        return "contradicted"
    small = claim.type in ("direction", "interaction") and float(test.tost[0]) < LEVEL
    return "negligible" if small else "inconclusive"


def _detectable(claim: Claim, sd: float, n: int, level: float) -> float:
    if claim.type == "equivalence":
        return est.smallest_equivalence(sd, n, level, POWER)
    return est.smallest_detectable(sd, n, level, POWER)


def _to_settle(
    claim: Claim, part: Part, mean: float, sd: float, level: float, word: VerdictWord
) -> int | None:
    """The least number of seeds that gives a verdict with 80 % power, were these the truth."""
    if word != "inconclusive":
        return None
    margin = part.margin or 0.0
    if claim.type == "equivalence":
        asked = [
            est.seeds_needed("equivalence", mean, margin, sd, level, POWER),
            est.seeds_needed("outside", mean, margin, sd, level, POWER),
        ]
    else:
        asked = [est.seeds_needed("effect", mean, margin, sd, level, POWER)]
        if margin and claim.type != "threshold":
            asked.append(est.seeds_needed("equivalence", mean, margin, sd, LEVEL, POWER))
    return min((n for n in asked if n is not None), default=None)


def _two_orders(part: Part, contrast: Contrast, table: RunTable) -> tuple[Interval, ...]:
    """Of orders against data sets, the most telling pair of orders on each of its data sets."""
    if part.crossed != ("ordering", "dataset"):
        return ()
    measured = table.measured(part.measure)
    assert measured is not None  # the contrast was made of it
    rows = []
    for number, dataset in enumerate(dict.fromkeys(arm.dataset for arm in contrast.weights)):
        of = {arm: w for arm, w in contrast.weights.items() if arm.dataset == dataset}
        sign = 1 if number == 0 else -1  # the second data set is subtracted
        values = sum(sign * float(w) * measured.values[table.index[arm]] for arm, w in of.items())
        low, high = est.t_interval(values)
        rows.append(Interval(dataset, float(values.mean()), float(low), float(high)))
    return tuple(rows)


def _by_dataset(part: Part, table: RunTable) -> tuple[Interval, ...]:
    """The same contrast on each data set alone, where it averages over several."""
    if len(table.grid.dataset) < 2 or any("dataset" in t.select for t in part.terms):
        return ()
    rows = []
    for dataset in table.grid.dataset:
        only = {"dataset": (dataset,)}
        terms = tuple(replace(t, select={**t.select, **only}) for t in part.terms)
        values = contrast_of(replace(part, terms=terms), table).values
        low, high = est.t_interval(values)
        rows.append(Interval(dataset, float(values.mean()), float(low), float(high)))
    return tuple(rows)
