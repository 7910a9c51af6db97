"""T8's kind of claim: does any difference along one axis change along another?"""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bnorder.claims import Claim, Part, Term, load_claims
from bnorder.errors import UserError
from bnorder.language.sentences import Writer
from bnorder.statistics import estimates as est
from bnorder.statistics.calibration import simulated_runs
from bnorder.statistics.contrasts import Grid, RunTable
from bnorder.statistics.verdicts import judge
from bnorder.study import Arm

FLIPS = est.flip_signs(8, np.random.default_rng(0))
ORDERS = ("bn-act-conv", "conv-bn-act", "act-bn-conv", "conv-act-bn")


def claim(*axes: str, margin: float | None = 0.2) -> Claim:
    term = Term(Fraction(1), {"bn_class": ("bn_first", "act_first")})
    part = Part("", "test_accuracy_pp", margin, None, (term,), axes)  # type: ignore[arg-type]
    return Claim("A", "f", "me", "It depends.", "a - b", "interaction", True, (part,))


def simulated(effect=lambda arm: 0.0, seed: int = 0, **more: object) -> RunTable:  # type: ignore[no-untyped-def]
    axes: dict[str, tuple[str | int, ...]] = {
        "dataset": ("mnist", "digits", "kmnist"),
        "ordering": ORDERS,
        "activation": ("relu",),
        "depth": (2, 5),
    }
    frame = simulated_runs(axes, np.random.default_rng(seed), seeds=8, effect=effect, **more)  # type: ignore[arg-type]
    return RunTable(frame, Grid.of_runs(frame))


def test_of_one_contrast_it_is_the_sign_flip_test() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.5, 1, size=(20, 8))
    found = est.largest_flip_p(values[None], FLIPS)
    assert found.tolist() == pytest.approx(est.sign_flip_p(values, FLIPS).tolist())


