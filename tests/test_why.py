"""Why: probes beside claims, over training and depth, and whether they go with accuracy."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_study import FULL, make_study, rendered

from bnorder.claims import Claim, Part, Term, load_claims
from bnorder.errors import UserError
from bnorder.language.english import ENGLISH
from bnorder.report import lenses
from bnorder.statistics import why
from bnorder.statistics.calibration import simulated_runs
from bnorder.statistics.contrasts import Grid, RunTable
from bnorder.statistics.verdicts import judge
from bnorder.study import load_study

ORDERS = ("bn-act-conv", "conv-bn-act", "act-bn-conv", "conv-act-bn")
ACT_FIRST = ("act-bn-conv", "conv-act-bn")
SEEDS = 6


def runs(effect=lambda arm: 0.0) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    axes: dict[str, tuple[str | int, ...]] = {
        "dataset": ("mnist",),
        "ordering": ORDERS,
        "activation": ("relu",),
        "depth": (2, 5),
    }
    frame = simulated_runs(axes, np.random.default_rng(5), seeds=SEEDS, effect=effect)
    names = [f"{o}.d{d}.s{s}" for o, d, s in frame[["ordering", "depth", "seed"]].to_numpy()]
    return frame.assign(run=names)


def probes(frame: pd.DataFrame, slope) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    """Readings at steps 0, 100 and 200: slopes, and gradient norms of two layers."""
    rows = []
    for row in frame.to_dict("records"):
        about = {k: row[k] for k in ("run", *why.AXES, "seed", "variant")}
        for step in (0, 100, 200):
            value = slope(row, step) + 1e-3 * row["seed"]
            rows.append(about | _reading(step, 0, "gradient_slope", value))
            for layer in (1, 2):
                size = 10.0 ** (row["seed"] - layer)
                rows.append(about | _reading(step, layer, "activation_gradient_norm", size))
    return pd.DataFrame(rows)


def _reading(step: int, layer: int, probe: str, value: float) -> dict[str, object]:
    return {"step": step, "layer": layer, "probe": probe, "value": value}


def claim(measure: str = "gradient_slope@0", sign: int = 1) -> Claim:
    """T3: the activation first has the greater slope (or BN first the higher accuracy)."""
    terms = (
        Term(Fraction(sign), {"bn_class": ("act_first",)}),
        Term(Fraction(-sign), {"bn_class": ("bn_first",)}),
    )
    part = Part("", measure, None, None, terms)
    return Claim("T3", "theory", "me", "So.", "a", "direction", False, (part,), "gradient_slope")


def tables(
    tmp_path: Path, frame: pd.DataFrame, readings: pd.DataFrame, *claims: Claim
) -> dict[str, pd.DataFrame]:
    readings.to_parquet(tmp_path / "probes.parquet")
    return why.tables(tmp_path / "probes.parquet", frame, Grid.of_runs(frame), claims)


def worse_in_act_first(row: dict[str, object], step: int) -> float:
    rank = ORDERS.index(str(row["ordering"]))
    return 1.0 + 0.1 * rank if row["ordering"] in ACT_FIRST else 0.5 + 0.1 * rank


@pytest.mark.parametrize(("measure", "sign"), [("gradient_slope@0", 1), ("test_accuracy_pp", -1)])
def test_premise_consequence_and_correlation_of_a_story_that_holds(
    measure: str, sign: int, tmp_path: Path
) -> None:
    """A claim on a probe and one on accuracy that say the same come to the same row."""
    frame = runs(lambda arm: -0.5 * ORDERS.index(arm.ordering))
    found = tables(tmp_path, frame, probes(frame, worse_in_act_first), claim(measure, sign))["why"]
    assert found["moment"].tolist() == ["start", "early", "end"]
    for row in found.to_dict("records"):
        assert row["premise"] == pytest.approx(0.7)
        assert row["consequence"] == pytest.approx(1.0, abs=0.2)
        assert row["correlation"] < -0.9
        words = [row[f"{name}_word"] for name in why.PARTS]
        assert words == ["yes", "yes", "yes"]
        assert (row["n"], row["arms"]) == (SEEDS, 8)


def test_a_premise_that_holds_without_its_consequence_says_both(tmp_path: Path) -> None:
    frame = runs(lambda arm: 0.5 * ORDERS.index(arm.ordering))
    row = tables(tmp_path, frame, probes(frame, worse_in_act_first), claim())["why"].iloc[0]
    assert (row["premise_word"], row["consequence_word"]) == ("yes", "no")
    assert row["correlation"] > 0.9
    assert row["correlation_word"] == "no"


def test_a_probe_that_changes_sides_is_read_at_each_moment(tmp_path: Path) -> None:
    def turning(row: dict[str, object], step: int) -> float:
        return 2 + (1 if row["ordering"] in ACT_FIRST else -1) * (1 if step < 100 else -1)

    frame = runs()
    found = tables(tmp_path, frame, probes(frame, turning), claim())["why"]
    assert found["premise"].tolist() == pytest.approx([2, -2, -2])
    assert found["premise_word"].tolist() == ["yes", "no", "no"]


def test_correlation_is_within_cells_so_depth_alone_makes_none(tmp_path: Path) -> None:
    """Deeper nets have a worse probe and a better accuracy; the orders differ in neither."""
    frame = runs(lambda arm: 0.3 * arm.depth)
    frame["gradient_slope@start"] = frame["depth"] * 1.0 + np.random.default_rng(1).normal(
        0, 0.01, len(frame)
    )
    table = RunTable(frame, Grid.of_runs(frame))
    found = why.correlations(table, list(table.index.values()), "gradient_slope@start")
    assert abs(found.mean()) < 0.5
    frame["gradient_slope@start"] = 1.0
    table = RunTable(frame, Grid.of_runs(frame))
    assert np.isnan(
        why.correlations(table, list(table.index.values()), "gradient_slope@start")
    ).all()


def test_over_depth_norms_are_averaged_as_logarithms(tmp_path: Path) -> None:
    frame = runs()
    found = tables(tmp_path, frame, probes(frame, worse_in_act_first), claim())
    first = found["probe_layers"].query("layer == 1 and moment == 'start'").iloc[0]
    assert first["mean"] == pytest.approx(10 ** (np.arange(SEEDS).mean() - 1))
    assert first["ci_low"] * first["ci_high"] == pytest.approx(first["mean"] ** 2)
    steps = found["probe_steps"]
    assert sorted(set(steps["step"])) == [0, 100, 200]
    arm = steps.query("ordering == 'act-bn-conv' and depth == 2 and step == 100").iloc[0]
    assert arm["mean"] == pytest.approx(1.2 + 1e-3 * np.arange(SEEDS).mean())
    assert arm["n"] == SEEDS


def test_a_run_that_lacks_the_probe_leaves_the_story_untold(tmp_path: Path) -> None:
    frame = runs()
    readings = probes(frame, worse_in_act_first)
    one = readings["run"] == frame["run"].iloc[0]
    found = tables(tmp_path, frame, readings[~one], claim())
    assert found["why"].empty
    assert found["probe_steps"].query("depth == 2")["n"].min() == SEEDS - 1


def test_only_the_base_recipe_is_read(tmp_path: Path) -> None:
    frame = runs()
    readings = probes(frame, worse_in_act_first)
    other = readings.assign(variant="wide", value=99.0, run=readings["run"] + ".wide")
    found = tables(tmp_path, frame, pd.concat([readings, other]), claim())
    assert found["probe_steps"]["mean"].max() < 2


@pytest.mark.parametrize(
    ("measure", "ordering", "steps", "said"),
    [
        ("bn_input_mean_cv", "conv-act", 200, "is read at BN, and Conv-act has none"),
        ("running_loss_pp", "conv-act", 200, "is read at BN, and Conv-act has none"),
        ("gradient_slope@100", "bn-act-conv", 40, "is read after 100 steps, and a run has 40"),
        ("gradient_slope@100", "bn-act-conv", 200, "have no finite gradient_slope@100"),
    ],
)
def test_a_probe_that_does_not_apply_is_named_in_one_line(
    measure: str, ordering: str, steps: int, said: str
) -> None:
    frame = runs().assign(steps=steps, **{measure: 1.0})
    frame["ordering"] = frame["ordering"].replace("bn-act-conv", ordering)
    frame.loc[frame["ordering"] == ordering, measure] = np.nan
    terms = (
        Term(Fraction(1), {"ordering": (ordering,)}),
        Term(Fraction(-1), {"ordering": ("act-bn-conv",)}),
    )
    part = Part("", measure, None, None, terms)
    asked = Claim("A", "f", "me", "So.", "a", "direction", False, (part,))
    (found,) = judge([asked], RunTable(frame, Grid.of_runs(frame)), resamples=0)
    assert found.verdict == "not tested"
    assert said in found.reason
    assert "\n" not in found.reason


def test_without_probes_the_tables_are_empty_but_of_their_kinds() -> None:
    found = why.tables(None, runs(), Grid.of_runs(runs()), [claim()])
    assert all(frame.empty for frame in found.values())
    assert found["why"]["premise"].dtype == float
    assert list(found["why"]) == why.WHY


def test_probes_of_a_csv_say_what_those_of_a_parquet_file_say(tmp_path: Path) -> None:
    readings = probes(runs(), worse_in_act_first)
    found = tables(tmp_path, runs(), readings, claim())
    readings.to_csv(tmp_path / "probes.csv", index=False)
    again = why.tables(tmp_path / "probes.csv", runs(), Grid.of_runs(runs()), [claim()])
    for name, frame in found.items():
        pd.testing.assert_frame_equal(frame, again[name])


BAD_READINGS = {
    "layer": ("", "row 3, column layer: ''; expected a whole number"),
    "value": ("big", "row 3, column value: 'big'; expected a number"),
    "seed": ("x", "row 3, column seed: 'x'; expected a number"),
    "ordering": ("", "row 3, column ordering: empty; expected a name"),
    "run": ("bn-act-conv.d2.s1", "row 10, column run: 'bn-act-conv.d2.s1' is another run's name"),
    "probe": (None, "column 'probe' is missing; the columns are run"),
}


@pytest.mark.parametrize("column", BAD_READINGS)
def test_a_bad_table_of_probes_is_one_line_with_row_and_column(column: str, tmp_path: Path) -> None:
    value, said = BAD_READINGS[column]
    readings = probes(runs(), worse_in_act_first).astype(object)
    if value is None:
        readings = readings.drop(columns=column)
    else:
        readings.loc[2, column] = value
    readings.to_csv(tmp_path / "probes.csv", index=False)
    with pytest.raises(UserError, match=re.escape(said)):
        why.tables(tmp_path / "probes.csv", runs(), Grid.of_runs(runs()), [claim()])


def test_every_probe_that_a_claim_may_name_has_its_lens_and_words() -> None:
    from bnorder.claims import claims_schema
    from bnorder.language.english import ENGLISH
    from bnorder.report.lenses import probe_words

    named = claims_schema()["$defs"]["claim"]["properties"]["probe"]["enum"]
    assert set(named) == set(why.LENSES)
    for probe in [*named, *(lens.layers for lens in why.LENSES.values() if lens.layers)]:
        assert probe_words(probe, ENGLISH)
    read = {c.probe for c in load_claims("claims/article.yaml").claims} - {""}
    assert read <= set(why.LENSES)


def test_the_report_tells_each_story_with_its_numbers_and_pictures(tmp_path: Path) -> None:
    from bnorder.statistics.analysis import analyse, load_inputs

    raw = FULL | {"depths": [2, 5], "activations": ["relu"], "thresholds": [97]}
    folder = make_study(tmp_path / "probed", raw, explore=False)
    frame = pd.read_parquet(folder / "tables" / "runs.parquet")
    with_bn = frame[frame["bn_class"] != "none"]
    readings = probes(with_bn, worse_like_the_class)
    readings.to_parquet(folder / "tables" / "probes.parquet")
    inputs = load_inputs(folder / "tables" / "runs.parquet", study=folder / "study.yaml")
    analyse(inputs, folder / "analysis", probes=folder / "tables" / "probes.parquet", resamples=20)
    html = (rendered(folder) / "report" / "report.html").read_text(encoding="utf-8")
    section = html[html.index('<h2 id="why">') :]
    section = section[: section.index("</section>")]
    assert 'id="why-T3"' in section
    assert "The premise holds" in section
    assert re.search(r'data-src="analysis/why\.parquet#\d+/premise"', section)
    assert 'id="fig-why-training-gradient-slope"' in section
    assert 'id="fig-why-depth-activation-gradient-norm"' in section
    assert load_study(folder / "study.yaml").seeds


def test_an_interaction_calls_no_arm_worse() -> None:
    words = {"premise_word": "yes", "consequence_word": "yes", "correlation_word": "open"}
    row = {"part": "", **words}
    (told,) = lenses._told([row], "interaction", ENGLISH)
    assert "the gap in accuracy moves as the claim has it" in told and "worse" not in told
    (told,) = lenses._told([row], "direction", ENGLISH)
    assert "they have the lower accuracy" in told
    assert told.endswith("that it explains the difference is not shown.")


def worse_like_the_class(row: dict[str, object], step: int) -> float:
    return 1.0 if row["bn_class"] == "act_first" else 0.5
