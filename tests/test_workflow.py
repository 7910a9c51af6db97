"""The workflow, run as people run it: a tiny study through real Snakemake to both reports."""

import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from conftest import REPOSITORY, copy_project
from PIL import Image
from rich.console import Console
from snakemake.cli import parse_config
from snakemake_interface_logger_plugins.common import LogEvent

from bnorder import workflow
from bnorder.errors import UserError
from bnorder.locks import hold_study
from bnorder.progress import show_time_left
from bnorder.study import dataset_slug
from bnorder.summary import summary

TINY = {
    "name": "tiny",
    "title": "A tiny study for the tests",
    "datasets": ["digits"],
    "orderings": ["bn-act-conv", "act-bn-conv"],
    "activations": ["relu"],
    "depths": [1, 2],
    "seeds": 2,
    "seeds_per_job": 2,
    "arms_per_job": 2,
    "recipe": {"epochs": 1, "train_images": 256, "width": 4},
    "thresholds": [20, 90],
}

SNAKEMAKE = (sys.executable, "-m", "snakemake")


@dataclass(frozen=True)
class Done:
    """What a command left: its exit status and all that it said."""

    status: int
    text: str

    def planned(self) -> dict[str, int]:
        """Rules and their numbers of jobs, as a dry run lists them; empty: nothing to be done."""
        if "Nothing to be done" in self.text:
            return {}
        table = self.text.split("Job stats:")[-1].split("\n\n")[0]
        counts = dict(re.findall(r"^(\w+) +(\d+)$", table, re.M))
        return {rule: int(n) for rule, n in counts.items() if rule not in ("all", "total")}


Runner = Callable[..., Done]


def write_study(project: Path, **changes: object) -> None:
    study = TINY | changes
    path = project / "studies" / f"{study['name']}.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")


