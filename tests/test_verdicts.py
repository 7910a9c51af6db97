"""The rules that lead from numbers to verdicts, and what must not change one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnorder.claims import Claim, Part, Term, Verdict
from bnorder.statistics import estimates as est
from bnorder.statistics.calibration import simulated_runs
from bnorder.statistics.contrasts import Grid, RunTable
from bnorder.statistics.explore import pairwise
from bnorder.statistics.verdicts import judge
from bnorder.study import Arm

AXES = {
    "dataset": ("mnist",),
    "ordering": ("bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn"),
    "activation": ("relu",),
    "depth": (2, 5),
}
SWAP = {"supported": "contradicted", "contradicted": "supported"}


def term(weight: int, ordering: str, **more: object) -> Term:
    from fractions import Fraction

    return Term(Fraction(weight), {"ordering": (ordering,), **{k: (v,) for k, v in more.items()}})


def claim(
    kind: str = "direction",
    *,
    name: str = "A",
    plus: str = "bn-act-conv",
    minus: str | None = "act-bn-conv",
    margin: float | None = 0.2,
    threshold: float | None = None,
    two_sided: bool = False,
    measure: str = "test_accuracy_pp",
) -> Claim:
    terms = (term(1, plus),) if minus is None else (term(1, plus), term(-1, minus))
    part = Part("", measure, margin, threshold, terms)
    return Claim(name, "f", "me", "So it is.", "a - b", kind, two_sided, (part,))  # type: ignore[arg-type]


def runs(differences: Sequence[float], base: float = 99.0, n_test: int = 10_000) -> pd.DataFrame:
    """bn-act-conv ahead of act-bn-conv by each difference, one a seed; the same at both depths."""
    seeds = np.arange(len(differences))
    gain = {"bn-act-conv": np.asarray(differences, dtype=float)}
    rows = []
    for ordering in AXES["ordering"]:
        for depth in AXES["depth"]:
            accuracy = base + gain.get(str(ordering), 0.0) + 0.01 * seeds
            correct = np.rint(accuracy / 100 * n_test).astype(int)
            rows.append(
                pd.DataFrame(
                    {
                        "dataset": "mnist",
                        "ordering": ordering,
                        "activation": "relu",
                        "depth": depth,
                        "variant": "base",
                        "seed": seeds,
                        "n_test": n_test,
                        "test_correct": correct,
                        "test_accuracy_pp": 100 * correct / n_test,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def verdict(frame: pd.DataFrame, *claims: Claim, grid: Grid | None = None) -> Verdict:
    return judge(claims, RunTable(frame, grid or Grid.of_runs(frame)), resamples=0)[0]


SPREAD = np.array([-0.05, 0.03, -0.01, 0.06, -0.02, 0.04, -0.03, 0.01, -0.04, 0.02])


@pytest.mark.parametrize(
    ("kind", "shift", "expected"),
    [
        ("direction", 0.5, "supported"),
        ("direction", -0.5, "contradicted"),
        ("direction", 0.0, "negligible"),
        ("equivalence", 0.0, "supported"),
        ("equivalence", 0.5, "contradicted"),
        ("equivalence", -0.5, "contradicted"),
        ("equivalence", 0.2, "inconclusive"),
        ("interaction", 0.5, "supported"),
    ],
)
def test_verdict_of_a_clear_case(kind: str, shift: float, expected: str) -> None:
    assert verdict(runs(SPREAD + shift), claim(kind)).verdict == expected


def test_a_wide_spread_around_nothing_is_inconclusive_and_says_what_it_would_take() -> None:
    found = verdict(runs(12 * SPREAD + 0.1, base=97), claim())
    assert found.verdict == "inconclusive"
    estimate = found.estimates[0]
    assert estimate.smallest_detectable > estimate.mean
    assert estimate.seeds_to_settle is not None and estimate.seeds_to_settle > 10


@pytest.mark.parametrize(("base", "expected"), [(99.3, "supported"), (98.7, "contradicted")])
def test_threshold_is_tested_on_the_runs_minus_the_threshold(base: float, expected: str) -> None:
    reach = claim("threshold", minus=None, threshold=99.0)
    found = verdict(runs(SPREAD, base=base), reach)
    assert found.verdict == expected
    assert found.estimates[0].mean == pytest.approx(base - 99.0 + 0.045, abs=0.01)


def test_small_but_certain_is_supported_and_too_small_to_matter() -> None:
    found = verdict(runs(SPREAD / 5 + 0.1), claim())
    assert (found.verdict, found.too_small) == ("supported", True)
    assert not verdict(runs(SPREAD + 0.5), claim()).too_small


def test_a_threshold_is_reached_or_not_and_never_by_too_little_to_matter() -> None:
    reach = claim("threshold", minus=None, threshold=99.0)
    found = verdict(runs(SPREAD / 5 + 0.06), reach)
    assert (found.verdict, found.too_small) == ("supported", False)


def test_a_handful_of_equal_differences_shows_nothing_to_be_negligible() -> None:
    assert verdict(runs(np.zeros(2)), claim()).verdict == "inconclusive"
    assert verdict(runs(np.zeros(4)), claim()).estimates[0].tost_p == 2**-4
    assert verdict(runs(np.zeros(5)), claim()).verdict == "negligible"


def test_a_two_sided_claim_is_supported_by_either_sign_and_never_contradicted() -> None:
    either = claim("interaction", two_sided=True)
    assert verdict(runs(SPREAD + 0.5), either).verdict == "supported"
    assert verdict(runs(SPREAD - 0.5), either).verdict == "supported"


def test_five_seeds_can_never_support() -> None:
    found = verdict(runs([0.5, 0.51, 0.52, 0.53, 0.54]), claim())
    assert found.verdict == "inconclusive"
    assert found.p == 2 / 32
    assert np.isnan(found.estimates[0].smallest_detectable)


def test_holm_counts_every_tested_claim_of_the_family_and_no_other() -> None:
    frame = runs([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, -0.3, 0.2, 0.1])
    alone = verdict(frame, claim())
    others = [claim(name=f"N{i}", plus="conv-bn-act", minus="conv-act-bn") for i in range(4)]
    crowd = verdict(frame, claim(), *others)
    assert alone.p == crowd.p
    assert crowd.p_adjusted == pytest.approx(min(1, 5 * alone.p))
    elsewhere = [replace(c, family="g") for c in others]
    assert verdict(frame, claim(), *elsewhere).p_adjusted == alone.p
    absent = [replace(c, parts=claim(plus="conv-act").parts) for c in others]
    assert verdict(frame, claim(), *absent).p_adjusted == alone.p


def compound(*signs: int) -> Claim:
    parts = tuple(
        Part(f"part {i}", "test_accuracy_pp", 0.2, None, claim_terms(sign))
        for i, sign in enumerate(signs)
    )
    return replace(claim(), parts=parts)


def claim_terms(sign: int) -> tuple[Term, ...]:
    return term(sign, "bn-act-conv"), term(-sign, "act-bn-conv")


def test_a_claim_of_several_parts_is_supported_only_if_all_are() -> None:
    frame = runs(SPREAD + 0.5)
    assert verdict(frame, compound(1, 1)).verdict == "supported"
    mixed = verdict(frame, compound(1, -1))
    assert mixed.verdict == "contradicted"
    assert mixed.p == 2 * verdict(frame, compound(1, 1)).p  # the smallest, times their number
    assert [e.verdict for e in mixed.estimates] == ["supported", "contradicted"]


def test_a_claim_of_several_open_parts_is_inconclusive_even_when_each_is_negligible() -> None:
    found = verdict(runs(SPREAD), compound(1, -1))
    assert found.verdict == "inconclusive"
    assert [e.verdict for e in found.estimates] == ["negligible", "negligible"]


def test_part_verdicts_never_contradict_the_claims() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        frame = runs(rng.normal(0.1, 0.15, 8))
        for found in judge([compound(1, 1), claim(name="B")], table(frame), resamples=0):
            words = {e.verdict for e in found.estimates}
            if found.verdict == "supported":
                assert words == {"supported"}
            if found.verdict == "contradicted":
                assert "contradicted" in words


def table(frame: pd.DataFrame, grid: Grid | None = None) -> RunTable:
    return RunTable(frame, grid or Grid.of_runs(frame))


def test_a_missing_seed_gives_not_tested_and_names_the_run() -> None:
    frame = runs(SPREAD + 0.5)
    grid = Grid.of_runs(frame)
    gone = (frame.ordering == "act-bn-conv") & (frame.seed == 3) & (frame.depth == 5)
    found = verdict(frame[~gone].reset_index(drop=True), claim(), grid=grid)
    assert found.verdict == "not tested"
    assert "runs that it needs are missing, 1 of 40" in found.reason
    assert "mnist.act-bn-conv.relu.d5.base.s3" in found.reason
    assert found.estimates == ()


def test_a_missing_run_elsewhere_does_not_matter() -> None:
    frame = runs(SPREAD + 0.5)
    gone = (frame.ordering == "conv-act-bn") & (frame.seed == 3)
    found = verdict(frame[~gone].reset_index(drop=True), claim(), grid=Grid.of_runs(frame))
    assert found.verdict == "supported"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(bad: float) -> None:
    frame = runs(SPREAD + 0.5).assign(test_loss=0.1)
    frame.loc[(frame.ordering == "bn-act-conv") & (frame.seed == 2), "test_loss"] = bad
    found = verdict(frame, claim(measure="test_loss", margin=None))
    assert found.verdict == "not tested"
    assert "have no finite test_loss" in found.reason


def test_one_seed_is_not_tested() -> None:
    assert "at least two seeds" in verdict(runs([0.5]), claim()).reason


def test_a_measure_that_was_not_taken_is_not_tested() -> None:
    found = verdict(runs(SPREAD), claim(measure="gradient_slope@0", margin=None))
    assert (
        found.reason
        == "the study did not measure the absolute slope of the log gradient norm at the start"
    )


def test_equal_counts_tie_though_their_percentages_are_rounded() -> None:
    # 7 more right of 360 in every run: the differences in points differ in the last bits.
    frame = runs(np.zeros(10), n_test=360, base=90)
    ahead = frame.ordering == "bn-act-conv"
    frame.loc[ahead, "test_correct"] += 7 - 14 * (frame.loc[ahead, "seed"] % 2)
    frame["test_accuracy_pp"] = 100 * frame["test_correct"] / frame["n_test"]
    assert verdict(frame, claim()).p == 1
    without_counts = frame.drop(columns=["test_correct", "n_test"])
    assert verdict(without_counts, claim()).p == 1


def test_a_blank_count_beside_an_accuracy_is_not_a_count_of_zero() -> None:
    frame = runs(SPREAD + 0.5)
    expected = verdict(frame, claim()).estimates[0]
    frame["test_correct"] = frame["test_correct"].astype(float)
    frame.loc[3, "test_correct"] = np.nan
    found = verdict(frame, claim()).estimates[0]
    assert (found.mean, found.p) == (pytest.approx(expected.mean), expected.p)


def test_a_seed_with_more_test_images_is_weighed_as_its_share() -> None:
    frame = runs(SPREAD + 0.5)
    expected = verdict(frame, claim()).estimates[0]
    frame.loc[frame.seed == 4, ["n_test", "test_correct"]] *= 2
    found = verdict(frame, claim()).estimates[0]
    assert (found.mean, found.p) == (pytest.approx(expected.mean), expected.p)


def test_two_orderings_with_different_test_sets_are_compared_as_shares() -> None:
    frame = runs(SPREAD + 0.5)
    expected = pairwise(RunTable(frame, Grid.of_runs(frame)))
    frame.loc[frame.ordering == "act-bn-conv", ["n_test", "test_correct"]] *= 2
    pd.testing.assert_frame_equal(pairwise(RunTable(frame, Grid.of_runs(frame))), expected)


def test_data_sets_of_different_sizes_are_weighed_as_shares() -> None:
    small = runs(SPREAD + 0.5, n_test=400).assign(dataset="digits")
    both = pd.concat([runs(SPREAD + 0.3), small], ignore_index=True)
    found = verdict(both, claim()).estimates[0]
    sides = [verdict(f, claim()).estimates[0].mean for f in (runs(SPREAD + 0.3), small)]
    assert found.mean == pytest.approx(np.mean(sides))
    assert [i.mean for i in found.by_dataset] == pytest.approx(sides)


def test_stability_is_the_share_of_resamples_and_is_fixed() -> None:
    frame = runs(4 * SPREAD + 0.12)
    first, again = (judge([claim()], table(frame), resamples=200)[0] for _ in range(2))
    assert first.stability == again.stability is not None
    assert sum(first.stability.shares.values()) == pytest.approx(1)
    certain = judge([claim()], table(runs(SPREAD + 0.5)), resamples=200)[0]
    assert certain.stability is not None and certain.stability.shares["supported"] == 1


def test_checks_that_disagree_are_named() -> None:
    # One far outlier: the ranks and the flips see an effect, the t-test does not.
    found = verdict(runs([0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.02, 0.03, 0.04, 3.0], 96), claim())
    assert found.p < 0.05 < found.estimates[0].t_p
    assert any("t-test" in name for name in found.checks_disagree)


# --- what must not change a verdict -----------------------------------------------------------

gains = st.lists(st.integers(-60, 60), min_size=7, max_size=7).map(lambda v: [i / 100 for i in v])
KINDS = st.sampled_from(["direction", "equivalence", "interaction"])


@settings(max_examples=40, deadline=None)
@given(gains, KINDS, st.randoms(use_true_random=False))
def test_order_of_rows_seeds_and_arms_changes_nothing(gain, kind, shuffler) -> None:  # type: ignore[no-untyped-def]
    frame = runs(gain)
    rows = list(range(len(frame)))
    shuffler.shuffle(rows)
    seeds = list(range(7))
    shuffler.shuffle(seeds)
    mixed = frame.iloc[rows].reset_index(drop=True)
    mixed["seed"] = mixed["seed"].map(dict(enumerate(seeds)))
    one, two = verdict(frame, claim(kind)), verdict(mixed, claim(kind))
    assert one.verdict == two.verdict
    assert one.p == pytest.approx(two.p, abs=1e-12)
    assert one.estimates[0].mean == pytest.approx(two.estimates[0].mean, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(gains, st.sampled_from(["direction", "interaction", "equivalence"]))
def test_swapping_the_sides_swaps_supported_and_contradicted(gain, kind) -> None:  # type: ignore[no-untyped-def]
    frame = runs(gain)
    one = verdict(frame, claim(kind))
    two = verdict(frame, claim(kind, plus="act-bn-conv", minus="bn-act-conv"))
    expected = one.verdict if kind == "equivalence" else SWAP.get(one.verdict, one.verdict)
    assert two.verdict == expected
    assert two.p == pytest.approx(one.p, abs=1e-12)
    assert two.estimates[0].mean == -one.estimates[0].mean


@settings(max_examples=30, deadline=None)
@given(gains, st.integers(-300, 50))
def test_a_constant_added_to_every_arm_changes_no_contrast(gain, shift) -> None:  # type: ignore[no-untyped-def]
    one, two = (verdict(runs(gain, base=b), claim()) for b in (98.0, 98.0 + shift / 100))
    assert one.verdict == two.verdict and one.p == two.p
    assert one.estimates[0].values == pytest.approx(two.estimates[0].values, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(gains, st.integers(0, 6), st.integers(0, 1))
def test_any_missing_run_gives_not_tested(gain, seed, depth) -> None:  # type: ignore[no-untyped-def]
    frame = runs(gain)
    gone = (frame.ordering == "bn-act-conv") & (frame.seed == seed)
    gone &= frame.depth == AXES["depth"][depth]
    left = frame[~gone].reset_index(drop=True)
    assert verdict(left, claim(), grid=Grid.of_runs(frame)).verdict == "not tested"


# --- the method itself, in small; `make calibrate` does it at length --------------------------


def test_simulated_studies_without_effect_seldom_get_a_wrong_verdict() -> None:
    from bnorder.claims import load_claims
    from bnorder.statistics.calibration import World, any_wrong, article_grid, simulate
    from tests.test_claims import ARTICLE

    claims = [c for c in load_claims(ARTICLE).claims if c.family == "experiment"]
    rng = np.random.default_rng(11)
    hits = any_wrong(simulate(claims, article_grid(8), World(seeds=8), 1000, rng))
    assert hits.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_simulated_runs_are_shaped_like_the_real_ones_and_fixed_by_their_generator() -> None:
    one, two = (simulated_runs(AXES, np.random.default_rng(1), seeds=3) for _ in range(2))  # type: ignore[arg-type]
    assert one.equals(two)
    assert len(one) == 4 * 2 * 3
    assert one["run"].iloc[0] == f"{Arm('mnist', 'bn-act-conv', 'relu', 2, 'base').id}.s0"


def test_sign_flip_uses_whole_numbers() -> None:
    contrast = table(runs(SPREAD)).measured("test_accuracy_pp")
    assert contrast is not None and contrast.counts is not None
    assert est.smallest_p(10) == 2 / 2**10


def test_contrasts_of_counts_are_compared_in_whole_numbers() -> None:
    from bnorder.statistics.contrasts import contrast_of

    third = replace(claim().parts[0], threshold=None)
    contrast = contrast_of(third, table(runs(SPREAD)))
    assert np.issubdtype(contrast.keys.dtype, np.integer)
    assert contrast.values == pytest.approx(contrast.plus - contrast.minus)
