"""From a table of runs to files: whole, strict, the same every time; and anyone's own table."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bnorder.errors import UserError
from bnorder.statistics.analysis import analyse, load_inputs
from bnorder.statistics.calibration import simulated_runs
from bnorder.statistics.survival import steps_to_thresholds
from bnorder.study import load_study
from bnorder.tables import read_runs
from tests.test_claims import one

REPOSITORY = Path(__file__).resolve().parents[1]
STUDY = REPOSITORY / "studies" / "article.yaml"
CLAIMS = REPOSITORY / "claims" / "article.yaml"
TABLES = [
    "arms",
    "pairwise",
    "class_cut",
    "class_cut_shares",
    "correlation",
    "by_variant",
    "paired",
    "survival",
    "survival_summary",
    "logrank",
    "bands",
]


def article_runs(seeds: int = 10) -> pd.DataFrame:
    study = load_study(STUDY)
    axes: dict[str, tuple[str | int, ...]] = {
        "dataset": study.datasets,
        "ordering": study.orderings,
        "activation": study.activations,
        "depth": study.depths,
    }
    return simulated_runs(
        axes,
        np.random.default_rng(3),
        seeds=seeds,
        effect=lambda arm: -0.5 * (arm.ordering == "conv-act"),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The article's study, simulated, analysed as the workflow does it."""
    folder = tmp_path_factory.mktemp("article")
    frame = article_runs()
    frame.to_parquet(folder / "runs.parquet")
    curves = pd.concat([frame.assign(step=s, epoch=s / 469) for s in (0, 469)])
    curves.to_parquet(folder / "curves.parquet")
    command = [sys.executable, "scripts/analyse.py", "--study", STUDY, "--claims", CLAIMS]
    command += ["--runs", folder / "runs.parquet", "--curves", folder / "curves.parquet"]
    run = subprocess.run(
        [*map(str, command), "--out", str(folder / "analysis")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / "printed.txt").write_text(run.stdout)
    return folder


def test_every_claim_has_its_verdict_and_every_table_is_there(finished: Path) -> None:
    document = json.loads((finished / "analysis" / "verdicts.json").read_text())
    verdicts = {v["id"]: v["verdict"] for v in document["verdicts"]}
    assert len(verdicts) == 18
    not_tested = {name for name, word in verdicts.items() if word == "not tested"}
    assert not_tested == {"T2", "T3", "T4", "T7", "T8"}
    assert verdicts["T1"] == "supported" and verdicts["E5"] == "supported"
    assert sum(document["tally"].values()) == 18
    assert document["runs"] == {
        "expected": 300,
        "present": 300,
        "n_missing": 0,
        "diverged": 0,
        "missing": [],
    }
    for name in TABLES:
        whole = pd.read_parquet(finished / "analysis" / f"{name}.parquet")
        assert len(whole) == len(pd.read_csv(finished / "analysis" / f"{name}.csv"))
        assert len(whole) or name == "by_variant"
    model = json.loads((finished / "analysis" / "mixed_model.json").read_text())
    assert model["converged"] and model["n_runs"] == 240
    assert not list((finished / "analysis").glob(".*"))
    assert "T5" in (finished / "printed.txt").read_text()


def test_a_part_carries_all_numbers_behind_it(finished: Path) -> None:
    document = json.loads((finished / "analysis" / "verdicts.json").read_text())
    part = next(v for v in document["verdicts"] if v["id"] == "T5")["parts"][0]
    values = np.array(part["values"])
    assert len(values) == part["n"] == 10
    assert part["mean"] == pytest.approx(values.mean())
    assert part["sd"] == pytest.approx(values.std(ddof=1))
    assert part["ci_low"] <= part["tost_low"] <= part["mean"] <= part["tost_high"]
    assert sum(side["weight"] for side in part["plus"]) == pytest.approx(1)
    for key in ("p", "t_p", "wilcoxon_p", "tost_p", "g_av", "smallest_detectable"):
        assert isinstance(part[key], float), key
    rows = pd.read_parquet(finished / "analysis" / "paired.parquet").query("claim == 'T5'")
    assert rows["value"].tolist() == pytest.approx(values.tolist())


def test_t5_is_the_mean_over_cells_of_the_class_difference(finished: Path) -> None:
    frame = pd.read_parquet(finished / "runs.parquet")
    sides = frame[frame.bn_class != "none"].groupby(["bn_class", "seed"])["test_accuracy_pp"].mean()
    expected = (sides["bn_first"] - sides["act_first"]).to_numpy()
    document = json.loads((finished / "analysis" / "verdicts.json").read_text())
    part = next(v for v in document["verdicts"] if v["id"] == "T5")["parts"][0]
    assert part["values"] == pytest.approx(expected.tolist(), abs=1e-9)


def test_the_same_table_gives_the_same_bytes_in_any_row_order(
    finished: Path, tmp_path: Path
) -> None:
    frame = pd.read_parquet(finished / "runs.parquet").sample(frac=1, random_state=0)
    frame.to_parquet(tmp_path / "runs.parquet")
    analyse(load_inputs(tmp_path / "runs.parquet", CLAIMS, STUDY), tmp_path, explore=False)
    one, two = (
        json.loads((folder / "verdicts.json").read_text())
        for folder in (tmp_path, finished / "analysis")
    )
    assert one["verdicts"] == two["verdicts"] and one["answer"] == two["answer"]


def test_missing_runs_are_named_and_their_claims_not_tested(tmp_path: Path) -> None:
    frame = article_runs()
    gone = (frame.ordering == "conv-bn-act") & (frame.activation == "relu") & (frame.seed == 4)
    frame[~gone].to_parquet(tmp_path / "runs.parquet")
    inputs = load_inputs(tmp_path / "runs.parquet", CLAIMS, STUDY)
    words = {v.claim.id: v.verdict for v in analyse(inputs, tmp_path / "a", explore=False)}
    for name in ("E1", "E4", "E5", "E6", "T1", "T5", "T6"):
        assert words[name] == "not tested"
    for name in ("E2", "E3", "E7", "E8", "E9a", "E9b"):
        assert words[name] != "not tested"
    document = json.loads((tmp_path / "a" / "verdicts.json").read_text())
    assert document["runs"]["missing"] == [
        "mnist.conv-bn-act.relu.d2.base.s4",
        "mnist.conv-bn-act.relu.d5.base.s4",
    ]
    assert any("Runs missing: 2 of 300;" in line for line in document["caveats"])


def test_a_run_that_is_not_of_the_study_is_refused(tmp_path: Path) -> None:
    article_runs(seeds=11).to_parquet(tmp_path / "runs.parquet")
    with pytest.raises(UserError, match=r"row 11, column seed: .*10.* is not in the study article"):
        load_inputs(tmp_path / "runs.parquet", CLAIMS, STUDY)


def test_the_workflow_s_own_runs_are_analysed_as_csv_too(tmp_path: Path) -> None:
    runs = article_runs().assign(wall_seconds=1.25, images_per_second=3000.5)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    analyse(load_inputs(tmp_path / "runs.csv", CLAIMS, STUDY), tmp_path / "analysis")
    facts = json.loads((tmp_path / "analysis" / "facts.json").read_text())
    assert facts["cost"]["seconds"] == pytest.approx(1.25 * len(runs))


# --- bring your own -----------------------------------------------------------------------------

MINE = """ordering,seed,test_accuracy_pp,note
bn-act-conv,0,79.1,a
bn-act-conv,1,79.4,
bn-act-conv,2,78.9,
bn-act-conv,3,79.3,
bn-act-conv,4,79.0,
bn-act-conv,5,79.2,
act-bn-conv,0,78.1,
act-bn-conv,1,78.5,
act-bn-conv,2,77.8,
act-bn-conv,3,78.4,
act-bn-conv,4,78.2,
act-bn-conv,5,78.0,
"""


def bring(folder: Path, text: str = MINE, *claims: dict[str, object]) -> tuple[Path, Path]:
    runs, mine = folder / "mine.csv", folder / "mine.yaml"
    runs.write_text(text, encoding="utf-8")
    mine.write_text(yaml.safe_dump({"claims": list(claims) or [one()]}), encoding="utf-8")
    return runs, mine


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / "analyse.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_anyones_table_gets_verdicts_without_a_study(tmp_path: Path) -> None:
    runs, claims = bring(tmp_path)
    done = script("--runs", runs, "--claims", claims)
    assert done.returncode == 0, done.stderr
    assert "A1  supported" in done.stdout
    assert (tmp_path / "analysis" / "verdicts.json").exists()


def test_what_is_not_tested_says_why(tmp_path: Path) -> None:
    claim = one()
    claim["sentence"] = "Depth decides."
    runs, claims = bring(tmp_path, MINE.replace("act-bn-conv", "conv-bn-act"), claim)
    done = script("--runs", runs, "--claims", claims)
    assert re.search(
        r"^A1  not tested    Depth decides\. \(.*the study has no .*\)$", done.stdout, re.M
    ), done.stdout


def test_a_user_mistake_is_one_line_and_status_2(tmp_path: Path) -> None:
    runs, claims = bring(tmp_path, MINE.replace("78.9", "high"))
    done = script("--runs", runs, "--claims", claims)
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "row 3, column test_accuracy_pp: 'high'; expected a number" in done.stderr
    assert not (tmp_path / "analysis").exists()


BAD_TABLES = {
    "fractions": (
        MINE.replace("79.", "0.79").replace("78.", "0.78").replace("77.", "0.77"),
        "row 1, column test_accuracy_pp: .* look like fractions",
    ),
    "above 100": (MINE.replace("78.9", "789"), "row 3, column test_accuracy_pp: 789; expected"),
    "seed not whole": (MINE.replace("bn-act-conv,2,", "bn-act-conv,2.5,", 1), "row 3, column seed"),
    "empty ordering": (MINE.replace("bn-act-conv,1", ",1", 1), "row 2, column ordering: empty"),
    "the same run twice": (MINE + "act-bn-conv,5,78.0,\n", "row 13, column seed: .* as row 12"),
    "no seed column": (MINE.replace("seed", "run", 1), "column 'seed' is missing; the columns are"),
    "no rows": (MINE.splitlines()[0] + "\n", "it has no rows"),
    "nothing": ("", "cannot be read as csv"),
    "ragged": (MINE + "a,1,2,3,4,5,6\n", "cannot be read as csv"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_wrong_table_is_one_line_with_row_and_column(case: str, tmp_path: Path) -> None:
    text, expected = BAD_TABLES[case]
    runs, claims = bring(tmp_path, text)
    with pytest.raises(UserError, match=expected) as caught:
        load_inputs(runs, claims)
    assert "mine.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_counts_that_disagree_with_the_accuracy_are_refused(tmp_path: Path) -> None:
    head, *rows = MINE.strip().splitlines()
    counted = [f"{row},1000,{791 if i == 0 else 700}" for i, row in enumerate(rows)]
    text = "\n".join([head + ",n_test,test_correct", *counted]) + "\n"
    runs, _ = bring(tmp_path, text)
    with pytest.raises(UserError, match="row 2, column test_accuracy_pp: 79.4; expected 100"):
        read_runs(runs)


def test_counts_alone_are_enough(tmp_path: Path) -> None:
    text = "ordering,seed,n_test,test_correct\nbn-act-conv,0,360,350\nact-bn-conv,0,360,351\n"
    runs, _ = bring(tmp_path, text)
    assert read_runs(runs)["test_accuracy_pp"].tolist() == pytest.approx([97.2222, 97.5], abs=1e-4)


ODD = {
    "no threshold": ("steps,steps_to_converge", "100,40"),
    "no threads": ("threads", ""),
    "no counts": ("running_loss_pp", "0.5"),
    "no steps": ("steps", ""),
}


def with_columns(names: str, values: str) -> str:
    head, *rows = MINE.replace("note", "device").strip().splitlines()
    lines = [f"{head},wall_seconds,{names}", *(f"{row},1.5,{values}" for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", ODD)
def test_odd_columns_and_blanks_are_no_obstacle(case: str, tmp_path: Path) -> None:
    runs, claims = bring(tmp_path, with_columns(*ODD[case]))
    verdicts = analyse(load_inputs(runs, claims), tmp_path / "a")
    assert [v.verdict for v in verdicts] == ["supported"]
    assert pd.read_csv(tmp_path / "a" / "survival.csv").empty
    cost = json.loads((tmp_path / "a" / "facts.json").read_text())["cost"]
    assert cost["seconds"] == 18 and "watt_hours" not in cost


def test_a_claim_may_name_steps_to_what_is_no_threshold(tmp_path: Path) -> None:
    text = with_columns(*ODD["no threshold"])
    runs, claims = bring(tmp_path, text, one(measure="steps_to_converge"))
    assert analyse(load_inputs(runs, claims), tmp_path / "a")[0].verdict == "inconclusive"


@pytest.mark.parametrize("steps", ["", "50"])
def test_a_measure_of_a_later_step_than_any_is_not_tested(steps: str, tmp_path: Path) -> None:
    text = with_columns("steps,gradient_slope@100", f"{steps},")
    runs, claims = bring(tmp_path, text, one(measure="gradient_slope@100"))
    verdict = analyse(load_inputs(runs, claims), tmp_path / "a", explore=False)[0]
    assert verdict.verdict == "not tested"
    assert ("a run has 50;" in verdict.reason) == bool(steps)


def test_tables_are_read_without_the_statistics_that_read_them() -> None:
    program = "import sys, bnorder.tables; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "bnorder.tables" in done.stdout and "bnorder.statistics" not in done.stdout


def test_numbers_of_a_csv_are_compared_as_numbers(tmp_path: Path) -> None:
    text = "ordering,seed,test_accuracy_pp,steps,steps_to_97,threads,n_train,parameters\n"
    text += "bn-act-conv,0,90,90,,2,60000,12000\nbn-act-conv,1,90,1000,,2,60000,12000\n"
    runs, claims = bring(tmp_path, text)
    analyse(load_inputs(runs, claims), tmp_path / "a")
    facts = json.loads((tmp_path / "a" / "facts.json").read_text())
    assert facts["made_by"]["threads"] == ["2"]
    assert facts["training_images"] == {"data": 60000}
    assert list(facts["parameters"].values()) == [12000]
    read = steps_to_thresholds(read_runs(runs))
    assert read["step"].tolist() == [1000, 1000]


def test_an_empty_accuracy_is_not_tested_never_left_out(tmp_path: Path) -> None:
    runs, claims = bring(tmp_path, MINE.replace("78.9", ""))
    verdict = analyse(load_inputs(runs, claims), tmp_path / "a", explore=False)[0]
    assert verdict.verdict == "not tested"
    assert "runs that it needs have no finite test_accuracy_pp, 1 of 12" in verdict.reason


def test_missing_files_and_arguments_say_what_to_do(tmp_path: Path) -> None:
    runs, claims = bring(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        load_inputs(tmp_path / "none.csv", claims)
    with pytest.raises(UserError, match="no such file"):
        load_inputs(runs, tmp_path / "none.yaml")
    with pytest.raises(UserError, match="--claims is missing"):
        load_inputs(runs)
    with pytest.raises(UserError, match=r"expected a \.csv or a \.parquet"):
        read_runs(tmp_path / "runs.txt")


def test_nothing_half_written_replaces_an_older_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnorder.statistics import analysis

    old = tmp_path / "verdicts.json"
    old.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        analysis.write_json({"a": 1}, old)
    assert old.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["verdicts.json"]


def test_help_is_quick_and_needs_no_table() -> None:
    done = script("--help")
    assert done.returncode == 0 and "--claims" in done.stdout


def test_the_worked_example_of_the_documentation_is_what_comes_out(tmp_path: Path) -> None:
    examples = REPOSITORY / "docs" / "examples"
    inputs = load_inputs(examples / "published_runs.csv", examples / "published_claims.yaml")
    verdicts = analyse(inputs, tmp_path)
    page = (REPOSITORY / "docs" / "verdicts.md").read_text(encoding="utf-8")
    for v in json.loads((tmp_path / "verdicts.json").read_text(encoding="utf-8"))["verdicts"]:
        assert v["text"] in page
    assert [v.verdict for v in verdicts] == ["supported", "inconclusive"]


def test_the_published_runs_have_the_means_and_spreads_that_the_notebook_prints() -> None:
    frame = read_runs(REPOSITORY / "docs" / "examples" / "published_runs.csv")
    halves = frame.groupby(["ordering", "activation", frame["seed"] // 5])["test_accuracy_pp"]
    shown = [(round(h.mean(), 2), round(h.std(ddof=0), 2)) for _, h in halves]
    assert shown == [
        (81.73, 0.92),  # Conv-LeakyReLU-BN
        (80.83, 0.64),
        (80.91, 0.77),  # Conv-ReLU-BN
        (80.71, 0.65),
        (75.54, 2.28),  # Conv-BN-ReLU
        (78.74, 1.64),
    ]
