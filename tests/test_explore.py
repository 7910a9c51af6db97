"""Exploration against published values, and tables that hold together."""

import numpy as np
import pandas as pd
import pytest

from bnorder.claims import load_claims
from bnorder.statistics import mixed, survival
from bnorder.statistics.calibration import simulated_runs
from bnorder.statistics.contrasts import Grid, RunTable
from bnorder.statistics.explore import (
    arms,
    bands,
    by_variant,
    class_cut,
    clopper_pearson,
    correlation,
    crossed_orders,
    opposite_gaps,
    pairwise,
)
from bnorder.statistics.mixed import FACTORS, design, mixed_model
from bnorder.statistics.survival import steps_to_thresholds, survival_tables
from bnorder.study import Arm
from bnorder.tables import read_runs
from tests.test_claims import ARTICLE

SIX = ("bn-act-conv", "act-conv-bn", "conv-bn-act", "act-bn-conv", "bn-conv-act", "conv-act-bn")
AXES: dict[str, tuple[str | int, ...]] = {
    "dataset": ("mnist",),
    "ordering": SIX,
    "activation": ("relu", "elu"),
    "depth": (2, 5),
}

# Weeks of remission with 6-MP and with placebo, + for censored: Freireich et al. (1963), Blood 21,
# as printed in Kleinbaum & Klein, Survival Analysis, ch. 2.
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
TREATED_CENSORED = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def simulated(effect=lambda arm: 0.0, **more: object) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    return simulated_runs(AXES, np.random.default_rng(4), seeds=8, effect=effect, **more)  # type: ignore[arg-type]


def table(frame: pd.DataFrame) -> RunTable:
    return RunTable(frame, Grid.of_runs(frame))


def remissions() -> pd.DataFrame:
    """The two groups as two orderings; a censored run ends at its own last step."""
    rows = [("bn-act-conv", float(t), np.nan) for t in TREATED]
    rows += [("bn-act-conv", np.nan, float(t)) for t in TREATED_CENSORED]
    rows += [("act-bn-conv", float(t), np.nan) for t in PLACEBO]
    frame = pd.DataFrame(rows, columns=["ordering", "step", "censored"])
    return frame.assign(reached=frame["step"].notna(), threshold=97.0)


