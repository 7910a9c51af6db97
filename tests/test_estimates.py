"""Each statistic against a published or independently computed value, its source named."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import weightstats
from statsmodels.stats.multitest import multipletests

from bnorder.statistics import estimates as est

# Darwin's maize: differences in height of 15 pairs, crossed - self-fertilised, eighths of an inch.
# Fisher (1935), The Design of Experiments, ch. 3, table 3, and section 21.
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
# Two films rated by ten people: Lakens (2013), Front. Psychol. 4:863, table 1.
FILM_1 = np.array([9, 7, 8, 9, 8, 9, 9, 10, 9, 9], dtype=float)
FILM_2 = np.array([9, 6, 7, 8, 7, 9, 8, 8, 8, 7], dtype=float)


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_sign_flip_gives_fishers_count_for_darwins_maize() -> None:
    flips = est.flip_signs(15, rng())
    # Fisher, section 21: 863 of 32,768 totals are at least 314, as many at most -314.
    assert est.sign_flip_p(MAIZE, flips) == 1726 / 32768


def test_sign_flip_equals_enumeration_in_plain_python() -> None:
    d = np.array([3, -1, 4, 1, -5, 9, 2])
    totals = [abs(sum(s * v for s, v in zip(f, d, strict=True))) for f in flips_of(7)]
    expected = sum(t >= abs(d.sum()) for t in totals) / 2**7
    assert est.sign_flip_p(d, est.flip_signs(7, rng())) == expected


def flips_of(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((1, -1), repeat=n))


def test_sign_flip_equals_scipys_permutation_test() -> None:
    d = np.random.default_rng(3).normal(0.4, 1, 9)
    found = stats.permutation_test(
        (d,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert est.sign_flip_p(d, est.flip_signs(9, rng())) == pytest.approx(found.pvalue, abs=1e-12)


def test_random_flips_come_near_the_exact_test_and_depend_on_the_seed() -> None:
    exact = 1726 / 32768
    first, again, other = (
        float(est.sign_flip_p(MAIZE, est.flip_signs(15, np.random.default_rng(s), max_exact=10)))
        for s in (1, 1, 2)
    )
    assert first == again != other
    assert first == pytest.approx(exact, abs=0.003)


def test_ties_of_whole_numbers_count_and_rounding_does_not_break_them() -> None:
    whole = np.array([1, -1, 2, -2, 3, 1, 1, 2])
    floats = whole * 0.1  # 0.1 * 3 is not 0.3
    flips = est.flip_signs(8, rng())
    assert est.sign_flip_p(whole, flips) == est.sign_flip_p(floats, flips)


def test_sign_flip_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        est.sign_flip_p(np.array([1.0, math.nan, 2.0]), est.flip_signs(3, rng()))
    with pytest.raises(ValueError, match="seeds"):
        est.sign_flip_p(np.array([1.0, 2.0]), est.flip_signs(3, rng()))


def test_all_zero_differences_give_p_one() -> None:
    zero = np.zeros(10, dtype=np.int64)
    assert est.sign_flip_p(zero, est.flip_signs(10, rng())) == 1
    assert est.paired_t_p(zero) == 1
    assert est.wilcoxon_p(zero.astype(float)) == 1
    assert est.tost_p(zero, 0.2) == 2**-10  # without spread there is no t: ten equal signs
    assert est.tost_p(zero + 0.2, 0.2) == 1  # on the margin is not within it


@pytest.mark.parametrize("n", [5, 6, 10, 20])
def test_the_smallest_p_is_that_of_equal_signs(n: int) -> None:
    flips = est.flip_signs(n, rng())
    assert est.sign_flip_p(np.ones(n, dtype=np.int64), flips) == est.smallest_p(n) == 2 / 2**n


def test_paired_t_of_darwins_maize() -> None:
    # Fisher (1935), section 17: t = 2.148 with 14 degrees of freedom, just past the 5 % level.
    assert est.paired_t_p(MAIZE) == pytest.approx(0.0497, abs=5e-5)
    mean, error = est.mean_and_error(MAIZE)
    assert float(mean / error) == pytest.approx(2.148, abs=5e-4)
    low, high = est.t_interval(MAIZE)
    expected = stats.ttest_1samp(MAIZE, 0).confidence_interval()
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high))


def test_wilcoxon_of_darwins_maize() -> None:
    # The example in scipy.stats.wilcoxon's documentation (scipy 1.17): p = 0.041259765625.
    assert est.wilcoxon_p(MAIZE.astype(float)) == pytest.approx(0.041259765625, abs=1e-12)


def test_wilcoxon_with_ties_equals_scipys_permutation_of_all_flips() -> None:
    d = np.array([1, 1, -1, 2, 3, 3, -2, 4, 5.0])
    method = stats.PermutationMethod(n_resamples=np.inf)
    expected = stats.wilcoxon(d, method=method).pvalue
    assert est.wilcoxon_p(d) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
def test_tost_equals_statsmodels(margin: float) -> None:
    d = np.random.default_rng(8).normal(0.05, 0.2, 10)
    expected = weightstats.DescrStatsW(d).ttost_mean(-margin, margin)[0]
    assert est.tost_p(d, margin) == pytest.approx(expected, rel=1e-9)


def test_tost_rejects_exactly_when_the_90_percent_interval_lies_within() -> None:
    d = np.random.default_rng(2).normal(0.1, 0.15, size=(500, 8))
    low, high = est.t_interval(d, 0.90)
    within = (low > -0.2) & (high < 0.2)
    assert np.array_equal(est.tost_p(d, 0.2) < 0.05, within)
    assert 0 < within.sum() < 500


def test_outside_rejects_exactly_when_the_95_percent_interval_lies_beyond() -> None:
    d = np.random.default_rng(2).normal(0.3, 0.1, size=(500, 8))
    low, high = est.t_interval(d, 0.95)
    beyond = (low > 0.2) | (high < -0.2)
    assert np.array_equal(est.outside_p(d, 0.2) < 0.05, beyond)
    assert 0 < beyond.sum() < 500


def test_holm_of_a_worked_example_and_of_statsmodels() -> None:
    # Four hypotheses, .01 .04 .03 .005: adjusted .03 .06 .06 .02, the first and last rejected.
    assert est.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    many = np.random.default_rng(1).uniform(0, 0.2, size=(50, 12))
    expected = [multipletests(row, method="holm")[1] for row in many]
    assert np.allclose(est.holm(many), expected)


def test_hedges_g_av_of_lakens_films() -> None:
    g = est.hedges_g_av(FILM_1, FILM_2)
    # Lakens (2013): means 8.7 and 7.7, SDs .82 and .95, d_av = 1.13; correction for df = 9.
    correction = 1 - 3 / (4 * 9 - 1)
    assert g.g / correction == pytest.approx(1.13, abs=0.005)
    assert g.low < g.g < g.high


def test_hedges_g_av_is_the_same_in_any_unit_and_mirrored_when_sides_swap() -> None:
    g, scaled = est.hedges_g_av(FILM_1, FILM_2), est.hedges_g_av(FILM_1 * 7, FILM_2 * 7)
    assert (scaled.g, scaled.low, scaled.high) == pytest.approx((g.g, g.low, g.high))
    swapped = est.hedges_g_av(FILM_2, FILM_1)
    assert (swapped.g, swapped.low, swapped.high) == pytest.approx((-g.g, -g.high, -g.low))


@pytest.mark.parametrize("t", [0.0, 1.0, 4.7, -4.7, 60.0])
def test_noncentral_interval_has_the_right_tails(t: float) -> None:
    low, high = est._noncentrality_interval(t, 9)
    if t >= 0:  # scipy's distribution function is lost far below zero
        assert stats.nct.cdf(t, 9, low) == pytest.approx(0.975, abs=1e-6)
        assert stats.nct.cdf(t, 9, high) == pytest.approx(0.025, abs=1e-6)
    assert (low, high) == pytest.approx(tuple(-x for x in est._noncentrality_interval(-t, 9)[::-1]))


def test_no_spread_gives_no_effect_size() -> None:
    same = np.full(10, 3.0)
    assert math.isnan(est.hedges_g_av(same, same).g)


@pytest.mark.parametrize(("n", "level", "expected"), [(10, 0.05, 25 / 512), (5, 0.05, 0.0)])
def test_attainable_level_is_the_largest_p_value_below_the_level(
    n: int, level: float, expected: float
) -> None:
    assert est.attainable_level(n, level) == expected


@pytest.mark.parametrize(("n", "level"), [(8, 0.05), (10, 0.05), (10, 0.05 / 8), (16, 0.05)])
def test_power_is_within_three_points_of_simulation(n: int, level: float) -> None:
    effect = est.smallest_detectable(1.0, n, level)
    noise = np.random.default_rng(99).normal(size=(4000 if n < 12 else 600, n)) + effect
    p = est.sign_flip_p(noise, est.flip_signs(n, rng()))
    found = float(((p < level) & (noise.mean(axis=1) > 0)).mean())
    error = 2 * math.sqrt(0.16 / len(noise))
    assert found == pytest.approx(0.8, abs=0.03 + (error if n > 12 else 0))


@pytest.mark.parametrize("effect", [0.0, 0.05, 0.12])
def test_power_of_tost_is_within_two_points_of_simulation(effect: float) -> None:
    noise = np.random.default_rng(4).normal(effect, 0.2, size=(20_000, 10))
    found = float((est.tost_p(noise, 0.2) < 0.05).mean())
    assert est.power_of_tost(effect, 0.2, 0.2, 10, 0.05) == pytest.approx(found, abs=0.02)


def test_without_spread_power_is_that_of_the_test() -> None:
    for n in (4, 5):  # 2^-4 is above the level, 2^-5 below
        shown = bool(est.tost_p(np.zeros(n), 0.2) < 0.05)
        assert shown == (n == 5)
        assert est.power_of_tost(0.0, 0.2, 0.0, n, 0.05) == float(shown)
        assert est.power_of_tost(0.3, 0.2, 0.0, n, 0.05) == 0
        assert (est.smallest_equivalence(0.0, n, 0.05) == 0) == shown
        assert math.isnan(est.smallest_equivalence(0.0, n, 0.05)) != shown


def test_too_few_seeds_can_find_nothing() -> None:
    assert math.isnan(est.smallest_detectable(1.0, 5, 0.05))
    assert math.isnan(est.smallest_detectable(1.0, 10, 0.05 / 26))
    assert est.power_of_mean(10.0, 1.0, 5, 0.05) == 0


def test_seeds_needed_reach_the_power_and_one_fewer_does_not() -> None:
    n = est.seeds_needed("effect", 0.1, 0.2, 0.2, 0.05)
    assert n is not None and n > 12
    assert est.power_of_mean(0.1, 0.2, n, 0.05) >= 0.8 > est.power_of_mean(0.1, 0.2, n - 1, 0.05)
    assert est.seeds_needed("effect", 0.0, 0.2, 0.2, 0.05) is None
    assert est.seeds_needed("equivalence", 0.3, 0.2, 0.2, 0.05) is None


finite = st.lists(st.integers(-50, 50), min_size=6, max_size=9)


@settings(max_examples=60, deadline=None)
@given(finite)
def test_sign_flip_ignores_order_and_mirror(values: list[int]) -> None:
    d = np.array(values)
    flips = est.flip_signs(len(d), rng())
    shuffled = np.random.default_rng(len(values)).permutation(d)
    p = est.sign_flip_p(d, flips)
    assert p == est.sign_flip_p(shuffled, flips) == est.sign_flip_p(-d, flips)
    assert est.smallest_p(len(d)) <= p <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values: list[float]) -> None:
    p = np.array(values)
    adjusted = est.holm(p)
    assert np.all(adjusted >= p) and np.all(adjusted <= 1)
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(adjusted[order]) >= 0)


def test_the_interval_of_g_av_is_the_noncentral_one_without_the_correction() -> None:
    difference = FILM_1 - FILM_2
    t = difference.mean() / (difference.std(ddof=1) / math.sqrt(10))
    average = math.sqrt((FILM_1.var(ddof=1) + FILM_2.var(ddof=1)) / 2)
    factor = difference.std(ddof=1) / average / math.sqrt(10)
    low, high = est._noncentrality_interval(float(t), 9)
    g = est.hedges_g_av(FILM_1, FILM_2)
    assert (g.low, g.high) == pytest.approx((low * factor, high * factor))