@pytest.fixture(scope="module")
def run(project: Path, environment: dict[str, str]) -> Runner:
    """Runs a command in the copy of the project."""

    def start(*command: str, **variables: str) -> Done:
        done = subprocess.run(
            command,
            cwd=project,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    return start


@pytest.fixture(scope="module")
def make(run: Runner) -> Runner:
    return lambda *words, **variables: run("make", *words, **variables)


@pytest.fixture(scope="module")
def plan(run: Runner) -> Runner:
    """A dry run of plain Snakemake: what would run now?"""
    dry = (*SNAKEMAKE, "--dry-run", "--config")
    return lambda study="tiny", *words: run(*dry, f"study={study}", *words)


@pytest.fixture(scope="module")
def first(project: Path, make: Runner) -> Done:
    """The tiny study, run from nothing."""
    write_study(project)
    done = make("report", "STUDY=tiny", "CORES=2")
    assert done.status == 0, done.text
    return done


@pytest.fixture
def edit(project: Path):  # type: ignore[no-untyped-def]
    """Changes a file of the copy; puts it back afterwards, with its old time."""
    originals: dict[Path, tuple[bytes, os.stat_result]] = {}

    def change(name: str, alter: Callable[[str], str]) -> None:
        path = project / name
        originals.setdefault(path, (path.read_bytes(), path.stat()))
        path.write_text(alter(path.read_text(encoding="utf-8")), encoding="utf-8")

    yield change
    for path, (content, stat) in originals.items():
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# From a study to its reports


@pytest.mark.parametrize(
    "asked, left", [([], "limit None"), (["--max-jobs-per-timespan", "7/2s"], "limit 7 in 2")]
)
def test_the_scheduler_has_no_rate_limit_that_nobody_asked_for(
    asked: list[str], left: str, tmp_path: Path
) -> None:
    """The limit's timers wake it ever more often; real Snakemake says whether it has one."""
    (tmp_path / "Snakefile").write_text(f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from bnorder.workflow import lift_default_rate_limit
rule all:
    output: touch("done")
onstart:
    lift_default_rate_limit(workflow)
    limit = workflow.scheduler.job_rate_limiter
    print("limit", f"{{limit.max_jobs}} in {{limit.timespan:g}}" if limit else None)
""")
    assert "\n    lift_default_rate_limit(workflow)\n" in (REPOSITORY / "Snakefile").read_text()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *asked]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert left in done.stdout.splitlines()
    assert (tmp_path / "done").exists()


def test_make_report_ends_with_where_the_reports_are(first: Done, project: Path) -> None:
    last = first.text[first.text.rindex("steps (100%) done") :]
    for name in ("results/tiny/report/report.html", "results/tiny/report/report.pdf"):
        assert name in last
        assert (project / name).stat().st_size > 10_000


def test_html_report_stands_alone_and_holds_the_study(first: Done, project: Path) -> None:
    html = (project / "results/tiny/report/report.html").read_text(encoding="utf-8")
    assert "A tiny study for the tests" in html
    verdicts = json.loads((project / "results/tiny/analysis/verdicts.json").read_text())
    for claim in ("E2", "E7", "T5"):
        assert re.search(rf"\b{claim}\b", html)
        assert claim in json.dumps(verdicts)
    assert "<svg" in html
    loaded = re.findall(r"<(?:link|script|img|iframe)\b[^>]*\b(?:href|src)=[\"']?(?!data:|#)", html)
    assert not loaded, "the report loads something from outside"


def test_pdf_report_holds_the_study(first: Done, project: Path) -> None:
    from pypdf import PdfReader

    pdf = PdfReader(project / "results/tiny/report/report.pdf")
    text = " ".join(page.extract_text() for page in pdf.pages)
    assert "A tiny study for the tests" in " ".join(text.split())
    assert re.search(r"\bT5\b", text)
    assert pdf.trailer["/Root"]["/MarkInfo"]["/Marked"], "the PDF is not tagged"


def test_study_leaves_its_effective_study_records_logs_and_benchmarks(
    first: Done, project: Path
) -> None:
    results = project / "results/tiny"
    effective = yaml.safe_load((results / "study.yaml").read_text(encoding="utf-8"))
    assert effective["recipe"]["learning_rate"] == 1e-3, "defaults are not filled in"
    records = sorted(p.stem for p in (results / "records").glob("*"))
    assert len(records) == 2
    for name in records:
        assert (results / "logs/train" / f"{name}.log").stat().st_size > 0
        assert (results / "benchmarks/train" / f"{name}.tsv").stat().st_size > 0
    lines = [line for p in (results / "records").glob("*") for line in p.read_text().splitlines()]
    assert len(lines) == 8  # 2 orderings, 2 depths, 2 seeds
    assert json.loads((results / "tables/missing.json").read_text())["present"] == 8


def test_snakemakes_own_report_has_a_caption_and_a_category_for_every_figure_and_table(
    first: Done, project: Path, run: Runner
) -> None:
    made = run(*SNAKEMAKE, "--config", "study=tiny", "--report", "snakemake-report.zip")
    assert made.status == 0, made.text
    with zipfile.ZipFile(project / "snakemake-report.zip") as archive:
        page = archive.read("snakemake-report/report.html").decode()
    results, categories = (
        json.JSONDecoder().raw_decode(page.rpartition(f"var {name} = ")[2])[0]
        for name in ("results", "categories")
    )
    study = project / "results/tiny"
    figures = {p.name for p in (study / "report/figures").glob("*.svg")}
    tables = {p.name for p in study.glob("*/*.csv")}
    shown = {
        kind: {Path(file).name for files in kinds.values() for file in files}
        for kind, kinds in categories.items()
    }
    assert shown == {"Report": {"report.html", "report.pdf"}, "Figures": figures, "Tables": tables}
    for path, result in results.items():
        assert len(result["caption"]) > 60, path
        assert result["labels"], path
    accuracy = results["results/tiny/report/figures/accuracy.svg"]
    assert accuracy["labels"] == {"Figure": "Final test accuracy of every run"}
    assert "The highest mean is" in accuracy["caption"]


# What runs again, and what does not


def test_plain_snakemake_picks_up_the_profile_and_finds_nothing_to_do(
    first: Done, plan: Runner
) -> None:
    again = plan()
    assert "profile profiles/default" in again.text
    assert again.planned() == {}


def test_comments_and_touched_files_run_nothing(first: Done, plan: Runner, edit: Runner) -> None:
    edit("bnorder/network.py", lambda text: "# a comment\n" + text)
    edit("bnorder/training.py", lambda text: text + "\n# another\n")
    edit("scripts/train.py", lambda text: text + "\n# a comment in a script\n")
    edit("studies/tiny.yaml", lambda text: text)
    assert plan().planned() == {}


def test_another_network_trains_everything_again_even_under_a_new_title(
    first: Done, plan: Runner, edit: Runner
) -> None:
    edit("bnorder/network.py", lambda text: text + "\nANOTHER = 1\n")
    edit("studies/tiny.yaml", lambda text: text.replace("A tiny study", "Another tiny study"))
    assert plan().planned() == {"study": 1, "train": 2, "collect": 1, "analyse": 1, "report": 1}


def test_a_template_renders_again_and_trains_nothing(
    first: Done, project: Path, plan: Runner, edit: Runner
) -> None:
    template = next((project / "report").glob("*.j2")).relative_to(project)
    edit(str(template), lambda text: text + "{# a comment #}")
    assert plan().planned() == {"report": 1}


def test_the_archives_edition_is_made_where_it_is_asked_for(first: Done, plan: Runner) -> None:
    assert plan("tiny", "archive=1").planned() == {"archive": 1}


def test_claims_are_judged_again_and_nothing_is_trained(
    first: Done, plan: Runner, edit: Runner
) -> None:
    edit("claims/article.yaml", lambda text: text + "\n# reworded\n")
    assert plan().planned() == {"analyse": 1, "report": 1}


def test_thresholds_and_titles_train_nothing(first: Done, plan: Runner, edit: Runner) -> None:
    edit("studies/tiny.yaml", lambda text: text.replace("- 90", "- 80"))
    assert plan().planned() == {"study": 1, "collect": 1, "analyse": 1, "report": 1}


def test_more_seeds_train_only_the_new_ones(first: Done, plan: Runner, edit: Runner) -> None:
    edit("studies/tiny.yaml", lambda text: text.replace("seeds: 2", "seeds: 4"))
    planned = plan()
    assert planned.planned()["train"] == 2
    assert set(re.findall(r"job=\S+\.(s\d+-\d+)", planned.text)) == {"s2-3"}


def test_all_arms_of_a_seed_come_before_the_next_seed(plan: Runner, first: Done) -> None:
    text = plan("tiny", "seeds=3", "seeds_per_job=1").text
    by_seed: dict[str, list[int]] = {}
    for seeds, priority in re.findall(r"wildcards: job=\S+\.(\S+)\n    priority: (\d+)", text):
        by_seed.setdefault(seeds, []).append(int(priority))
    assert set(by_seed) == {"s0-0", "s1-1", "s2-2"}, text
    assert min(by_seed["s0-0"]) > max(by_seed["s1-1"])
    assert min(by_seed["s1-1"]) > max(by_seed["s2-2"])


def test_what_everything_needs_comes_before_all_training(plan: Runner, first: Done) -> None:
    """On a cluster whose places are full of training, a partial report needs the study's file."""
    text = plan("tiny", "depths=2", "datasets=mnist").text
    first_steps = re.findall(r"rule (study|data):\n(?:    .*\n)*?    priority: (\d+)", text)
    assert {rule for rule, _ in first_steps} == {"study", "data"}, text
    training = re.findall(r"rule train:\n(?:    .*\n)*?    priority: (\d+)", text)
    assert min(int(p) for _, p in first_steps) > max(map(int, training)), text


def test_what_a_selection_is_made_on_is_trained_first(plan: Runner, first: Done) -> None:
    text = plan("controls_digits").text
    jobs = re.findall(r"wildcards: job=\S+\.s(\d+)-\S+\n    priority: (\d+)", text)
    selects = [int(priority) for seed, priority in jobs if int(seed) >= 100]
    own = [int(priority) for seed, priority in jobs if int(seed) < 100]
    assert min(selects) > max(own), text


def test_another_learning_rate_trains_again(first: Done, plan: Runner, edit: Runner) -> None:
    edit("studies/tiny.yaml", lambda text: text.replace("epochs: 1", "epochs: 1\n  bn_eps: 0.01"))
    assert plan().planned()["train"] == 2


@pytest.mark.parametrize(
    ("lost", "made"),
    [
        ("records/*.jsonl", {"train", "collect", "analyse", "report"}),
        ("tables/runs.parquet", {"collect", "analyse", "report"}),
        ("analysis/verdicts.json", {"analyse", "report"}),
        ("study.yaml", {"study"}),
    ],
)
def test_a_file_that_was_lost_behind_a_finished_report_is_made_again(
    lost: str, made: set[str], first: Done, project: Path, plan: Runner
) -> None:
    path = sorted((project / "results/tiny").glob(lost))[0]
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        planned = plan().planned()
    finally:
        aside.rename(path)
    assert planned.get("train", 1) == 1
    assert made <= set(planned)


def test_overridden_study_has_its_own_results(first: Done, plan: Runner) -> None:
    planned = plan("tiny", "depths=2", "learning_rate=1e-5", "seeds=[0,7]")
    assert planned.planned()["train"] == 1
    assert "results/tiny+depths=2+learning_rate=1e-05+seeds=0,7/report/report.pdf" in planned.text


# Published results


@pytest.fixture(scope="module")
def published(first: Done, project: Path, make: Runner) -> Iterator[Path]:
    """The tiny study, published, and its results put away until the tests below are done."""
    done = make("publish", "STUDY=tiny")
    assert done.status == 0, done.text
    assert "8 of 8 runs published" in done.text
    (project / "results").rename(project / "away")
    yield project / "report/published/tiny"
    shutil.rmtree(project / "results")
    (project / "away").rename(project / "results")


def test_published_results_give_the_same_verdicts_and_report_without_training_or_data(
    published: Path, project: Path, make: Runner
) -> None:
    done = make("report", "STUDY=tiny", "FROM=published", "CORES=2")
    assert done.status == 0, done.text
    assert "results/tiny+published/report/report.pdf" in done.text
    results = project / "results/tiny+published"
    for name in ("analysis/verdicts.json", "report/report.html", "report/report.pdf"):
        assert (results / name).read_bytes() == (published / Path(name).name).read_bytes()
        assert (results / name).read_bytes() == (project / "away/tiny" / name).read_bytes()
    assert not (project / "results/data").exists()
    assert not (results / "records").exists()


def test_restored_records_are_those_that_training_left(
    published: Path, project: Path, make: Runner
) -> None:
    taken = make("restore", "STUDY=tiny")
    assert taken.status == 0, taken.text
    assert "8 of 8 runs taken" in taken.text
    assert "needs the data set in any case (docs/data.md)" in taken.text
    done = make("report", "STUDY=tiny", "CORES=2", "ARGS=--until collect")
    assert done.status == 0, done.text
    for path in (project / "away/tiny/records").glob("*"):
        again = project / "results/tiny/records" / path.name
        assert again.read_bytes() == path.read_bytes()
        log = project / "results/tiny/logs/train" / f"{path.stem}.log"
        assert "4 runs were finished before" in log.read_text(encoding="utf-8")


def test_an_unpublished_study_is_one_line(published: Path, make: Runner) -> None:
    done = make("report", "STUDY=other", "FROM=published")
    assert done.status != 0
    assert "report/published/other: no published results" in done.text
    assert "Traceback" not in done.text


# What goes wrong


def test_failing_job_leaves_the_others_done_and_shows_its_log(
    first: Done, project: Path, make: Runner, edit: Runner
) -> None:
    """Then the missing job can be passed over, openly, or trained by the same command."""
    write_study(project, name="failing")
    edit("scripts/train.py", fail_for("act-bn-conv"))
    failed = make("report", "STUDY=failing", "CORES=2")
    assert failed.status != 0
    records = list((project / "results/failing/records").glob("*.jsonl"))
    assert len(records) == 1
    assert "the disk is on fire" in failed.text
    assert re.search(r"Logfile results/failing/logs/train/\S+\.log:", failed.text)
    assert "ALLOW_MISSING=1" in failed.text

    passed_over = make("report", "STUDY=failing", "CORES=2", "ALLOW_MISSING=1")
    assert passed_over.status == 0, passed_over.text
    missing = json.loads((project / "results/failing/tables/missing.json").read_text())
    assert (missing["present"], len(missing["missing"])) == (4, 4)
    html = (project / "results/failing/report/report.html").read_text(encoding="utf-8")
    assert "missing" in html


def fail_for(ordering: str) -> Callable[[str], str]:
    """Source of scripts/train.py that fails for the jobs whose first arm has this ordering."""
    check = (
        "import argparse, sys\nfrom bnorder.study import load_study\n"
        "given = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "job = load_study(given['--study']).job(given['--job'])\n"
        f"if job.arms[0].ordering == {ordering!r}: sys.exit('the disk is on fire')\n"
    )
    return lambda text: text.replace("import argparse\n", check, 1)


def test_what_is_no_folder_of_results_stops_the_workflow_before_it_runs(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (copy_project(tmp_path) / "results").symlink_to("/nonexistent")
    make = ["make", "report", "CORES=1"]
    done = subprocess.run(
        make, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "error: results is a link to /nonexistent, which is no folder" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") < 4, done.stderr


def test_a_terminated_make_ends_snakemake_and_blames_no_job(
    project: Path, first: Done, edit: Runner, environment: dict[str, str]
) -> None:
    write_study(project, name="stopped")
    # Two jobs of one core each: the second is not begun.
    edit("scripts/train.py", lambda text: text.replace("import argparse\n", SLOW, 1))
    make = ["make", "report", "STUDY=stopped", "CORES=1", "ALLOW_MISSING=0"]
    process = subprocess.Popen(
        make, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    begun = project / "results/stopped/begun"
    deadline = time.monotonic() + 120
    while not begun.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    text = process.communicate(timeout=120)[0].decode()
    assert begun.exists() and process.returncode != 0, text
    assert "Study stopped is not finished: it was stopped; logs under" in text
    assert "the failed jobs stand above" not in text and "ALLOW_MISSING=1" in text
    assert len(list((project / "results/stopped/records").glob("*.jsonl"))) == 1
    with hold_study(project / "results/stopped"):  # Snakemake has gone
        pass


SLOW = """import argparse, pathlib, time
pathlib.Path("results/stopped/begun").touch()
time.sleep(3)
"""


def test_missing_pdf_library_is_found_before_training(
    project: Path, first: Done, make: Runner, edit: Runner
) -> None:
    write_study(project, name="unprintable")
    edit("bnorder/workflow.py", lambda text: text.replace("libpangoft2-1.0.so", "libabsent.so"))
    stopped = make("report", "STUDY=unprintable")
    assert stopped.status != 0
    assert "libabsent" in stopped.text
    assert re.search(r"(apt-get|conda|brew) install .*pango", stopped.text)
    assert not list((project / "results").glob("unprintable/records/*"))


def test_no_study_of_that_name_is_one_line(first: Done, make: Runner) -> None:
    done = make("report", "STUDY=nope")
    assert done.status != 0
    assert "error: studies/nope.yaml: no such file; there are: article" in done.text
    assert "Traceback" not in done.text


def test_mistyped_variable_of_make_is_named(make: Runner) -> None:
    done = make("report", "SEED=3")
    assert done.status != 0
    assert "SEED is no variable of this Makefile" in done.text


BAD_STUDIES = {
    "unknown key": ({"layers": 3}, "unknown key 'layers'"),
    "unknown recipe key": ({"recipe": {"epoch": 3}}, "unknown key 'epoch'"),
    "wrong type": ({"depths": ["two"]}, 'depths[0] is "two"; expected a whole number'),
    "empty axis": ({"activations": []}, "activations is []; expected a list of at least 1"),
    "duplicate arm": ({"orderings": ["bn-act-conv", "bn-act-conv"]}, "'bn-act-conv' twice"),
    "unknown ordering": ({"orderings": ["bn-relu-conv"]}, "ordering 'bn-relu-conv': expected"),
    "unknown activation": ({"activations": ["rulu"]}, "activation 'rulu': expected one of relu"),
    "unknown data set": ({"datasets": ["minst"]}, 'datasets[0] is "minst"; expected'),
    "depth 0": ({"depths": [0]}, "depths[0] is 0; expected at least 1"),
    "seeds 0": ({"seeds": 0}, "seeds is 0; expected"),
    "negative rate": ({"recipe": {"learning_rate": -1}}, "recipe.learning_rate is -1; expected"),
    "slash in the name": ({"name": "a/b"}, 'name is "a/b"; expected'),
    "dots as the name": ({"name": ".."}, 'name is ".."; expected'),
}


@pytest.mark.parametrize("case", BAD_STUDIES)
def test_bad_study_is_one_clear_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, expected = BAD_STUDIES[case]
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(TINY | changes), encoding="utf-8")
    line = one_line_of({"study": str(path)}, capsys)
    assert line.startswith(f"error: {path}: ")
    assert expected in line


BAD_FILES = {
    "no YAML": (b"name: [tiny\n", "no valid YAML"),
    "no mapping": (b"- a\n- b\n", "expected a mapping"),
    "no text": (b"\xff\xfe\x00", "cannot be read"),
    "empty": (b"", "expected a mapping"),
    "a key twice": (b"name: a\nname: b\n", "the key 'name' stands twice"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_file_that_is_no_study_is_one_clear_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, expected = BAD_FILES[case]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert expected in one_line_of({"study": str(path)}, capsys)


def test_unreadable_study_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    assert "cannot be read" in one_line_of({"study": str(folder)}, capsys)


BAD_CLAIMS = {
    "ordering": ("ordering: act-bn-conv", "ordering: act-bm-conv", "ordering 'act-bm-conv'"),
    "activation": ("activation: relu", "activation: rulu", "activation 'rulu'"),
    "key": ("margin: 0.2", "margins: 0.2", "unknown key 'margins'"),
}


@pytest.mark.parametrize("case", BAD_CLAIMS)
def test_claims_file_that_names_an_arm_wrongly_is_one_clear_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong, expected = BAD_CLAIMS[case]
    path = tmp_path / "claims.yaml"
    text = (REPOSITORY / "claims/article.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    line = one_line(lambda: workflow.check_claims(str(path)), capsys)
    assert line.startswith(f"error: {path}: ")
    assert expected in line


def test_absent_claims_file_stops_the_workflow_before_it_runs(first: Done, plan: Runner) -> None:
    stopped = plan("tiny", "claims=claims/absent.yaml")
    assert stopped.status != 0
    assert "error: claims/absent.yaml: no such file" in stopped.text
    assert "Traceback" not in stopped.text


def test_absent_folder_of_images_stops_the_workflow_before_it_runs(plan: Runner) -> None:
    stopped = plan("quick", "datasets=folder:/nowhere/images")
    assert stopped.status != 0
    assert "error: data set folder:/nowhere/images: no such folder; expected" in stopped.text
    assert "Building DAG" not in stopped.text
    assert "Traceback" not in stopped.text


def test_a_changed_folder_of_images_is_read_again(
    first: Done, run: Runner, plan: Runner, tmp_path: Path
) -> None:
    for number, label in enumerate("aabbaabb"):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.new("L", (8, 8), number).save(tmp_path / label / f"{number}.png")
    config = f"datasets=folder:{tmp_path}"
    made = run(*SNAKEMAKE, "--cores=1", "--until", "data", "--config", "study=tiny", config)
    assert made.status == 0, made.text
    assert "data" not in plan("tiny", config).planned()
    (tmp_path / "a" / "0.png").unlink()
    assert plan("tiny", config).planned()["data"] == 1
    tmp_path.rename(tmp_path.with_name("moved"))
    assert "data" not in plan("tiny", config).planned()


def test_a_cached_folder_of_images_may_be_gone(tmp_path: Path) -> None:
    name = f"folder:{tmp_path}/images"
    (tmp_path / f"{dataset_slug(name)}.pt").touch()
    workflow.check_folders([name], tmp_path)


def one_line_of(config: dict[str, object], capsys: pytest.CaptureFixture[str]) -> str:
    """What the Snakefile says of a configuration that it refuses."""
    return one_line(lambda: workflow.configured_study(config), capsys)


def one_line(action: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        workflow.or_exit(action)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


# Overrides and settings, as Snakemake hands them over


def test_overrides_become_the_types_of_the_schema() -> None:
    given = {
        "study": "quick",  # a setting, no override
        "seeds": "1,2",
        "depths": ["2", "5"],  # what Snakemake makes of depths=[2,5]
        "activations": "relu",
        "orderings": "conv-bn-act, conv",
        "epochs": 1,
        "learning_rate": "1e-3",
        "final_norm_act": "true",
        "title": 3,
        "variants": {"base": {}, "wide": {"width": "32"}},
        "layers": "9",  # unknown: left for the schema to refuse
    }
    assert workflow.study_overrides(given) == {
        "seeds": [1, 2],
        "depths": [2, 5],
        "activations": ["relu"],
        "orderings": ["conv-bn-act", "conv"],
        "epochs": 1,
        "learning_rate": 1e-3,
        "final_norm_act": True,
        "title": "3",
        "variants": {"base": {}, "wide": {"width": 32}},
        "layers": 9,
    }


def test_scripts_read_words_as_snakemake_does() -> None:
    """Else they would look for another study's results."""
    values = ["plain", "'quoted'", "it's so", "three #3", "a: b: c", "x, y", "[" * 50_000, "[2,5]"]
    words = [f"key{i}={value}" for i, value in enumerate(values)]
    read = workflow.as_config(words)
    theirs = parse_config(words)
    assert theirs.pop("key7") == ["2", "5"] and read.pop("key7") == "[2,5]"
    assert read == theirs


def test_options_for_scripts_read_back_as_the_same_values() -> None:
    overrides = {
        "learning_rate": 1e-5,
        "depths": [2, 5],
        "title": "a: b",
        "datasets": ["folder:/a b"],
    }
    options = workflow.set_options(overrides)
    pairs = [option.removeprefix("--set=").partition("=") for option in options]
    assert {key: yaml.safe_load(value) for key, _, value in pairs} == overrides


class Display:
    """The rich plugin as it is installed, told of jobs as Snakemake would, at made-up times.

    What uses it fails when an update of the plugin takes its progress bars away.
    """

    def __init__(self, **jobs: int) -> None:
        from snakemake.settings.types import OutputSettings
        from snakemake_logger_plugin_rich.handler import RichLogHandler

        self.now, self.started, self.handler = 0.0, 0, RichLogHandler(settings=OutputSettings())
        self.handler.progress.get_time = lambda: self.now
        show_time_left([object(), self.handler])
        self.handler.event_handler.progress_display.live_display = Mock()
        self.tell("RUN_INFO", stats={**jobs, "total": sum(jobs.values())})

    def tell(self, event: str, **about: object) -> None:
        record = logging.makeLogRecord({"event": LogEvent[event], **about})
        self.handler.handle(record)

    def start(self, rule: str, output: Path = Path("none")) -> int:
        self.started += 1
        self.tell("JOB_INFO", jobid=self.started, rule_name=rule, output=[str(output)])
        return self.started

    def run(self, rule: str, seconds: float, output: Path = Path("none")) -> None:
        job = self.start(rule, output)
        self.now += seconds
        self.tell("JOB_FINISHED", job_id=job)

    def shown(self) -> dict[str, str]:
        """What is said to be left, by bar; bars that say nothing are left out."""
        console = Console(width=120, file=io.StringIO())
        progress = self.handler.progress
        console.print(progress.make_tasks_table(progress.tasks))
        lines = console.file.getvalue().splitlines()
        found = (re.search(r"(Total Progress|[a-z]+) .* (\S+) left", line) for line in lines)
        return {match[1]: match[2] for match in found if match}


def test_terminal_display_has_the_time_left() -> None:
    """Of all jobs by a whole training job, for steps of a moment come first."""
    display = Display(study=1, data=1, train=12, collect=1)
    display.run("study", 1)
    display.run("data", 2)
    display.start("train")
    display.now += 20
    assert display.shown() == {}
    display.now += 15
    display.tell("JOB_FINISHED", job_id=display.started)
    assert display.shown() == {"Total Progress": "0:06:25", "train": "0:06:25"}  # 11 of 35 s
    display.start("train")
    display.now += 5
    assert display.shown()["Total Progress"] == "0:06:20"
    display.tell("JOB_ERROR", jobid=display.started)
    assert display.shown()["train"] == "0:05:50"  # 10 to come
    for _ in range(10):
        display.run("train", 35)
    display.start("collect")
    assert display.shown() == {}


def test_time_left_counts_with_the_jobs_that_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    display = Display(train=12)
    pair = [display.start("train"), display.start("train")]
    display.now += 35
    display.tell("JOB_FINISHED", job_id=pair[0])
    assert display.shown()["Total Progress"] == "0:02:55"  # 5 rounds; the other is due
    display.tell("JOB_FINISHED", job_id=pair[1])
    assert display.shown()["Total Progress"] == "0:02:55"
    display.start("train")
    display.now += 25
    assert display.shown()["Total Progress"] == "0:02:55"  # the second place is free since then


def test_time_left_on_a_cluster_is_by_the_jobs_done_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are submitted at once, and wait in its queue."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    display = Display(train=12)
    jobs = [display.start("train") for _ in range(12)]
    for job in jobs[:4]:
        display.now += 30
        display.tell("JOB_FINISHED", job_id=job)
    assert display.shown()["train"] == "0:04:00"


def test_resumed_jobs_promise_no_time_left(tmp_path: Path) -> None:
    for name in ("records/a.jsonl", "checkpoints/b.finished.jsonl", "checkpoints/c.checkpoint.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    display = Display(train=12)
    for name, seconds in (("a", 1), ("b", 1), ("c", 10)):
        display.run("train", seconds, tmp_path / f"records/{name}.jsonl")
        assert display.shown() == {}
    display.run("train", 40, tmp_path / "records/a.jsonl")  # of another recipe: trained again
    assert display.shown()["Total Progress"] == "0:05:20"


def test_setting_that_is_no_number_is_refused() -> None:
    assert workflow.setting({"gpu": "2"}, "gpu") == 2
    assert workflow.setting({"allow_missing": "true"}, "allow_missing") == 1
    assert workflow.setting({}, "gpu", 1) == 1
    with pytest.raises(UserError, match="gpu is 'many'"):
        workflow.setting({"gpu": "many"}, "gpu")


def test_last_words_name_every_report(tmp_path: Path) -> None:
    verdicts = {"study": "tiny", "answer": ["Yes."], "verdicts": []}
    verdicts |= {"runs": {"present": 1, "expected": 1, "diverged": 0}}
    names = ["report-archive.pdf", "report-archive.zh.pdf", "report.html", "report.zh.pdf"]
    for name in [*names, "report.html.12.partial"]:
        (tmp_path / "report").mkdir(exist_ok=True)
        (tmp_path / "report" / name).touch()
    (tmp_path / "analysis").mkdir()
    found = tmp_path / "analysis/verdicts.json"
    found.write_text(json.dumps(verdicts), encoding="utf-8")
    os.utime(found, (1, 1))

    def shown() -> list[str]:
        lines = summary(tmp_path).partition("The report:\n")[2].splitlines()
        return [line.removeprefix(f"  {tmp_path}/report/") for line in lines]

    assert shown() == names
    os.utime(found, (3e9, 3e9))  # of another recipe, and only report.html made again
    os.utime(tmp_path / "report/report.html", (4e9, 4e9))
    again = "(older: make it again with "
    archive, chinese_archive, own, chinese = names
    assert shown() == [
        f"{archive} {again}ARCHIVE=1)",
        f"{chinese_archive} {again}LANG=zh ARCHIVE=1)",
        own,
        f"{chinese} {again}LANG=zh)",
    ]


def test_last_words_say_why_not_and_what_is_too_small(tmp_path: Path) -> None:
    claim = {"id": "M1", "sentence": "One.", "short": "Two.", "reason": "", "too_small": False}
    verdicts = {"study": "tiny", "answer": ["Yes."]}
    verdicts |= {"runs": {"present": 1, "expected": 1, "diverged": 0}}
    verdicts["verdicts"] = [
        claim | {"verdict": "not tested", "reason": "it needs seeds"},
        claim | {"verdict": "contradicted", "too_small": True},
        claim | {"verdict": "supported"},
    ]
    for name in ("report/report.html", "analysis/verdicts.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps(verdicts), encoding="utf-8")
    assert [line for line in summary(tmp_path).splitlines() if line.startswith("M1")] == [
        "M1   not tested    One. (it needs seeds)",
        "M1   contradicted, and too small to matter: One. Two.",
        "M1   supported     One. Two.",
    ]


def test_published_records_stand_for_no_other_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    config = {"study": "quick", "from": "published"}
    workflow.configured_study(config | {"seeds": 3, "thresholds": [50], "title": "Fewer"})
    said = one_line_of(config | {"epochs": 3}, capsys)
    assert "is published with another recipe or network" in said
    assert "the same command without FROM trains it" in said


def test_study_has_one_spelling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    same = [tmp_path / "studies/a.yaml", "./studies/a.yaml", "studies/a.yaml", "a"]
    assert {workflow.study_path(str(name)) for name in same} == {Path("studies/a.yaml")}


def test_a_copied_study_needs_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    write_study(tmp_path)
    shutil.copy("studies/tiny.yaml", "studies/mine.yaml")
    for config in ({"study": "mine"}, {"study": "studies/mine.yaml", "seeds": 1}):
        said = one_line_of(config, capsys)
        assert "studies/mine.yaml: name is 'tiny', that of studies/tiny.yaml" in said
        assert "expected a name of its own" in said
    Path("link.yaml").symlink_to("studies/tiny.yaml")
    for study in ("tiny", str(tmp_path / "studies/tiny.yaml"), "link.yaml"):
        workflow.configured_study({"study": study, "seeds": 1})


def test_a_study_elsewhere_does_not_overwrite_another_one_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, moved = (tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml"))
    for path in (first, second):
        path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    results = tmp_path / "results/tiny"
    results.mkdir(parents=True)
    workflow.remember_study_file(results, workflow.study_path(str(first)))
    said = one_line_of({"study": str(second)}, capsys)
    assert "b.yaml: name is 'tiny', that of a.yaml, whose results it would overwrite" in said
    assert "expected a name of its own, or results/tiny/ deleted" in said
    workflow.configured_study({"study": str(second), "seeds": 1})  # has its own folder
    workflow.configured_study({"study": str(first)})
    first.rename(moved)
    workflow.configured_study({"study": str(moved)})
    (results / workflow.MADE_BY).write_bytes(b"\xff/damaged\0\n")
    workflow.configured_study({"study": str(second)})


def test_a_file_is_published_under_the_name_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TINY | {"name": "quick"}), encoding="utf-8")
    for study in ("quick", "studies/quick.yaml", str(path)):
        assert workflow.published_results({"study": study}) == Path("report/published/quick")
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    with pytest.raises(UserError, match="report/published/tiny: no published results"):
        workflow.published_source({"study": str(path), "from": "published"})


def test_what_a_wrong_clock_dated_into_the_future_is_of_now(tmp_path: Path) -> None:
    """A data set that was read under it would stop every training that came after."""
    now = time.time()
    for name, when in (("data/digits.pt", 3e7), ("mine/records/a.jsonl", 60), ("mine/b", -3e7)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (now + when, now + when))
    workflow.date_back(tmp_path / "mine", tmp_path / "data", tmp_path / "nowhere")
    dates = {p.name: p.stat().st_mtime - now for p in tmp_path.rglob("*") if p.is_file()}
    assert 0 <= dates["digits.pt"] == dates["a.jsonl"] < 30
    assert dates["b"] == pytest.approx(-3e7)
