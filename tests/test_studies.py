"""The studies of the repository: what each says that it costs, and its small version, run whole."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY

from bnorder.study import load_study

NEW = ("mechanism", "sanity", "datasets", "controls")
DIGITS = ("mechanism_digits", "sanity_digits", "controls_digits")  # small as they are
AGAIN = ("replication", "fashion", "fashion_pixels", "fashion_unit")
PARTS = {  # part: whole
    "mechanism_relu": "mechanism",
    "controls_rate": "controls",
    "controls_stride": "controls",
    "controls_pixels": "controls",
    "datasets_fashion": "datasets",
}


def head(name: str) -> str:
    """The comment at the top of a study's file, as one line."""
    text = (REPOSITORY / f"studies/{name}.yaml").read_text(encoding="utf-8")
    lines = text[: text.index(f"name: {name}")].splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines)


@pytest.mark.parametrize("name", [*NEW, *DIGITS, *PARTS, *AGAIN])
def test_a_study_says_its_cost_and_how_to_run_it_small(name: str) -> None:
    said = re.search(
        r"Cost: ([\d,]+) runs\b.*?, ([\d.]+) core-hours \(python (\S+) (\S+?)\b", head(name)
    )
    assert said, "no line such as: Cost: 1,680 runs on MNIST, 26 core-hours (python …)"
    study = load_study(REPOSITORY / f"studies/{name}.yaml")
    expected = sum(len(part.runs()) for part in study.parts())
    assert int(said[1].replace(",", "")) == expected
    assert float(said[2]) > 0
    assert (REPOSITORY / said[3]).is_file()
    if name in NEW:
        assert small_version(name)[:2] == ["report", f"STUDY={name}"]


@pytest.mark.parametrize(("part", "whole"), PARTS.items())
def test_the_runs_of_a_part_are_runs_of_the_whole(part: str, whole: str) -> None:
    few, all_ = (load_study(REPOSITORY / f"studies/{name}.yaml") for name in (part, whole))
    known = {run.id: all_.config_hash(run.arm) for p in all_.parts() for run in p.runs()}
    own = {run.id: few.config_hash(run.arm) for p in few.parts() for run in p.runs()}
    assert own.items() < known.items()


def test_the_replication_is_the_article_with_other_seeds() -> None:
    first, again = (
        load_study(REPOSITORY / f"studies/{n}.yaml") for n in ("article", "replication")
    )
    assert [arm.id for arm in again.arms()] == [arm.id for arm in first.arms()]
    assert [*map(again.config_hash, again.arms())] == [*map(first.config_hash, first.arms())]
    assert again.seeds == tuple(range(10, 20))
    assert set(again.seeds).isdisjoint(first.seeds)
    assert again.thresholds == first.thresholds


def test_the_two_data_sets_are_those_of_the_article_and_of_fashion() -> None:
    article, fashion, both = (
        load_study(REPOSITORY / f"studies/{n}.yaml")
        for n in ("article", "fashion", "datasets_fashion")
    )
    assert fashion.recipe == article.recipe
    known = {r.id: s.config_hash(r.arm) for s in (article, fashion) for r in s.runs()}
    own = {run.id: both.config_hash(run.arm) for run in both.runs()}
    assert own.items() < known.items()