def test_it_rejects_a_true_null_as_often_as_it_says_and_sees_one_effect_among_many() -> None:
    """Twelve contrasts that share their noise and differ in spread, in 600 studies."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(12, 600, 8)) + rng.normal(size=(600, 8))
    noise *= np.linspace(0.1, 3, 12)[:, None, None]
    wrong = (est.largest_flip_p(noise, FLIPS) < 0.05).mean()
    assert 0.02 < wrong < 0.08
    noise[3] += 3 * noise[3].std()
    assert (est.largest_flip_p(noise, FLIPS) < 0.05).mean() > 0.9


def test_the_simultaneous_interval_holds_all_means_and_never_exceeds_bonferroni() -> None:
    from scipy import stats

    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        values = rng.normal(size=(10, 8)) + rng.normal(size=8)
        reach = est.simultaneous_t(values, FLIPS, 0.05)
        assert reach <= stats.t.isf(0.0025, 7) + 1e-9
        mean, error = est.mean_and_error(values)
        held += bool((np.abs(mean) <= reach * error).all())
    assert held / 300 > 0.9
    few = est.flip_signs(3, rng)
    three = rng.normal(size=(4, 3))
    assert est.simultaneous_t(three, few, 0.05) == pytest.approx(stats.t.isf(0.05 / 8, 2))


def test_an_interaction_with_a_data_set_that_is_not_the_first_is_found_and_named() -> None:
    def effect(arm: Arm) -> float:
        return 0.6 if (arm.ordering, arm.dataset) == ("act-bn-conv", "kmnist") else 0.0

    found = judge([claim("ordering", "dataset")], simulated(effect), resamples=50)[0]
    assert found.verdict == "supported"
    (estimate,) = found.estimates
    assert "act-BN-Conv" in estimate.name and "KMNIST" in estimate.name
    first, second = (
        estimate.by_dataset
    )  # the two orders' difference on each, which makes the change
    assert first.mean - second.mean == pytest.approx(estimate.mean)
    assert {first.dataset, second.dataset} > {"kmnist"}
    assert abs(estimate.mean) == pytest.approx(0.6, abs=0.2)
    assert estimate.ci_low * estimate.ci_high > 0
    assert estimate.name in Writer().text(found) or "0." in Writer().text(found)
    assert found.stability is not None
    assert found.stability.shares["supported"] > 0.9
    assert judge([claim("ordering", "depth")], simulated(effect), resamples=0)[0].verdict != (
        "supported"
    )


def test_every_run_that_was_compared_counts_where_runs_diverged() -> None:
    table = simulated(lambda arm: 0.6 * ((arm.ordering, arm.depth) == ("act-bn-conv", 2)))
    asked = claim("ordering", "dataset")
    (estimate,) = judge([asked], table, resamples=0)[0].estimates
    named = {*estimate.plus, *estimate.minus}
    other = next(arm for arm in table.index if arm.id not in named)
    cells = {"dataset": other.dataset, "ordering": other.ordering, "depth": other.depth}
    status = pd.concat([table.runs[axis] == value for axis, value in cells.items()], axis=1)
    frame = table.runs.assign(status=np.where(status.all(axis=1), "diverged", "finished"))
    assert judge([asked], RunTable(frame, table.grid), resamples=0)[0].diverged == 8


def test_a_difference_that_is_the_same_everywhere_is_no_interaction() -> None:
    def effect(arm: Arm) -> float:
        return (arm.ordering == "bn-act-conv") * 1.0 + (arm.dataset == "digits") * -5.0

    quiet = {"sd_run": 0.02, "sd_seed": 0.02, "n_test": 100_000}
    found = judge([claim("ordering", "dataset")], simulated(effect, **quiet), resamples=0)[0]
    assert found.verdict == "negligible", "every pair lies within the margin"
    open_ended = judge(
        [claim("ordering", "dataset", margin=None)], simulated(effect, **quiet), resamples=0
    )
    assert open_ended[0].verdict == "inconclusive"


def test_data_sets_with_other_numbers_of_test_images_can_be_crossed() -> None:
    table = simulated()
    frame = table.runs.copy()
    small = frame["dataset"] == "digits"
    frame.loc[small, "n_test"] = 540
    frame.loc[small, "test_correct"] = np.rint(frame.loc[small, "test_accuracy_pp"] * 5.4)
    frame["test_accuracy_pp"] = 100 * frame["test_correct"] / frame["n_test"]
    found = judge([claim("ordering", "dataset")], RunTable(frame, table.grid), resamples=0)[0]
    assert found.verdict == "inconclusive"
    assert found.estimates[0].seeds_to_settle is None or found.estimates[0].seeds_to_settle >= 8


def test_a_missing_run_is_named_and_no_pair_left_out() -> None:
    frame = simulated().runs.drop(index=0).reset_index(drop=True)
    found = judge([claim("ordering", "dataset")], RunTable(frame, Grid.of_runs(frame)), 0)[0]
    assert found.verdict == "not tested"
    assert "runs that it needs are missing, 1 of 192" in found.reason


BAD = {
    "a direction": ({"type": "direction"}, "expected type interaction and two_sided true"),
    "one side": ({"two_sided": False}, "crossed has no direction"),
    "terms as well": ({"terms": [{"weight": 1}, {"weight": -1}]}, "both crossed and terms"),
    "one axis": ({"crossed": ["dataset"]}, "crossed is"),
    "an unknown axis": ({"crossed": ["dataset", "width"]}, "crossed[1] is"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_crossing_is_one_line(case: str, tmp_path: Path) -> None:
    changes, expected = BAD[case]
    raw = {
        "id": "A",
        "family": "f",
        "who": "me",
        "sentence": "It depends.",
        "contrast": "a - b",
        "type": "interaction",
        "two_sided": True,
        "crossed": ["ordering", "dataset"],
    }
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [raw | changes]}), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_claims(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_stands_out_of_zeros() -> None:
    assert est.standing_out(np.zeros((2, 8))).tolist() == [0, 0]
    assert est.largest_flip_p(np.zeros((2, 1, 8)), FLIPS).tolist() == [1]
    assert pd.notna(est.simultaneous_t(np.zeros((2, 8)), FLIPS, 0.05))