def test_kaplan_meier_and_log_rank_of_the_remission_data() -> None:
    from bnorder.statistics import survival

    frame = remissions()
    long = frame.assign(
        dataset="mnist",
        activation="relu",
        depth=2,
        variant="base",
        step=frame["step"].fillna(frame["censored"]),
    )
    steps, summary = survival._kaplan_meier(long)
    curve = steps[(steps.ordering == "bn-act-conv") & (steps.step > 0)]
    # Kleinbaum & Klein, table 2.1: .857 .807 .753 .690 .627 .538 .448 at 6 7 10 13 16 22 23.
    shown = dict(zip(curve["step"], curve["share_not_reached"].round(3), strict=True))
    assert shown == {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert summary.set_index("ordering")["median_steps"].to_dict() == {
        "bn-act-conv": 23.0,
        "act-bn-conv": 8.0,
    }
    # The same book, and R's survdiff: chi-squared 16.79 on 1 degree of freedom, p = .00004.
    found = survival._log_rank(long)
    assert found["statistic"].item() == pytest.approx(16.79, abs=0.005)
    assert found["p"].item() == pytest.approx(4.17e-5, rel=0.01)


def test_runs_that_never_get_there_are_censored_at_the_end_of_their_arms_training() -> None:
    frame = simulated()
    frame.loc[0, "steps_to_97"] = np.nan
    frame.loc[0, "steps"] = 400  # diverged there; the others of the arm trained on to 2345
    long = steps_to_thresholds(frame)
    first = long[(long.threshold == 97) & (long.index == 0)].iloc[0]
    assert (first["step"], first["reached"]) == (2345, False)


@pytest.mark.parametrize("steps", [[117, 234, 351, 468], [117, 585, 585, 585]])
def test_half_of_the_runs_are_not_enough_for_a_median(steps: list[float]) -> None:
    frame = simulated()
    axes = ["ordering", "activation", "depth"]
    arm = (frame[axes] == frame.loc[0, axes]).all(axis=1)
    frame.loc[arm, "steps_to_97"] = [*steps, *[np.nan] * 4]
    first = survival_tables(frame)["survival_summary"].query("threshold == 97").iloc[0]
    assert first["reached"] == 4 and np.isnan(first["median_steps"])


def test_a_threshold_that_nobody_reaches_has_no_p_value_and_no_median() -> None:
    frame = simulated().assign(steps_to_99=np.nan)
    found = survival_tables(frame)
    assert found["logrank"].query("threshold == 99")["p"].isna().all()
    summary = found["survival_summary"].query("threshold == 99")
    assert (summary["reached"] == 0).all() and summary["median_steps"].isna().all()


def test_a_table_without_steps_gives_empty_survival_tables() -> None:
    frame = simulated().drop(columns=["steps_to_97", "steps_to_98", "steps_to_99"])
    assert all(found.empty for found in survival_tables(frame).values())


# Effort to rise from four types of stool, nine subjects: Pinheiro & Bates, Mixed-Effects Models in
# S and S-PLUS (2000), section 1.2, data ergoStool.
STOOLS = [
    [12, 15, 12, 10],
    [10, 14, 13, 12],
    [7, 14, 13, 9],
    [7, 11, 10, 9],
    [8, 11, 8, 7],
    [9, 11, 11, 10],
    [8, 12, 12, 11],
    [7, 11, 8, 7],
    [9, 13, 10, 8],
]


def stools() -> pd.DataFrame:
    rows = [
        (subject, kind, float(effort))
        for subject, efforts in enumerate(STOOLS)
        for kind, effort in zip(SIX[:4], efforts, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["seed", "activation", "test_accuracy_pp"])
    return frame.assign(bn_class="bn_first", cut="conv_last", depth=2, variant="base", dataset="d")


def test_mixed_model_of_the_ergonomic_stools() -> None:
    fit = mixed_model(stools())
    assert fit.converged, fit.message
    # Pinheiro & Bates, p. 14 (REML): sd of subjects 1.3325, residual 1.1003.
    assert fit.sd_seed == pytest.approx(1.332465, abs=2e-4)
    assert fit.sd_residual == pytest.approx(1.100295, abs=2e-4)
    effects = {e.term: e.estimate for e in fit.effects}
    assert effects["mean"] == pytest.approx(np.mean(STOOLS))
    # Their T1 lies 8.5556, T2 3.8889 above it: as distances from the mean over types.
    assert effects[f"activation[{SIX[0]}]"] == pytest.approx(8.5556 - np.mean(STOOLS), abs=1e-4)
    assert effects[f"activation[{SIX[1]}]"] == pytest.approx(12.4444 - np.mean(STOOLS), abs=1e-4)


def test_mixed_model_finds_planted_effects_where_l_bfgs_reports_zeros() -> None:
    def effect(arm: Arm) -> float:
        return 0.2 if arm.ordering in ("bn-act-conv", "act-conv-bn", "conv-bn-act") else 0.0

    frame = simulated(effect, sd_seed=0.2)
    fit = mixed_model(frame)
    assert fit.converged
    row = next(e for e in fit.effects if e.term == "class[bn_first]")
    # The grid is balanced, so the estimate is half the difference of the classes' plain means.
    sides = frame.groupby("bn_class")["test_accuracy_pp"].mean()
    assert row.estimate == pytest.approx((sides["bn_first"] - sides["act_first"]) / 2)
    assert row.estimate == pytest.approx(0.1, abs=0.03) and 0.002 < row.se < 0.02
    assert 0.1 < fit.sd_seed < 0.35
    mean = next(e for e in fit.effects if e.term == "mean")
    assert mean.estimate == pytest.approx(99, abs=0.4)


def test_seeds_beyond_the_first_many_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = simulated()
    few = mixed_model(frame[frame.seed < 3])
    monkeypatch.setattr(mixed, "MOST_SEEDS", 3)
    capped = mixed_model(frame)
    assert capped.n_seeds == few.n_seeds == 3 < frame.seed.nunique()
    assert capped.effects == few.effects
    assert "beyond the first 3" in capped.left_out


def test_terms_that_cannot_be_estimated_are_left_out_and_named() -> None:
    frame = simulated()
    fit = mixed_model(frame[frame.ordering != "conv-act-bn"])
    assert fit.fitted and fit.dropped
    assert all("class" in term and "cut" in term for term in fit.dropped)
    named = {e.term for e in fit.effects}
    assert not named & set(fit.dropped)


def test_full_crossing_has_as_many_columns_as_cells() -> None:
    frame = simulated()
    assert design(frame, FACTORS).matrix.shape[1] == 6 * 2 * 2


@pytest.mark.parametrize("column", ["test_accuracy_pp"])
def test_a_model_that_cannot_be_fitted_says_so(column: str) -> None:
    frame = simulated()
    frame.loc[3, column] = np.nan
    assert (mixed_model(frame).fitted, mixed_model(frame).converged) == (False, False)
    assert "finite" in mixed_model(frame).message
    one = mixed_model(simulated()[lambda f: f.seed == 0])
    assert not one.fitted and "two seeds" in one.message


def test_clopper_pearson_at_its_ends() -> None:
    # 0 of 10: upper end 1 - .025 ** (1 / 10) = .3085; 10 of 10 mirrors it. Clopper & Pearson (1934)
    low, high = clopper_pearson(np.array([0.0, 10.0, 3.0]), np.array([10.0, 10.0, 10.0]))
    assert high[0] == pytest.approx(1 - 0.025**0.1) and low[0] == 0
    assert low[1] == pytest.approx(0.025**0.1) and high[1] == 1
    assert (low[2], high[2]) == pytest.approx((0.0667, 0.6525), abs=5e-5)


def test_arms_count_divergences_and_summarise_accuracy() -> None:
    frame = simulated()
    frame.loc[[0, 1], "status"] = "diverged"
    row = arms(frame).iloc[0]
    values = frame["test_accuracy_pp"].iloc[:8]
    assert (row["n"], row["diverged"], row["mean"]) == (8, 2, pytest.approx(values.mean()))
    assert row["ci_low"] < row["mean"] < row["ci_high"]
    assert row["diverged_low"] < 0.25 < row["diverged_high"]
    assert row["arm"] == "mnist.bn-act-conv.relu.d2.base"


def planted_class_and_cut(arm: Arm) -> float:
    from bnorder.study import describe

    about = describe(arm.ordering)
    cut = {"conv_first": 0.0, "conv_middle": 0.5, "conv_last": 1.0}[about["cut"]]
    return -3 + cut + (0.4 if about["bn_class"] == "bn_first" else 0.0)


def test_class_and_cut_are_told_apart() -> None:
    effects, shares = class_cut(table(simulated(planted_class_and_cut, sd_run=0.01)))
    of_all = effects[(effects.activation == "all") & (effects.depth == "all")]
    accuracy = of_all[of_all.measure == "test_accuracy_pp"].set_index(["effect", "contrast"])
    assert accuracy.loc[("class", "bn_first - act_first"), "mean"] == pytest.approx(0.4, abs=0.02)
    last = accuracy.loc[("cut", "conv_first - conv_last")]
    assert last["mean"] == pytest.approx(-1.0, abs=0.02)
    assert last["ci_low"] < last["mean"] < last["ci_high"]
    both = accuracy.loc["class x cut"]["mean"]
    assert len(both) == 3 and both.abs().max() < 0.02
    assert {"test_loss", "test_error_area"} <= set(of_all["measure"])
    of_all = shares[(shares.activation == "all") & (shares.depth == "all")]
    share = of_all[of_all.measure == "test_accuracy_pp"].set_index("effect")["share"]
    # Sums of squares over six orders: class 6 * .2^2 = .24, cut 2 * (.5^2 + .5^2) = 1.
    assert share["class"] == pytest.approx(0.24 / 1.24, abs=0.01)
    assert share.sum() == pytest.approx(1)


def test_class_and_cut_need_both_classes_at_two_cuts() -> None:
    assert crossed_orders(("bn-act-conv", "act-bn-conv", "conv-bn-act")) == {}
    assert len(crossed_orders((*SIX, "conv-act"))) == 6
    frame = simulated()
    effects, shares = class_cut(table(frame[frame.ordering.isin(SIX[:3])]))
    assert effects.empty and shares.empty
    assert "p" in effects


def test_opposite_differences_are_found_on_their_own_data_set_alone() -> None:
    def apart(arm: Arm) -> float:
        gains = {"conv-bn-act": -0.3, "bn-act-conv": 0.9}
        return gains.get(arm.ordering, 0.0) * (arm.dataset == "fashion_mnist")

    axes = AXES | {"dataset": ("mnist", "fashion_mnist"), "ordering": (*SIX[:1], *SIX[2:4], SIX[5])}
    rng = np.random.default_rng(4)
    frame = simulated_runs(axes, rng, seeds=10, effect=apart)
    gaps = {(g.first, g.second): g for g in opposite_gaps(table(frame))}
    assert {g.dataset for g in gaps.values()} == {"fashion_mnist"}
    assert gaps["conv-bn-act", "conv-act-bn"].mean == pytest.approx(-0.3, abs=0.1)
    assert gaps["bn-act-conv", "act-bn-conv"].mean == pytest.approx(0.9, abs=0.1)
    assert opposite_gaps(table(simulated_runs(axes, rng, seeds=10))) == ()


def test_pairs_are_adjusted_within_their_own_arms_and_missing_runs_give_no_p() -> None:
    frame = simulated()
    found = pairwise(table(frame))
    assert len(found) == 15 * 4
    family = found[(found.activation == "relu") & (found.depth == 2)]
    assert family["p_holm"].min() == pytest.approx(min(1, 15 * family["p"].min()))
    gaps = pairwise(RunTable(frame.drop(index=0).reset_index(drop=True), Grid.of_runs(frame)))
    assert gaps["p"].isna().sum() == 5
    assert set(gaps.loc[gaps["p"].isna(), "n"]) == {7}


def test_pairing_pays_as_much_as_the_seeds_share() -> None:
    shared = correlation(table(simulated(sd_seed=0.3, sd_run=0.1))).iloc[0]
    alone = correlation(table(simulated(sd_seed=0.0, sd_run=0.1))).iloc[0]
    assert shared["mean_correlation"] > 0.6 > 0.3 > alone["mean_correlation"]
    assert shared["worth"] > 2.5 and 0.6 < alone["worth"] < 1.6
    assert shared["ratio"] == pytest.approx((shared["sd_paired"] / shared["sd_unpaired"]) ** 2)


def test_pairing_equals_the_sum_over_all_pairs() -> None:
    frame = simulated()
    x = frame["test_accuracy_pp"].to_numpy().reshape(24, 8)
    pairs = [(i, j) for i in range(24) for j in range(i)]
    paired = np.mean([np.var(x[i] - x[j], ddof=1) for i, j in pairs])
    row = correlation(table(frame)).set_index("measure").loc["test_accuracy_pp"]
    assert row["sd_paired"] ** 2 == pytest.approx(paired)
    assert row["mean_correlation"] == pytest.approx(
        np.mean([np.corrcoef(x[i], x[j])[0, 1] for i, j in pairs])
    )


def test_every_claim_is_judged_again_under_each_variant() -> None:
    claims = load_claims(ARTICLE).claims
    axes = {**AXES, "ordering": SIX, "variant": ("base", "wide")}
    frame = simulated_runs(
        axes,
        np.random.default_rng(2),
        seeds=8,
        effect=lambda a: 0.5 * (a.variant == "wide" and "bn-act" in a.ordering),
    )
    found = by_variant(claims, table(frame)).set_index(["variant", "claim"])
    assert found.loc[("wide", "T5"), "verdict"] == "supported"
    assert found.loc[("base", "T5"), "verdict"] != "supported"
    assert by_variant(claims, table(simulated())).empty


def test_bands_are_means_over_seeds_at_each_step() -> None:
    frame = simulated()
    curves = pd.concat([frame.assign(step=s, epoch=s / 469) for s in (0, 469)])
    found = bands(curves)
    assert len(found) == 24 * 2 and (found["n"] == 8).all()
    row = found[(found.ordering == "bn-act-conv") & (found.step == 469)].iloc[0]
    low, mean, high = (row[f"test_accuracy_pp_{k}"] for k in ("low", "mean", "high"))
    assert low < mean < high


def test_own_tables_need_not_have_our_orderings(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.csv"
    path.write_text("ordering,seed,test_accuracy_pp\nlinear-bn-relu,0,58.1\nother,0,57.9\n")
    frame = read_runs(path)
    assert set(frame["bn_class"]) == {"none"}
    assert arms(frame)["n"].tolist() == [1, 1]


@pytest.mark.parametrize("steps", [[117.0, 117.0], [117.0, 117.0, 117.0, 117.0]])
def test_arms_that_all_get_there_at_the_same_step_do_not_differ(steps: list[float]) -> None:
    half = len(steps) // 2
    side = np.repeat([0, 1], [half, len(steps) - half])
    reached = np.ones(len(steps), dtype=np.int64)
    assert survival._log_rank_test(np.array(steps), reached, side) == (0.0, 1.0)


def test_a_threshold_that_no_run_reaches_has_no_log_rank_test() -> None:
    nobody = np.zeros(4, dtype=np.int64)
    statistic, p = survival._log_rank_test(np.full(4, 9.0), nobody, np.array([0, 0, 1, 1]))
    assert np.isnan(statistic)
    assert np.isnan(p)


def test_as_few_runs_as_effects_are_no_model() -> None:
    frame = simulated()
    arms_, effects = frame.groupby(["ordering", "activation", "depth"]).ngroup(), 24
    few = frame[(frame["seed"] == 0) & (arms_ < 12) | (frame["seed"] == 1) & (arms_ >= 12)]
    assert len(few) == effects
    for runs in (few, few.iloc[1:]):
        model = mixed_model(runs)
        assert not model.fitted and model.message == "it needs more runs than effects"
