"""Published results: nothing is lost on the way, and all comes out again without training."""

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from made_up_records import made_up_records

from bnorder import records
from bnorder.checkpoints import finished_file, finished_runs
from bnorder.errors import UserError
from bnorder.publishing import publish, published
from bnorder.records import Probe, Record
from bnorder.study import Study, load_study

SMALL = {
    "name": "small",
    "datasets": ["digits"],
    "orderings": ["bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn"],
    "activations": ["relu"],
    "depths": [2, 5],
    "seeds": 4,
    "seeds_per_job": 2,
    "thresholds": [50, 90],
}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)  # a study names its claims file relative to it


def small(tmp_path: Path, **changes: object) -> Study:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes), encoding="utf-8")
    return load_study(path)


def put(found: list[Record], tmp_path: Path) -> Path:
    """A folder with these records as published ones."""
    folder = tmp_path / "published"
    folder.mkdir(parents=True, exist_ok=True)
    published.write_tables(found, folder)
    published.write_sums(folder)
    return folder


# Records as tables and back


def test_records_come_back_to_the_last_byte(tmp_path: Path) -> None:
    first, second, third, *rest = made_up_records(small(tmp_path))
    unusual = [
        replace(first, status="diverged", diverged_step=3, curve=first.curve[:1]),
        replace(
            second,
            probes=(Probe(0, 1, "block1_conv", "norm", 0.125), Probe(7, 0, "a", "b", math.nan)),
        ),
        replace(third, curve=(replace(third.curve[0], test_loss=None, train_loss=1 / 3),)),
    ]
    written = [*unusual, *rest]
    folder = put(written, tmp_path)
    back = published.read_tables(folder)
    assert [record.as_line() for record in back] == [record.as_line() for record in written]


@pytest.mark.parametrize("value", [0.1, -1 / 3, 4.9e-23, 6.6e6, 0.0, math.inf])
def test_a_reading_comes_back_to_three_digits(tmp_path: Path, value: float) -> None:
    record = replace(made_up_records(small(tmp_path))[0], probes=(Probe(0, 1, "a", "b", value),))
    (back,) = published.read_tables(put([record], tmp_path))
    assert back.probes[0].value == pytest.approx(value, rel=2**-11)
    (again,) = published.read_tables(put([back], tmp_path))
    assert again == back  # rounded once is rounded for good


def test_a_study_without_probes_has_no_table_of_them(tmp_path: Path) -> None:
    folder = put(made_up_records(small(tmp_path)), tmp_path)
    assert [p.name for p in folder.glob("*.parquet")] == ["records.parquet"]


