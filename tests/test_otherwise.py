"""Would it hold otherwise: choices on held-out images, derived variants, the ladder of controls."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bnorder.errors import UserError
from bnorder.statistics import otherwise
from bnorder.statistics.analysis import analyse, load_inputs
from bnorder.statistics.calibration import simulated_runs
from bnorder.statistics.contrasts import Grid, RunTable
from bnorder.statistics.derived import choices, chosen_runs, extended, recomputed_runs
from bnorder.study import Selection, Study, load_study
from bnorder.tables import read_runs
from bnorder.workflow import configured_study

ORDERS = ("bn-act-conv", "conv-bn-act", "act-bn-conv", "conv-act-bn")
VARIANTS = ("base", "slow", "fast")
PLAN = Selection("best_rate", ("slow", "base", "fast"), (100, 101), 50)
STUDY = {
    "name": "tiny",
    "datasets": ["digits"],
    "orderings": list(ORDERS),
    "activations": ["relu"],
    "depths": [2],
    "seeds": 3,
    "variants": {"base": {}, "slow": {"learning_rate": 1e-4}, "fast": {"learning_rate": 0.01}},
    "selection": {
        "name": "best_rate",
        "variants": ["slow", "base", "fast"],
        "seeds": [100, 101],
        "validation_images": 50,
    },
}


def study(folder: Path, **changes: object) -> Study:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes), encoding="utf-8")
    return load_study(path)


def runs(effect=lambda arm: 0.0, seeds: int = 6) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    axes: dict[str, tuple[str | int, ...]] = {
        "dataset": ("digits",),
        "ordering": ORDERS,
        "activation": ("relu",),
        "depth": (2,),
        "variant": VARIANTS,
    }
    return simulated_runs(axes, np.random.default_rng(3), seeds=seeds, effect=effect)


def validation(**accuracy: tuple[float, float]) -> pd.DataFrame:
    """Runs of one order: variant -> accuracy at each selection seed."""
    rows = [
        ("digits", "bn-act-conv", "relu", 2, variant, seed, value)
        for variant, values in accuracy.items()
        for seed, value in zip(PLAN.seeds, values, strict=True)
    ]
    axes = ["dataset", "ordering", "activation", "depth", "variant"]
    return pd.DataFrame(rows, columns=[*axes, "seed", "test_accuracy_pp"])


GRID = Grid(("digits",), ("bn-act-conv",), ("relu",), (2,), VARIANTS, (0, 1, 2))


# The runs that decide


def test_the_runs_that_decide_have_other_seeds_and_count_held_out_images(tmp_path: Path) -> None:
    whole = study(tmp_path)
    _, deciding = whole.parts()
    assert deciding.seeds == (100, 101)
    assert not set(deciding.seeds) & set(whole.seeds)
    assert {arm.variant for arm in deciding.arms()} == {"slow", "base", "fast"}
    assert deciding.recipe_for("fast").validation_images == 50
    assert whole.recipe_for("fast").validation_images == 0
    arm = whole.arms()[0]
    assert deciding.config_hash(arm) != whole.config_hash(arm)
    job = deciding.jobs()[0]
    assert whole.part_with(job.name) == deciding
    assert whole.part_with(whole.jobs()[0].name) is whole


def test_a_selection_reads_back_and_changes_no_judged_run(tmp_path: Path) -> None:
    with_choice, without = study(tmp_path), study(tmp_path, selection=None)
    assert without.parts() == [without]
    assert [with_choice.config_hash(a) for a in with_choice.arms()] == [
        without.config_hash(a) for a in without.arms()
    ]
    path = tmp_path / "effective.yaml"
    path.write_text(with_choice.as_yaml(), encoding="utf-8")
    assert load_study(path) == with_choice


def test_a_selection_is_overridden_key_by_key_or_dropped(tmp_path: Path) -> None:
    study(tmp_path)
    path = str(tmp_path / "tiny.yaml")
    _, _, changed = configured_study({"study": path, "selection": "{seeds: [7, 9]}"})
    assert changed.selection is not None
    assert (changed.selection.seeds, changed.selection.validation_images) == ((7, 9), 50)
    assert configured_study({"study": path, "selection": "null"})[2].selection is None


BAD = {
    "a judged seed": ({"seeds": [2, 100]}, "selection.seeds has 2, a seed that is judged"),
    "a seed twice": ({"seeds": [100, 100]}, "selection.seeds has 100 twice"),
    "no variant of it": ({"variants": ["base", "slwo"]}, "selection.variants has 'slwo'; expected"),
    "one variant": ({"variants": ["base"]}, "selection.variants is"),
    "a name that is taken": ({"name": "fast"}, "selection.name is 'fast', a variant already"),
    "no held-out images": ({"validation_images": 0}, "validation_images is 0; expected at least 1"),
    "an unknown key": ({"images": 3}, "selection: unknown key 'images'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_selection_is_one_line(case: str, tmp_path: Path) -> None:
    changes, expected = BAD[case]
    with pytest.raises(UserError) as caught:
        study(tmp_path, selection=STUDY["selection"] | changes)  # type: ignore[operator]
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_chosen_may_not_be_judged_on_held_out_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="judged on the test set"):
        study(tmp_path, recipe={"validation_images": 10})
    fast = {"fast": {"learning_rate": 0.01, "validation_images": 9}}
    with pytest.raises(UserError, match="'fast', which overrides validation_images"):
        study(tmp_path, variants=STUDY["variants"] | fast)  # type: ignore[operator]


# The choice


def test_each_order_takes_the_best_mean_and_of_equals_the_first() -> None:
    made = choices(validation(base=(90, 92), slow=(91, 90.9), fast=(99, 80)), PLAN, GRID)
    assert made.loc[made["chosen"], "variant"].tolist() == ["base"]
    assert made.set_index("variant")["mean"].to_dict() == {"slow": 90.95, "base": 91, "fast": 89.5}
    tied = choices(validation(base=(90, 92), slow=(91, 91), fast=(80, 80)), PLAN, GRID)
    assert tied.loc[tied["chosen"], "variant"].tolist() == ["slow"]


def test_an_order_that_lacks_a_run_chooses_nothing() -> None:
    lacking = validation(base=(90, 92), slow=(91, 91), fast=(80, 80)).iloc[:-1]
    assert not choices(lacking, PLAN, GRID)["chosen"].any()
    assert choices(pd.DataFrame(), PLAN, GRID).empty


def test_the_choice_is_judged_on_the_runs_of_the_chosen_variant() -> None:
    frame = runs()
    made = pd.DataFrame(
        {"selection": "best_rate", "dataset": "digits", "ordering": ORDERS}
        | {"variant": ["fast", "slow", "base", "fast"], "chosen": [True, True, True, False]}
    )
    found = chosen_runs(frame, made)
    assert set(found["variant"]) == {"best_rate"}
    assert set(found["ordering"]) == set(ORDERS[:3])
    for ordering, variant in zip(ORDERS[:3], ["fast", "slow", "base"], strict=True):
        same = (frame["ordering"] == ordering) & (frame["variant"] == variant)
        ours = found.loc[found["ordering"] == ordering, "test_correct"]
        assert ours.tolist() == frame.loc[same, "test_correct"].tolist()


def test_recomputed_statistics_add_what_running_averages_lost() -> None:
    frame = runs().assign(running_loss_pp=0.5)
    frame.loc[frame["ordering"] == "conv-act-bn", "running_loss_pp"] = np.nan
    base = frame[frame["variant"] == "base"].reset_index(drop=True)
    found = recomputed_runs(frame).reset_index(drop=True)
    gained = found["test_correct"] - base["test_correct"]
    expected = np.where(base["ordering"] == "conv-act-bn", 0, 0.005 * base["n_test"])
    assert gained.tolist() == expected.tolist()
    assert "test_error_area" not in found
    assert recomputed_runs(runs()).empty
    assert recomputed_runs(frame.drop(columns=["n_test", "test_correct"])).empty


# The ladder


def test_the_ladder_shows_each_effect_and_how_it_moves_within_seeds() -> None:
    """A class effect that is .5 more under `fast`, and a cut effect that stays."""

    def effect(arm) -> float:  # type: ignore[no-untyped-def]
        value = 0.5 if arm["bn_class"] == "bn_first" and arm["variant"] == "fast" else 0.0
        return value - 1.0 + (0.3 if arm["cut"] == "conv_first" else 0.0)

    frame = runs(lambda arm: effect(_described(arm)))
    found = otherwise.controls(RunTable(frame, Grid.of_runs(frame)))
    at = found.set_index(["variant", "effect"])
    assert at.loc[("base", "class"), "mean"] == pytest.approx(0, abs=0.15)
    assert at.loc[("fast", "class"), "change"] == pytest.approx(0.5, abs=0.15)
    assert at.loc[("slow", "class"), "change"] == pytest.approx(0, abs=0.15)
    assert at.loc[("fast", "cut"), "mean"] == pytest.approx(0.3, abs=0.15)
    difference = at.loc[("fast", "class"), "mean"] - at.loc[("base", "class"), "mean"]
    assert at.loc[("fast", "class"), "change"] == pytest.approx(difference)
    assert np.isnan(at.loc[("base", "class"), "change"])
    two = at["change_p"].xs("class", level="effect").dropna()
    adjusted = at["change_p_holm"].xs("class", level="effect").dropna()
    assert sorted(adjusted) == pytest.approx(
        [min(1, 2 * two.min()), max(2 * two.min(), two.max())], abs=1e-9
    )


def _described(arm: object) -> dict[str, object]:
    from bnorder.study import describe

    return vars(arm) | describe(arm.ordering)  # type: ignore[attr-defined]


def test_a_variant_that_lacks_a_run_has_no_effect_rather_than_another() -> None:
    frame = runs()
    gone = (frame["variant"] == "fast") & (frame["seed"] == 0)
    frame = frame.drop(frame[gone].index[:1]).reset_index(drop=True)
    found = otherwise.controls(RunTable(frame, Grid.of_runs(frame))).set_index("variant")
    assert found.loc["fast", "mean"].isna().all()
    assert found.loc["slow", "mean"].notna().all()


def test_two_orders_of_one_cut_have_their_class_effect_alone() -> None:
    frame = runs(lambda arm: 1.0 * (arm.ordering == "bn-act-conv" and arm.variant == "base"))
    pair = frame[frame["ordering"].isin(["bn-act-conv", "act-bn-conv"])]
    found = otherwise.controls(RunTable(pair, Grid.of_runs(pair)))
    assert set(found["effect"]) == {"class"}
    other = found[found["variant"] != "base"]
    assert other["change"].to_numpy() == pytest.approx(-1.0, abs=0.2)


def test_a_variant_that_takes_the_class_effect_away_is_told_in_the_answer() -> None:
    def effect(arm) -> float:  # type: ignore[no-untyped-def]
        gain = {"base": 0.8, "slow": 0.8, "fast": -0.6}[arm.variant]
        return gain * (_described(arm)["bn_class"] == "bn_first")

    frame = runs(effect, seeds=10)
    (lost,) = otherwise.lost_under(otherwise.controls(RunTable(frame, Grid.of_runs(frame))))
    assert lost.variant == "fast" and lost.ci_high < 0 and lost.p < 0.05
    assert lost.change == pytest.approx(-1.4, abs=0.2)
    still = runs(lambda arm: 0.8 * (_described(arm)["bn_class"] == "bn_first"), seeds=10)
    assert otherwise.lost_under(otherwise.controls(RunTable(still, Grid.of_runs(still)))) == ()


def test_a_variant_that_is_only_less_certain_takes_nothing_away() -> None:
    row = {"dataset": "digits", "effect": "class", "variant": "base", "ci_low": 0.1, "ci_high": 0.5}
    row |= {"mean": 0.3, "change": np.nan, "change_low": np.nan, "change_high": np.nan}
    other = row | {"variant": "short", "ci_low": -0.05, "change": -0.1}
    for p, lost in ((0.4, 0), (0.01, 1)):
        found = pd.DataFrame([row | {"change_p_holm": np.nan}, other | {"change_p_holm": p}])
        assert len(otherwise.lost_under(found)) == lost


def test_a_study_of_one_variant_has_no_ladder() -> None:
    frame = runs()
    frame = frame[frame["variant"] == "base"].reset_index(drop=True)
    assert otherwise.controls(RunTable(frame, Grid.of_runs(frame))).empty


def test_a_changed_verdict_is_named_and_an_untested_one_has_not_changed() -> None:
    rows = [
        ("base", "A", "supported"),
        ("fast", "A", "inconclusive"),
        ("slow", "A", "not tested"),
        ("base", "B", "not tested"),
        ("fast", "B", "supported"),
        ("base", "C", "negligible"),
        ("fast", "C", "negligible"),
    ]
    found = otherwise.changed_verdicts(pd.DataFrame(rows, columns=["variant", "claim", "verdict"]))
    changed = found.set_index(["claim", "variant"])["changed"].to_dict()
    assert changed == {("A", "fast"): True, ("A", "slow"): False, ("C", "fast"): False}
    counts = otherwise.summary(found).set_index("variant")
    assert counts.loc["fast"].tolist() == [2, 1]
    assert counts.loc["slow"].tolist() == [0, 0]


def test_the_analysis_judges_the_choice_as_one_more_variant(tmp_path: Path) -> None:
    plan = study(tmp_path)
    (tmp_path / "study.yaml").write_text(plan.as_yaml(), encoding="utf-8")
    frame = runs(lambda arm: 0.0, seeds=3)
    frame.to_parquet(tmp_path / "runs.parquet")
    alone = tmp_path / "selection.csv"
    deciding = runs(lambda arm: 1.0 if arm.variant == "fast" else 0.0, seeds=2)
    deciding = deciding.assign(seed=deciding["seed"] + 100)
    deciding.to_parquet(tmp_path / "selection.parquet")
    deciding.to_csv(alone, index=False)
    inputs = load_inputs(
        tmp_path / "runs.parquet",
        study=tmp_path / "study.yaml",
        selection=tmp_path / "selection.parquet",
    )
    analyse(inputs, tmp_path / "out", resamples=0)
    tables = {
        name: pd.read_csv(tmp_path / "out" / f"{name}.csv")
        for name in ("controls", "by_variant", "choices", "arms")
    }
    assert tables["choices"].query("chosen")["variant"].tolist() == ["fast"] * 4
    ladder = tables["controls"].set_index(["variant", "contrast"])["mean"]
    chosen, fast = ladder["best_rate"], ladder["fast"]
    assert chosen.tolist() == pytest.approx(fast.tolist())
    assert "best_rate" in set(tables["by_variant"]["variant"])
    assert "best_rate" not in set(tables["arms"]["variant"]), "no run was trained twice"
    again = load_inputs(tmp_path / "runs.parquet", study=tmp_path / "study.yaml", selection=alone)
    assert again.choices.equals(inputs.choices)
    with pytest.raises(UserError, match="--selection is missing"):
        load_inputs(tmp_path / "runs.parquet", study=tmp_path / "study.yaml")
    deciding.drop(columns=["test_accuracy_pp", "test_correct"]).to_csv(alone, index=False)
    with pytest.raises(UserError, match="column 'test_accuracy_pp' is missing"):
        load_inputs(tmp_path / "runs.parquet", study=tmp_path / "study.yaml", selection=alone)


def test_the_table_of_runs_with_further_variants_is_a_table_of_runs(tmp_path: Path) -> None:
    frame = runs()
    more, grid = extended(frame, Grid.of_runs(frame), [("none", frame.iloc[:0])])
    assert grid.variant == (*VARIANTS, "none")
    more.to_parquet(tmp_path / "runs.parquet")
    assert len(read_runs(tmp_path / "runs.parquet")) == len(frame)
