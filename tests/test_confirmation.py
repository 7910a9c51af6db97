"""Runs trained again: which are drawn, what is changed, and that a difference is seen."""

import json
import os
import runpy
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from made_up_records import made_up_records

from bnorder.errors import UserError
from bnorder.locks import hold_study
from bnorder.publishing import confirmation
from bnorder.publishing.readme import Published, spread
from bnorder.records import Record, code_hash
from bnorder.study import Study, load_study

TINY = {
    "name": "tiny",
    "datasets": ["digits"],
    "orderings": ["bn-act-conv", "act-bn-conv"],
    "activations": ["relu"],
    "depths": [1],
    "seeds": 3,
    "seeds_per_job": 2,
    "recipe": {"epochs": 1, "train_images": 128, "width": 4, "batch_size": 32},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Study:
    path = tmp_path_factory.mktemp("study") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return load_study(path)


@pytest.fixture(scope="module")
def trained(tiny: Study) -> list[Record]:
    import torch

    from bnorder import data, jobs

    torch.set_num_threads(1)
    return jobs.train_job(tiny, tiny.jobs()[0], data.prepare("digits"))


def test_as_many_arms_as_there_are_runs_are_drawn(tiny: Study) -> None:
    records = made_up_records(tiny)
    drawn = confirmation.draw(records, 3)
    assert drawn == confirmation.draw(records, 3)
    assert len({record.run.arm for record in drawn[:2]}) == 2
    assert len(drawn) == len({record.run.id for record in drawn}) == 3
    assert len(confirmation.draw(records, 100)) == len(records)


def test_a_run_comes_out_again_and_a_falsified_one_does_not(
    tiny: Study, trained: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # its data cache lies in results/
    last = trained[1].curve[-1]
    wrong = replace(last, test_correct=last.test_correct - 3)
    false = replace(trained[1], curve=(*trained[1].curve[:-1], wrong))
    path = tmp_path / confirmation.FOLDER / "tiny.csv"
    records = [trained[0], false]
    old = confirmation._held(trained[0], false, "again", 1)
    confirmation._write(path, [replace(old, run="gone", record="0" * 16)])  # of a record of old
    standing = confirmation.standing(path, records)
    planned = confirmation.plan(tiny, records, records, standing, ["again"])
    rows = [row for new in confirmation.confirm(tiny, planned, standing, path, 2) for row in new]
    rows.sort(key=lambda row: row.run)
    assert [row.same_curve for row in rows] == [True, False]
    assert [row.correct_again - row.correct for row in rows] == [0, 3]
    assert sorted(confirmation.read(path), key=lambda row: row.run) == rows
    standing = confirmation.standing(path, records)
    assert confirmation.plan(tiny, records, records, standing, ["again"]) == []
    said = spread(tmp_path, [])
    assert "| `tiny` | as it was, on the same kind of processor | 2 | 1 |" in said


def test_one_thing_is_changed_at_a_time(tiny: Study, trained: list[Record]) -> None:
    first = trained[0]
    was = confirmation._changed(first, "again")
    assert was == confirmation.How("cpu", 1, first.cost.replicas, first.provenance.kernels)
    other = confirmation._changed(first, "other_threads")
    assert other == replace(was, threads=2)
    kernels = confirmation._changed(first, "other_kernels")
    if confirmation.kernels_here("cpu") != "torch":  # a machine without a compiler has no others
        assert kernels and {kernels.kernels, was.kernels} > {"torch"}
        assert kernels == replace(was, kernels=kernels.kernels)
    packed = replace(first, cost=replace(first.cost, replicas=2))
    assert confirmation._changed(packed, "alone") == replace(was, together=1)
    assert confirmation._changed(packed, "packed") is None
    assert confirmation._changed(first, "other_machine") is None


def test_on_another_machine_nothing_else_is_changed(tiny: Study, trained: list[Record]) -> None:
    elsewhere = replace(trained[0].provenance, device="A processor of old")
    first = replace(trained[0], provenance=elsewhere)
    found = {c: confirmation._changed(first, c) for c in confirmation.CONDITIONS}
    expected = confirmation.How("cpu", 1, first.cost.replicas, first.provenance.kernels)
    assert {c: how for c, how in found.items() if how} == {"other_machine": expected}


def test_runs_of_a_gpu_are_trained_again_with_its_kernels_or_on_the_cpu_with_its_own(
    tiny: Study, trained: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    def device_here(kind: str) -> str:
        return "NVIDIA H200" if kind == "cuda" else "A CPU"

    def kernels_here(kind: str) -> str:
        return "fused 0000cuda" if kind == "cuda" else "fused 00000cpu"

    monkeypatch.setattr(confirmation, "device_here", device_here)
    monkeypatch.setattr(confirmation, "kernels_here", kernels_here)
    made_by = {"device": "NVIDIA H200", "kernels": "fused 0000cuda"}
    first = replace(trained[0], provenance=replace(trained[0].provenance, **made_by))
    was = confirmation.How("cuda", 1, first.cost.replicas, "fused 0000cuda")
    assert confirmation._changed(first, "again") == was
    assert confirmation._changed(first, "other_kernels") == replace(was, kernels="torch")
    cpu = replace(was, device="cpu", kernels="fused 00000cpu")
    assert confirmation._changed(first, "other_device") == cpu
    older = replace(first, provenance=replace(first.provenance, kernels="fused 0000past"))
    assert confirmation._changed(older, "again") is None


def test_what_a_reader_has_trained_is_held_to_what_is_published(
    tiny: Study, trained: list[Record], tmp_path: Path
) -> None:
    first, second = trained
    last = second.curve[-1]
    curve = (*second.curve[:-1], replace(last, test_correct=last.test_correct + 4))
    cost = replace(second.cost, wall_seconds=1.0)
    there = replace(second.provenance, device="A processor of old")
    published = [first, replace(second, curve=curve, cost=cost, provenance=there)]
    path = tmp_path / "tiny.csv"
    (row,) = confirmation.hold(trained, published, [], path)  # the first is its own record
    assert confirmation.read(path) == [row]
    assert (row.run, row.condition) == (second.run.id, "other_machine")
    assert (row.correct - row.correct_again, row.same_curve) == (4, False)
    kept = replace(row, run="another")
    confirmation.hold(trained, published, [kept], path)
    assert confirmation.read(path) == [kept, row]


def test_a_folder_without_the_studys_records_is_refused(tmp_path: Path) -> None:
    for folder, said in (
        (tmp_path, "has no record of a run of quick"),
        (tmp_path / "x", "no folder"),
    ):
        command = [sys.executable, "scripts/confirm.py", "study=quick", "--trained", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "condition, provenance, replicas",
    [
        ("again", {}, 1),
        ("other_machine", {"device": "A processor of old"}, 1),
        ("other_device", {"device": "NVIDIA H100"}, 1),
        ("other_device", {"device": "NVIDIA H200", "torch": "1.0", "kernels": "fused 01"}, 10),
        ("other_threads", {"threads": 2}, 1),
        ("other_kernels", {"kernels": "fused 0123abcd"}, 1),
        ("packed", {}, 2),
        ("", {"threads": 2}, 2),
        ("", {"torch": "1.0"}, 1),
    ],
)
def test_a_run_is_compared_under_the_one_thing_that_was_different(
    trained: list[Record], condition: str, provenance: dict[str, str | int], replicas: int
) -> None:
    first = trained[0]
    how = replace(first.provenance, **provenance)  # type: ignore[arg-type]
    again = replace(first, provenance=how, cost=replace(first.cost, replicas=replicas))
    assert confirmation.condition_of(again, first) == condition
    if condition == "packed":
        assert confirmation.condition_of(first, again) == "alone"


@pytest.mark.parametrize("other", ["config_hash", "code_hash", "data_sha256"])
def test_another_run_is_not_compared(trained: list[Record], other: str) -> None:
    first = trained[0]
    assert confirmation.condition_of(replace(first, **{other: "0" * 16}), first) == ""  # type: ignore[arg-type]


def test_records_of_another_torch_or_of_other_images_are_not_trained_again(
    tiny: Study, trained: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = trained[0]
    old = replace(first, provenance=replace(first.provenance, torch="1.0"))
    assert not any(confirmation._changed(old, c) for c in confirmation.CONDITIONS)
    said = confirmation.left_to_train([old], [], [], tmp_path / "tiny.csv")
    assert f"(torch {confirmation.torch_here()} here, 1.0 there)" in said
    other = replace(first, data_sha256="0" * 64)
    training = confirmation.Training(
        (first.run,), "again", confirmation.How("cpu", 1, 1, "torch"), (other,)
    )
    with pytest.raises(UserError, match="other images than those of the published runs"):
        confirmation.compare(tiny, training)


def in_packs(study: Study, *sizes: int) -> list[Record]:
    """Made-up records of a study's first arm, its seeds in networks of these sizes."""
    replicas = [size for size in sizes for _ in range(size)]
    records = [r for r in made_up_records(study) if r.run.arm == study.arms()[0]]
    return [
        replace(record, cost=replace(record.cost, replicas=size))
        for record, size in zip(records, replicas, strict=True)
    ]


def seeds_with(study: Study, records: list[Record], seed: int, together: int) -> list[int]:
    published = {record.run: record for record in records}
    pack = confirmation.pack_of(study, records[seed], together, published)
    return [run.seed for run in pack]


def test_packs_are_those_of_the_jobs(tiny: Study) -> None:
    records = in_packs(tiny, 2, 1)  # seed 2 is alone in its job
    assert seeds_with(tiny, records, 1, 2) == [0, 1]
    assert seeds_with(tiny, records, 2, 1) == [2]
    assert seeds_with(tiny, records, 1, 1) == [1]


def test_packs_are_those_of_a_whole_study_in_one_process(tiny: Study) -> None:
    assert seeds_with(tiny, in_packs(tiny, 3), 1, 3) == [0, 1, 2]  # more than a job has
    five = replace(tiny, seeds=(0, 1, 2, 3, 4))
    assert seeds_with(five, in_packs(five, 3, 2), 4, 2) == [3, 4]  # of two jobs


def test_a_pack_that_is_not_known_is_passed_over_and_said(
    tiny: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    from bnorder import jobs

    here = replace(jobs.provenance(jobs.pick_device()), threads=1)
    records = [
        replace(record, code_hash=code_hash(), provenance=here) for record in in_packs(tiny, 3)
    ][:2]  # the third is not published
    assert confirmation.plan(tiny, records, records, [], ["again"]) == []
    said = capsys.readouterr().out
    assert f"{records[0].run.id}: passed over; which 3 seeds were one network" in said
    alone = confirmation.plan(tiny, records, records, [], ["alone"])
    assert [[run.seed for run in training.runs] for training in alone] == [[0], [1]]


def test_what_another_machine_compared_is_not_done_here(
    tiny: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(rows: list[confirmation.Comparison]) -> tuple[int, str]:
        planned = confirmation.plan(tiny, records, records, rows, confirmation.CONDITIONS)
        return len(planned), confirmation.left_to_train(records, planned, rows, path)

    path, here = tmp_path / "tiny.csv", confirmation.device_here("cpu")
    monkeypatch.setattr(confirmation, "device_here", lambda kind: here if kind == "cpu" else "")
    records = [
        replace(
            record,
            code_hash=code_hash(),
            provenance=replace(
                record.provenance,
                device="A processor of old",
                threads=1,
                torch=confirmation.torch_here(),
            ),
        )
        for record in in_packs(tiny, 2, 1)
    ]
    mine = [
        replace(confirmation._held(r, r, "other_machine", r.cost.replicas), device=here)
        for r in records
    ]
    theirs = [replace(row, device="A third processor") for row in mine]
    number, said = plan(theirs)
    assert (number, said) == (2, f"3 of 3 runs are left to train on {here}, in 2 trainings")
    number, said = plan([*theirs, mine[2]])
    assert (number, said[:6]) == (1, "2 of 3")
    number, said = plan(mine)
    assert number == 0
    assert said.startswith(f"0 of 3 runs are left to train on {here}: {path} has them")
    assert len({confirmation._key(row) for row in [*mine, *theirs]}) == 6  # neither is lost


def test_records_of_other_code_are_refused(tiny: Study) -> None:
    other = replace(made_up_records(tiny)[0], code_hash="f" * 16)
    with pytest.raises(UserError, match="was trained by other code"):
        confirmation.plan(tiny, [other], [other], [], ["again"])


def test_seeds_of_one_network_are_trained_once_and_all_compared(tmp_path: Path) -> None:
    from bnorder import jobs

    path = tmp_path / "packed.yaml"
    path.write_text(yaml.safe_dump({**TINY, "name": "packed", "seeds_together": 2}))
    study = load_study(path)
    here = replace(jobs.provenance(jobs.pick_device()), threads=1)
    records = [
        replace(record, code_hash=code_hash(), provenance=here) for record in in_packs(study, 2, 1)
    ]
    planned = confirmation.plan(study, records[:2], records, [], ["again"])
    assert [[run.seed for run in training.runs] for training in planned] == [[0, 1]]
    assert [record.run for record in planned[0].published] == list(planned[0].runs)
    planned = confirmation.plan(study, records[:2], records, [], ["alone"])
    assert [[run.seed for run in training.runs] for training in planned] == [[0], [1]]


def test_only_the_projects_own_table_is_said_to_reach_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bnorder.publishing import published

    (script,) = (REPOSITORY / "scripts").glob("confirm.py")
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.chdir(tmp_path)
    for name in ("report", "claims", "workflow"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    for function, made in (("plan", [None]), ("left_to_train", ""), ("confirm", [])):
        monkeypatch.setattr(confirmation, function, lambda *_, made=made: made)
    monkeypatch.setattr(published, "published_records", lambda *_: [])
    monkeypatch.setattr(confirmation, "draw", lambda *_: [])
    for words, said in (([], "README.md says so"), (["--out", "rows"], "quick.csv is complete\n")):
        monkeypatch.setattr(sys, "argv", ["confirm.py", *words])
        runpy.run_path(str(script), run_name="__main__")
        assert said in capsys.readouterr().out


POOL = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from bnorder.publishing.confirmation import _end_with_the_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), _end_with_the_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def test_a_worker_ends_with_its_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "pool.py")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        worker = Path(f"/proc/{parent.stdout.readline().strip()}")
        assert worker.exists()
        parent.kill()
    for _ in range(300):
        if not (worker / "exe").exists():  # gone, or a zombie that nobody has fetched
            return
        time.sleep(0.1)
    pytest.fail(f"{worker} goes on")


def confirm(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(REPOSITORY / "scripts/confirm.py"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_an_unpublished_study_is_one_line() -> None:
    done = confirm(REPOSITORY, "study=absent")
    assert done.returncode == 2
    assert "report/published/absent: no published results" in done.stderr


def test_a_study_that_is_being_confirmed_is_not_confirmed_beside(tmp_path: Path) -> None:
    for name in ("report", "claims", "workflow"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    with hold_study(tmp_path / "results/confirmation/quick"):
        done = confirm(tmp_path, "study=quick", "--out", "rows")
    assert done.returncode == 2
    assert "another run of this study is at work" in done.stderr
    assert not (tmp_path / "rows").exists()


def test_verdicts_of_runs_that_were_all_trained_anew_are_told_beside_the_published_ones(
    trained: list[Record], tmp_path: Path
) -> None:
    anew = [replace(r, cost=replace(r.cost, wall_seconds=1.0)) for r in trained]
    assert confirmation.is_anew(anew, trained)
    assert not confirmation.is_anew([anew[0], trained[1]], trained)
    assert not confirmation.is_anew(anew[:1], trained)

    words = {"E1": "supported", "E2": "negligible", "T2": "not tested"}
    mine = words | {"E2": "contradicted"}
    claims = [{"id": k, "verdict": v, "too_small": False} for k, v in words.items()]
    again = [{"id": k, "verdict": v, "too_small": k == "E2"} for k, v in mine.items()]
    own = tmp_path / "verdicts.json"
    own.write_text(json.dumps({"verdicts": again}))
    path = tmp_path / confirmation.FOLDER / "tiny.json"
    rows = [confirmation._held(anew[0], trained[0], "again", 1)]
    confirmation._write(path.with_suffix(".csv"), rows)
    for device in ("A GPU", "Another"):
        made_by = replace(anew[0].provenance, device=device)
        confirmation.keep_verdicts(own, [replace(r, provenance=made_by) for r in anew], path)
    published = Published(tmp_path / "tiny", {}, {"verdicts": claims})
    said = spread(tmp_path, [published])
    assert "trained again on A GPU, same seeds and images, give 1 of 2 tested claims the" in said
    assert said.count("not E2 (negligible, then contradicted, and too small to matter), which") == 2
    own.write_text(json.dumps({"verdicts": claims}))
    confirmation.keep_verdicts(own, [replace(anew[0], provenance=made_by)], path)
    said = spread(tmp_path, [published])
    assert "on Another, same seeds and images, give 2 of 2 tested claims the same verdict." in said
