"""Records: written at once, checked when read, collected into tables."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bnorder import files, records
from bnorder.errors import UserError
from bnorder.records import Cost, Evaluation, Provenance, Record
from bnorder.study import Run, Study, load_study


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study("studies/quick.yaml", {"seeds": 2, "depths": [2], "arms_per_job": 3})


def record(study: Study, run: Run, correct: tuple[int, ...] = (60, 500, 520, 530)) -> Record:
    steps = (0, 10, 20, 40)
    curve = tuple(
        Evaluation(s, s / 10, c, 1.0 / (s + 1), 32 * s, 30 * s, 0.5 if s else None)
        for s, c in zip(steps, correct, strict=True)
    )
    return Record(
        run=run,
        config_hash=study.config_hash(run.arm),
        code_hash=records.code_hash(),
        data_sha256="d" * 64,
        status="finished",
        diverged_step=None,
        n_train=1257,
        n_test=540,
        steps=40,
        parameters=100,
        curve=curve,
        cost=Cost(2.0, 1.0, 0.5, 1000.0, 1),
        provenance=Provenance("3.11", "2.15", "Linux", "CPU", 1),
    )


def write_all(study: Study, folder: Path) -> None:
    for job in study.jobs():
        path = folder / f"{job.name}.jsonl"
        records.write_records(path, [record(study, run) for run in job.runs])


def test_a_record_is_one_line_that_reads_back_as_itself(study: Study) -> None:
    original = record(study, study.runs()[0])
    line = original.as_line()
    assert line.count("\n") == 1
    assert Record.from_line(line) == original


def test_a_full_study_is_collected_in_its_own_order(study: Study, tmp_path: Path) -> None:
    write_all(study, tmp_path)
    found = records.collect(study, tmp_path)
    assert [r.run for r in found] == study.runs()
    assert records.missing_runs(study, found) == []


def test_missing_runs_are_named(study: Study, tmp_path: Path) -> None:
    write_all(study, tmp_path)
    lost = study.jobs()[1]
    (tmp_path / f"{lost.name}.jsonl").unlink()
    found = records.collect(study, tmp_path)
    assert set(records.missing_runs(study, found)) == {run.id for run in lost.runs}


def spoil(path: Path, how: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    if how == "truncated":
        lines[-1] = lines[-1][: len(lines[-1]) // 2]
    elif how == "altered":
        lines[0] = lines[0].replace('"test_correct": 530', '"test_correct": 531')
    elif how == "duplicated":
        lines.append(lines[0])
    elif how == "empty line":
        lines.insert(0, "\n")
    elif how == "null":
        lines[0] = "null\n"
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("truncated", "truncated or no JSON"),
        ("altered", "altered: its checksum"),
        ("duplicated", "a second record of"),
        ("empty line", "truncated or no JSON"),
        ("null", "no record of format"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(
    how: str, named: str, study: Study, tmp_path: Path
) -> None:
    write_all(study, tmp_path)
    path = tmp_path / f"{study.jobs()[0].name}.jsonl"
    spoil(path, how)
    with pytest.raises(UserError) as caught:
        records.collect(study, tmp_path)
    assert named in str(caught.value)
    assert f"{path}, line " in str(caught.value)
    assert f"delete {path.name}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config_hash": "0" * 16}, "another configuration"),
        ({"code_hash": "0" * 16}, "other code"),
        ({"data_sha256": "e" * 64}, "other data"),
    ],
)
def test_a_record_that_does_not_belong_is_refused(
    changes: dict[str, str], named: str, study: Study, tmp_path: Path
) -> None:
    write_all(study, tmp_path)
    job = study.jobs()[-1]
    wrong = [replace(record(study, run), **changes) for run in job.runs]
    records.write_records(tmp_path / f"{job.name}.jsonl", wrong)
    with pytest.raises(UserError, match=named):
        records.collect(study, tmp_path)


def test_a_foreign_record_is_refused(study: Study, tmp_path: Path) -> None:
    write_all(study, tmp_path)
    job = study.jobs()[0]
    foreign = replace(record(study, job.runs[0]), run=Run(job.arms[0], 99))
    path = tmp_path / f"{job.name}.jsonl"
    records.write_records(path, [*(record(study, run) for run in job.runs), foreign])
    with pytest.raises(UserError, match=r"a foreign record: .*\.s99"):
        records.collect(study, tmp_path)


def test_tables_hold_the_final_epoch_and_the_convergence(study: Study) -> None:
    row = records.runs_table(study, [record(study, study.runs()[0])]).iloc[0]
    assert row["test_correct"] == 530
    assert row["test_accuracy_pp"] == pytest.approx(100 * 530 / 540)
    assert row["steps_to_90"] == 10  # 500 of 540 is 92.6 %
    assert row["steps_to_95"] == 20  # 520 of 540 is 96.3 %
    assert row["steps_to_97"] == 40  # 530 of 540 is 98.1 %
    assert row["train_accuracy_pp"] == pytest.approx(100 * 30 / 32)
    errors = [100 * (1 - c / 540) for c in (60, 500, 520, 530)]
    area = (10 * (errors[0] + errors[1]) + 10 * (errors[1] + errors[2])) / 2
    area += 20 * (errors[2] + errors[3]) / 2
    assert row["test_error_area"] == pytest.approx(area / 40)


def test_thresholds_that_differ_late_have_columns_of_their_own(study: Study) -> None:
    near = replace(study, thresholds=(97.12345, 97.123451))
    row = records.runs_table(near, [record(near, near.runs()[0])]).iloc[0]
    assert {"steps_to_97.12345", "steps_to_97.123451"} <= set(row.index)


def test_the_final_epoch_counts_and_not_the_best(study: Study) -> None:
    late = record(study, study.runs()[0], correct=(60, 539, 500, 400))
    row = records.runs_table(study, [late]).iloc[0]
    assert row["test_correct"] == 400
    assert row["steps_to_97"] == 10


def test_a_threshold_that_is_met_exactly_counts(study: Study) -> None:
    exact = record(study, study.runs()[0], correct=(0, 486, 486, 486))  # 90 % of 540
    row = records.runs_table(study, [exact]).iloc[0]
    assert row["steps_to_90"] == 10
    assert math.isnan(row["steps_to_95"])


def test_a_diverged_run_stays_where_it_was_until_the_end(study: Study) -> None:
    whole = record(study, study.runs()[0], correct=(54, 54, 54, 54))
    short = replace(whole, curve=whole.curve[:2], status="diverged", diverged_step=7)
    rows = records.runs_table(study, [whole, short])
    assert rows.test_error_area[0] == pytest.approx(rows.test_error_area[1]) == 90
    assert rows.diverged_step[1] == 7


def test_written_tables_read_back_and_are_the_same_bytes_twice(
    study: Study, tmp_path: Path
) -> None:
    found = [record(study, run) for run in study.runs()[:3]]
    for folder in ("a", "b"):
        records.write_tables(study, found, tmp_path / folder)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["curves.csv", "curves.parquet", "missing.json", "runs.csv", "runs.parquet"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(pd.read_parquet(tmp_path / "a" / "curves.parquet")) == 12
    missing = json.loads((tmp_path / "a" / "missing.json").read_text())
    assert missing["present"] == 3
    assert len(missing["missing"]) == missing["expected"] - 3


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    records.write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        records.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_one(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".file.12", ".file.13", ".file.part.12"))
    for left in (old, young, other):
        left.write_text("half")
    for left in (old, other):
        os.utime(left, (0, 0))
    records.write_text(tmp_path / "file", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"file", young.name, other.name}


def test_comments_and_docstrings_do_not_change_the_code_hash(tmp_path: Path) -> None:
    source = 'def f(x):\n    """Say."""\n    return x + 1  # one more\n'
    variants = {
        "plain": source,
        "comment": source.replace("one more", "because"),
        "docstring": source.replace("Say.", "Say more.\n\n    Much more.\n    "),
        "code": source.replace("x + 1", "x + 2"),
        "string": 'def f(x):\n    return "# no comment"\n',
        "string 2": 'def f(x):\n    return "# NO comment"\n',
    }
    hashes = {}
    for name, text in variants.items():
        (tmp_path / "f.py").write_text(text)
        hashes[name] = records.source_hash([tmp_path / "f.py"])
    assert hashes["plain"] == hashes["comment"] == hashes["docstring"]
    assert hashes["code"] != hashes["plain"]
    assert hashes["string"] != hashes["string 2"]
