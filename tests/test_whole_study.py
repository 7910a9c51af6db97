"""A study trained in one process, whose records the workflow takes as its own."""

import importlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnorder import jobs, whole_study
from bnorder.errors import UserError
from bnorder.log import Log
from bnorder.records import Record, collect
from bnorder.study import Arm, Study, load_study

SMALL = {"epochs": 1, "train_images": 64, "depths": [1], "width": 4, "arms_per_job": 2}
ROOT = Path(__file__).resolve().parents[1]


def study(**changes: object) -> Study:
    return load_study("studies/quick.yaml", SMALL | {"seeds": 3, "seeds_per_job": 2} | changes)


def silent(done: float, images_per_second: float, arm: Arm) -> None:
    pass


def numbers(records: list[Record]) -> list[object]:
    return [(r.run, r.config_hash, r.code_hash, r.data_sha256, r.curve) for r in records]


def test_records_stand_where_the_workflow_s_jobs_put_theirs(tmp_path: Path) -> None:
    ours = study(seeds_together=2)  # how many seeds are one network decides how they are rounded
    trained = whole_study.train_study(ours, tmp_path, silent)
    assert trained == len(ours.runs())
    folder = tmp_path / ours.name / "records"
    assert {path.stem for path in folder.iterdir()} == {job.name for job in ours.jobs()}
    dataset = whole_study.cached_dataset("digits", tmp_path, ())
    job = ours.jobs()[0]
    alone = jobs.train_job(ours, job, dataset)
    found = {record.run.id: record for record in collect(ours, folder)}
    assert numbers(alone) == numbers([found[run.id] for run in job.runs])
    assert not list((tmp_path / ours.name / "checkpoints").iterdir())


def test_only_what_is_missing_is_trained(tmp_path: Path) -> None:
    whole_study.train_study(study(seeds=2), tmp_path, silent)
    ours = study()
    (tmp_path / study(seeds=2).name).rename(tmp_path / ours.name)
    assert whole_study.train_study(ours, tmp_path, silent) == len(ours.arms())
    assert whole_study.train_study(ours, tmp_path, silent) == 0


def test_a_killed_study_keeps_the_arms_that_were_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, trained = study(arms_per_job=100), list[str]()
    plain = jobs.train

    def dying(runs, *others):  # type: ignore[no-untyped-def]
        if len({run.rsplit(".", 1)[0] for run in trained}) == 2 and dying.alive:
            dying.alive = False
            raise KeyboardInterrupt
        trained.extend(run.id for run in runs)
        return plain(runs, *others)

    dying.alive = True  # type: ignore[attr-defined]
    monkeypatch.setattr(jobs, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        whole_study.train_study(ours, tmp_path, silent)
    assert not list((tmp_path / ours.name).glob("records/*")), "a job of all arms is not whole"
    assert whole_study.train_study(ours, tmp_path, silent) == len(ours.runs())
    first = [run.id for run in ours.runs() if run.arm == ours.arms()[0]]
    assert [trained.count(run) for run in first] == [1, 1, 1], "a finished arm was trained twice"


def test_a_damaged_record_is_named_and_nothing_is_trained(tmp_path: Path) -> None:
    ours = study()
    path = tmp_path / ours.name / "records" / f"{ours.jobs()[0].name}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{\n")
    with pytest.raises(UserError, match="a damaged record"):
        whole_study.train_study(ours, tmp_path, silent)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_workflow_finds_nothing_left_to_train(
    project: Path, environment: dict[str, str]
) -> None:
    """The command line, then a dry run of the workflow in the same folder."""
    changes = [f"{key}={value}" for key, value in (SMALL | {"seeds": 1}).items()]
    sets = [f"--set={change}" for change in changes]
    train = [sys.executable, "scripts/train_study.py", "--study", "quick", *sets]
    done = subprocess.run(train, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "runs trained in" in done.stdout
    plan = [sys.executable, "-m", "snakemake", "--dry-run", "--config", "study=quick", *changes]
    planned = subprocess.run(plan, cwd=project, env=environment, capture_output=True, text=True)
    assert "collect" in planned.stdout + planned.stderr
    assert "rule train:" not in planned.stdout + planned.stderr, planned.stdout[-2000:]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports one of scripts/ by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


def test_time_left_is_told_by_what_was_trained_since_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    log = Log(10)
    log.progress(8.0, 1.0)  # eight runs were finished before
    clock[0] += 59.8
    log.progress(9.0, 1.0)
    assert capsys.readouterr().out == "9.00 of 10 runs, 1 images/s, 0:01:00 left\n"
    clock[0] += 60
    log.at_most = True
    log.progress(9.5, 1234.0, Arm("digits", "conv", "relu", 2, "base"))
    said = "9.50 of 10 runs, digits.conv.relu.d2.base, 1,234 images/s, at most 0:00:40 left\n"
    assert capsys.readouterr().out == said


def test_a_damaged_summary_of_the_data_is_no_obstacle(
    script: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = study(seeds=1, arms_per_job=1, orderings=["conv-bn-act"], activations=["relu"])
    (tmp_path / "study.yaml").write_text(ours.as_yaml(), encoding="utf-8")
    whole_study.cached_dataset("digits", tmp_path, ())
    cache, out = tmp_path / "data/digits.pt", tmp_path / "records/job.jsonl"
    words = ["--study", str(tmp_path / "study.yaml"), "--job", ours.jobs()[0].name]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # nothing is leased
    monkeypatch.setattr(sys, "argv", ["train.py", *words, "--data", str(cache), "--out", str(out)])
    for damaged in ("", "{", "[]", "{}"):
        cache.with_suffix(".json").write_text(damaged)
        script("train").main()
        assert len(out.read_text().splitlines()) == 1


def test_seconds_are_those_of_the_study_and_of_its_selection(
    script: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts: list[Study] = []

    def slow(part: Study, *others: object) -> int:
        parts.append(part)
        time.sleep(0.3)
        return len(part.runs())

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # nothing is leased
    monkeypatch.setattr(whole_study, "_train_part", slow)
    command = ["train_study.py", "--study", "controls_digits", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--set=epochs=1"])
    script("train_study").main()
    text = capsys.readouterr().out
    said = re.search(r"runs trained in ([0-9.]+) s", text)
    assert said and float(said[1]) >= 0.6
    selecting, judged = parts
    assert judged.selecting and selecting.seeds == judged.selecting.seeds
    written = tmp_path / judged.name / "study.yaml"  # killed between the two, it is the whole study
    assert load_study(written) == judged
    folder = tmp_path / "controls_digits+epochs=1"  # make report looks in results/ alone
    said = f"next: copy {folder} into results/, then make report STUDY=controls_digits EPOCHS=1\n"
    assert text.endswith(said)
    monkeypatch.chdir(tmp_path)
    Path("studies").symlink_to(ROOT / "studies")
    monkeypatch.setattr(sys, "argv", [*command[:3], "--set=epochs=1"])
    script("train_study").main()
    assert "next: make report STUDY=controls_digits EPOCHS=1\n" in capsys.readouterr().out