def test_an_altered_file_is_named_before_it_is_read(tmp_path: Path) -> None:
    folder = put(made_up_records(small(tmp_path)), tmp_path)
    with (folder / "records.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"records\.parquet: missing or altered"):
        published.read_tables(folder)


def test_sums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    folder = put(made_up_records(small(tmp_path)), tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True)


def test_other_recipes_and_mixed_code_are_refused(tmp_path: Path) -> None:
    study = small(tmp_path)
    found = made_up_records(study)
    folder = put(found, tmp_path)
    assert published.published_records(study, folder) == found
    with pytest.raises(UserError, match="another configuration"):
        published.published_records(small(tmp_path, recipe={"epochs": 1}), folder)
    folder = put([*found[:-1], replace(found[-1], code_hash="f" * 16)], tmp_path)
    with pytest.raises(UserError, match="trained by other code"):
        published.published_records(study, folder)


# Publishing


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of published results with the whole small study."""
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        study = small(folder)
        publish.publish(study, made_up_records(study), [], folder)
    return folder


def test_what_is_published_is_small_and_says_what_made_it(whole: Path) -> None:
    folder = whole / "small"
    assert {path.name for path in folder.iterdir()} == {
        "SHA256SUMS",
        "answer.png",
        "claims.yaml",
        "costs.csv",
        "manifest.json",
        "records.parquet",
        "report.html",
        "report.pdf",
        "study.yaml",
        "verdicts.json",
    }
    published.verify(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6
    manifest = published.read_manifest(folder)
    assert manifest["complete"]
    assert manifest["runs"]["reported"] == manifest["runs"]["planned"] == 32
    assert manifest["code"]["numbers"] == [records.code_hash()]
    assert manifest["trained_with"][0]["runs"] == 32
    assert manifest["published_with"]["numpy"]
    listed = {line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}


def test_an_incomplete_study_is_reported_on_its_whole_seeds_and_keeps_every_record(
    tmp_path: Path,
) -> None:
    study = small(tmp_path)
    found = made_up_records(study)[:-1]  # seed 3 lacks an arm
    said: list[int] = []
    folder = publish.publish(study, found, [], tmp_path, say=lambda step, _: said.append(step))
    assert said == list(range(3, publish.STEPS + 1))  # the script says the first two
    manifest = published.read_manifest(folder)
    assert not manifest["complete"]
    assert manifest["seeds"] == {"planned": [0, 1, 2, 3], "reported": [0, 1, 2]}
    verdicts = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    assert (verdicts["n_seeds"], verdicts["runs"]["missing"]) == (3, [])
    assert published.read_tables(folder) == found
    assert publish.planned_study(published.published_study(folder), folder) == study
    fewer = replace(study, seeds=(0, 1))
    assert publish.planned_study(fewer, folder, {"seeds": 2}) == fewer
    assert publish.planned_study(fewer, folder, {"depths": [2]}) == study


def test_without_a_whole_seed_nothing_is_published_unless_asked_for(tmp_path: Path) -> None:
    study = small(tmp_path)
    found = [record for record in made_up_records(study) if record.run.arm.depth == 2][:13]
    with pytest.raises(UserError, match=r"13 of 32 runs .* ALLOW_MISSING=1"):
        publish.publish(study, found, [], tmp_path)
    assert not (tmp_path / "small").exists()
    assert len(list(tmp_path.iterdir())) == 1  # no scratch folder is left
    folder = publish.publish(study, found, [], tmp_path, allow_missing=True)
    assert "Runs missing: 19 of 32" in (folder / "verdicts.json").read_text("utf-8")
    assert published.read_manifest(folder)["runs"]["missing_in_report"] == 19


def test_a_publication_that_fails_at_its_end_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, scratch = tmp_path / "small", tmp_path / ".small.1"
    old.mkdir()
    scratch.mkdir()
    (old / "records").write_text("old")
    (scratch / "records").write_text("new")
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path == scratch:
            raise OSError("the disk went away")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="the disk went away"):
            publish._put_in_place(scratch, old)
    assert (old / "records").read_text() == "old"
    publish._put_in_place(scratch, old)
    assert (old / "records").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_what_probes_read_has_its_page_in_the_published_report(tmp_path: Path) -> None:
    study = small(tmp_path, probes=True)
    found = [
        replace(
            record,
            probes=tuple(
                Probe(step, 0, "network", "gradient_slope", 0.1 * (1 + record.run.seed))
                for step in (0, 100, record.steps)
            ),
        )
        for record in made_up_records(study)
    ]
    folder = publish.publish(study, found, [], tmp_path)
    assert (folder / "probes.parquet").exists()
    assert 'id="why-T' in (folder / "report.html").read_text(encoding="utf-8")


def test_costs_are_those_measured_and_survive_a_second_publication(tmp_path: Path) -> None:
    study = small(tmp_path)
    found = made_up_records(study)
    job = study.jobs()[0]
    benchmarks = tmp_path / "results/benchmarks/train"
    benchmarks.mkdir(parents=True)
    (benchmarks / f"{job.name}.tsv").write_text("s\tmax_rss\tcpu_time\n9.5\t700\t8.25\n")
    costs = publish.measured_costs(study, found, tmp_path / "results", tmp_path / "small")
    assert [(c.job, c.runs, c.processor_seconds) for c in costs] == [(job.name, 2, 8.25)]
    folder = put(found, tmp_path)
    publish.write_costs(costs, folder / "costs.csv")
    (folder / published.STUDY).write_text(study.as_yaml(), encoding="utf-8")
    published.write_sums(folder)
    (benchmarks / f"{job.name}.tsv").write_text("s\tmax_rss\tcpu_time\n9.5\t100\t7.25\n")
    assert publish.measured_costs(study, found, tmp_path / "results", folder) == costs
    (benchmarks / f"{job.name}.tsv").write_text("s\tmax_rss\tcpu_time\n0.5\t100\t0.05\n")
    assert publish.measured_costs(study, found, tmp_path / "results", tmp_path / "new") == []
    larger = replace(study, seeds_per_job=100)  # other jobs, the same runs
    assert job.name not in {job.name for job in larger.jobs()}
    assert publish.measured_costs(larger, found, tmp_path / "results", folder) == costs
    anew = [replace(r, cost=replace(r.cost, wall_seconds=1.0)) for r in found]
    assert publish.measured_costs(larger, anew, tmp_path / "results", folder) == []


@pytest.mark.parametrize(
    "damaged", ["", "job\n", "job,runs,seconds,processor_seconds,memory_mb\nj,x,1,1,1\nk\n", "\0"]
)
def test_damaged_costs_are_measured_anew(tmp_path: Path, damaged: str) -> None:
    study = small(tmp_path)
    found = made_up_records(study)
    folder = put(found, tmp_path)
    (folder / "costs.csv").write_text(damaged)
    assert publish.measured_costs(study, found, tmp_path / "results", folder) == []


@pytest.mark.parametrize("damaged", [None, "", "{", "[]", b"\xff"])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, damaged: str | bytes | None) -> None:
    if damaged is not None:
        content = damaged.encode() if isinstance(damaged, str) else damaged
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read .*`make publish`"):
        published.read_manifest(tmp_path)


# Taking them over


def test_restored_records_leave_only_the_missing_runs_to_train(tmp_path: Path) -> None:
    study = small(tmp_path)
    found = made_up_records(study)[:-1]
    folder = put(found, tmp_path)
    wider = replace(study, seeds=(*study.seeds, 4))
    done = published.restore(wider, [folder], tmp_path / "results")
    assert (done.runs, done.missing) == (31, 1 + 8)
    identity = {"code": records.code_hash(), "data": found[0].data_sha256}
    taken = {}
    for job in wider.jobs():
        hashes = {run.id: wider.config_hash(run.arm) for run in job.runs}
        for record in finished_runs(tmp_path / "results/checkpoints", job.name, identity, hashes):
            taken[record.run.id] = record
    whole = [record for record in found if record.run.id != study.runs()[-2].id]
    assert [taken[r.run.id] for r in whole] == whole
    assert len(taken) == 30
    again = published.restore(wider, [folder], tmp_path / "results")
    assert (again.runs, again.missing) == (0, done.missing)


def test_runs_are_taken_over_from_any_study_that_published_them(tmp_path: Path) -> None:
    study = small(tmp_path)
    first, second = (replace(study, seeds=(seed,)) for seed in study.seeds[:2])
    folders = [
        put(made_up_records(part), tmp_path / name)
        for part, name in ((first, "one"), (second, "two"))
    ]
    other = put(made_up_records(small(tmp_path, recipe={"width": 8})), tmp_path / "three")
    done = published.restore(replace(study, name="mine"), [*folders, other], tmp_path / "results")
    assert (done.runs, done.missing) == (2 * 8, 2 * 8)


def test_a_published_table_that_is_gone_is_named_with_what_to_do(tmp_path: Path) -> None:
    study = small(tmp_path)
    folder = put(made_up_records(study), tmp_path)
    (folder / "records.parquet").unlink()
    with pytest.raises(UserError, match=r"records\.parquet: cannot be read .*; fetch it again"):
        published.restore(study, [folder], tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_job_checks_the_data_of_restored_records(tmp_path: Path) -> None:
    study = small(tmp_path)
    folder = put(made_up_records(study), tmp_path)
    published.restore(study, [folder], tmp_path / "results")
    job = study.jobs()[0]
    hashes = {run.id: study.config_hash(run.arm) for run in job.runs}
    other = {"code": records.code_hash(), "data": "0" * 64}
    assert finished_runs(tmp_path / "results/checkpoints", job.name, other, hashes) == []


def test_nothing_is_restored_into_another_recipe(tmp_path: Path) -> None:
    folder = put(made_up_records(small(tmp_path)), tmp_path)
    other = small(tmp_path, recipe={"width": 8})
    with pytest.raises(UserError, match=r"no record is of a run of small .* nothing was changed"):
        published.restore(other, [folder], tmp_path / "results")
    assert not (tmp_path / "results").exists()


def lay(study: Study, found: list[Record], results: Path) -> None:
    """Records as the study's training jobs leave them."""
    by_run = {record.run.id: record for record in found}
    for job in study.jobs():
        mine = [by_run[run.id] for run in job.runs if run.id in by_run]
        records.write_records(results / "records" / f"{job.name}.jsonl", mine)


def test_records_that_are_there_are_not_touched(tmp_path: Path) -> None:
    study = small(tmp_path)
    found = made_up_records(study)
    job, results = study.jobs()[0], tmp_path / "results"
    mine = [replace(record, parameters=7) for record in found]
    lay(replace(study, seeds=study.seeds[:2]), mine, results)
    before = (results / "records" / f"{job.name}.jsonl").read_bytes()
    done = published.restore(study, [put(found, tmp_path)], results)
    assert (done.runs, done.missing) == (16, 0)
    assert (results / "records" / f"{job.name}.jsonl").read_bytes() == before
    assert not list((results / "checkpoints").glob(f"{job.name}.finished*"))


def test_records_of_other_code_or_data_stand_in_no_published_one_s_way(tmp_path: Path) -> None:
    study = small(tmp_path)
    found, results = made_up_records(study), tmp_path / "results"
    folder = put(found, tmp_path)
    lay(study, [replace(record, code_hash="f" * 16) for record in found], results)
    first, second = (finished_file(results / "checkpoints", j.name) for j in study.jobs()[:2])
    own = replace(found[0], parameters=7)
    records.write_records(first, [own, replace(found[1], data_sha256="0" * 64)])
    second.write_text(found[4].as_line() + "damaged\n", encoding="utf-8")
    data = {"sha256": found[0].data_sha256}
    records.write_text(tmp_path / "data/digits.json", json.dumps(data))
    done = published.restore(study, [folder], results)
    assert (done.runs, done.missing) == (30, 0)
    assert first.read_text(encoding="utf-8") == own.as_line() + found[1].as_line()
    assert len(second.read_text(encoding="utf-8").splitlines()) == 2
    records.write_text(tmp_path / "data/digits.json", json.dumps({"sha256": "1" * 64}))
    with pytest.raises(UserError, match="no record is of a run"):
        published.restore(study, [folder], results)


def test_a_study_s_own_records_are_taken_over_into_other_jobs(tmp_path: Path) -> None:
    study = small(tmp_path)
    results = tmp_path / "results"
    few = replace(study, seeds=study.seeds[:3])  # its last jobs hold one seed
    lay(few, made_up_records(few), results)
    before = {path.name for path in (results / "records").iterdir()}
    done = published.restore(study, [], results)
    assert (done.runs, done.missing) == (8, 8)
    regrouped = replace(study, arms_per_job=3)
    done = published.restore(regrouped, [], results)
    assert (done.runs, done.missing) == (24, 8)
    assert {path.name for path in (results / "records").iterdir()} == before


def test_what_is_not_published_is_one_line_that_lists_what_is(whole: Path) -> None:
    with pytest.raises(UserError, match=r"absent: no published results; .* has: small"):
        published.published_folder(str(whole), "absent")


def test_what_a_killed_publication_left_is_no_published_study(tmp_path: Path) -> None:
    for name in ("quick", ".quick.123"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.yaml").touch()
    assert [folder.name for folder in published.published_studies(tmp_path)] == ["quick"]
    with pytest.raises(UserError, match=r"has: quick$"):
        published.published_folder(str(tmp_path), "absent")
    left = ["git", "check-ignore", "-q", "report/published/.quick.123/study.yaml"]
    if (REPOSITORY / ".git").exists():
        assert subprocess.run(left, cwd=REPOSITORY, check=False).returncode == 0