def small_version(name: str) -> list[str]:
    """The words after `make` of the study's small version, as its file has them."""
    found = re.search(
        r"Small version: make (report STUDY=\w+(?: [A-Z_]+=(?:\{.*?\}|\S+))+)", head(name)
    )
    assert found, f"studies/{name}.yaml names no small version"
    return re.findall(r"[A-Z_]+=\{.*?\}|\S+", found[1])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: two classes of 40 images each, dark and light."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(80):
        shade = 60 if number % 2 else 160
        pixels = rng.integers(shade, shade + 60, size=(20, 30, 3), dtype=np.uint8)
        file = folder / ("light", "dark")[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(file)
    return folder


def run_small(name: str, project: Path, environment: dict[str, str], images: Path) -> Path:
    """Run a study's small version as its file has it; gives its results folder."""
    words = [word.replace("folder:PATH", f"folder:{images}") for word in small_version(name)]
    command = ["make", *words, "CORES=2"]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    (report,) = re.findall(rf"results/{name}\S*/report/report\.html", done.stdout + done.stderr)[:1]
    return project / report.removesuffix("/report/report.html")


def verdicts(results: Path) -> dict[str, str]:
    found = json.loads((results / "analysis" / "verdicts.json").read_text(encoding="utf-8"))
    return {v["id"]: v["verdict"] for v in found["verdicts"]}


def section(results: Path, name: str) -> str:
    html = (results / "report" / "report.html").read_text(encoding="utf-8")
    start = html.find(f'<h2 id="{name}">')
    return html[start : html.index("</section>", start)] if start >= 0 else ""


def test_the_small_mechanism_is_probed_explained_and_shown(
    project: Path, environment: dict[str, str], images: Path
) -> None:
    results = run_small("mechanism", project, environment, images)
    told = pd.read_csv(results / "analysis" / "why.csv")
    assert {"T1", "T2", "T3", "T4"} <= set(told["claim"])
    assert set(told["moment"]) == {"start", "end"}, "it ends before 100 steps"
    why = section(results, "why")
    assert 'id="why-T3"' in why
    assert "fig-why-depth-activation-gradient-norm" in why
    ladder = pd.read_csv(results / "analysis" / "controls.csv")
    assert {"base", "recomputed_statistics"} == set(ladder["variant"])
    assert verdicts(results)["T2"] == "not tested", "no run has 100 steps"


def test_the_small_controls_climb_the_whole_ladder(
    project: Path, environment: dict[str, str], images: Path
) -> None:
    results = run_small("controls", project, environment, images)
    study = load_study(REPOSITORY / "studies/controls.yaml")
    ladder = pd.read_csv(results / "analysis" / "controls.csv")
    assert set(ladder["variant"]) == {*study.variants, "best_rate"}
    assert ladder["mean"].notna().all()
    choices = pd.read_csv(results / "analysis" / "choices.csv")
    assert choices.groupby("ordering")["chosen"].sum().eq(1).all()
    deciding = pd.read_csv(results / "tables" / "selection.csv")
    judged = pd.read_csv(results / "tables" / "runs.csv")
    assert set(deciding["n_test"]) == {200}
    assert set(deciding["seed"]).isdisjoint(judged["seed"])
    otherwise = section(results, "otherwise")
    assert "What each order chose" in otherwise
    assert "learning rate = 0.01" in re.sub(r"<[^>]+>", "", otherwise).lower()
    assert "fig-controls" in otherwise


def test_the_small_datasets_cross_orders_with_a_users_own_images(
    project: Path, environment: dict[str, str], images: Path
) -> None:
    results = run_small("datasets", project, environment, images)
    runs = pd.read_csv(results / "tables" / "runs.csv")
    assert set(runs["dataset"]) == {"digits", f"folder:{images}"}
    assert verdicts(results)["T8"] == "inconclusive", "with two seeds nothing else can be"
    html = (results / "report" / "report.html").read_text(encoding="utf-8")
    assert f"the images of {images.name}" in html


def test_the_small_sanity_gives_the_same_counts_wherever_the_network_is_the_same(
    project: Path, environment: dict[str, str], images: Path
) -> None:
    """Without its activation an order is conv, BN or BN, conv: three orders each, to the image."""
    results = run_small("sanity", project, environment, images)
    runs = pd.read_csv(results / "tables" / "runs.csv")
    bare = {o: o.replace("act-", "").replace("-act", "") for o in runs["ordering"]}
    assert sorted(bare.values()) == ["bn-conv"] * 3 + ["conv-bn"] * 3
    same = runs.groupby([runs["ordering"].map(bare), "depth", "seed"])["test_correct"]
    assert (same.count() == 6).all(), "three orders, with the identity and with slope 1"
    assert (same.nunique() == 1).all()
    assert runs["test_correct"].nunique() > 1
    assert verdicts(results)["T5"] != "supported"
