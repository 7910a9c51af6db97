"""The benchmarks still run: rehearsed with tiny numbers, and nothing is timed here."""

import csv
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bnorder import data
from bnorder.errors import UserError
from bnorder.publishing.speed import speed_page

GPU_OTHERS = ("captured", "plain", "tutorial")
OTHERS = ("floor", "tutorial_0", "tutorial_1", "ceiling")


def test_the_gpu_measurements_are_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    cache = tmp_path / "digits.pt"
    data.save(data.prepare("digits"), cache)
    command = [sys.executable, "benchmarks/gpu.py", "--rehearse", "--rounds", "2"]
    command += ["--data", str(cache), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {path.stem: list(csv.DictReader(path.open())) for path in tmp_path.glob("*.csv")}
    assert set(rows) == {"checks", "training", "replicas", "article"}
    same = [row for row in rows["checks"] if row["ours_against"] != "bf16"]
    assert same and all(float(row["max_accuracy_difference_pp"]) < 0.5 for row in same)
    assert all(float(row["relative_error"]) < 1e-4 for row in rows["replicas"])
    assert float(rows["training"][0]["ours_per_tutorial"]) > 0
    assert int(rows["article"][0]["runs"]) == 2


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks/gpu.py, imported."""
    monkeypatch.syspath_prepend("benchmarks")
    return importlib.import_module("gpu")


def test_rows_are_kept_when_the_measurements_are_cut(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(bench: object) -> Iterator[dict[str, int]]:
        yield {"first": 1}
        yield {"first": 2, "second": 3}
        raise KeyboardInterrupt

    data.save(data.prepare("digits"), tmp_path / "digits.pt")
    monkeypatch.setitem(gpu.PARTS, "checks", cut)
    words = ["--rehearse", "--only", "checks", "--data", str(tmp_path / "digits.pt")]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words, "--out", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    rows = list(csv.DictReader((tmp_path / "checks.csv").open()))
    assert [(row["first"], row["second"]) for row in rows] == [("1", ""), ("2", "3")]


def test_a_part_that_fails_does_not_cost_the_others(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(bench: object) -> Iterator[dict[str, int]]:
        yield {"first": 1}
        raise RuntimeError("unable to find an engine")

    def works(bench: object) -> Iterator[dict[str, int]]:
        yield {"second": 2}

    data.save(data.prepare("digits"), tmp_path / "digits.pt")
    monkeypatch.setitem(gpu.PARTS, "replicas", fails)
    monkeypatch.setitem(gpu.PARTS, "checks", works)
    words = ["--rehearse", "--only", "replicas", "checks", "--data", str(tmp_path / "digits.pt")]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words, "--out", str(tmp_path)])
    with pytest.raises(UserError, match="failed: replicas; the reasons stand above"):
        gpu.main()
    assert "unable to find an engine" in capsys.readouterr().err
    for part, column in (("replicas", "first"), ("checks", "second")):
        assert column in (tmp_path / f"{part}.csv").read_text()


def test_the_article_study_goes_on_from_the_records_that_a_cut_call_left(
    gpu: Any, tmp_path: Path
) -> None:
    bench = gpu.Bench(torch.device("cpu"), data.prepare("digits"), 1, True)
    bench.results = tmp_path
    assert [row["runs"] for row in gpu.article(bench)] == [2]
    assert [row["runs"] for row in gpu.article(bench)] == [0]


def test_a_tutorial_on_a_gpu_has_torch_as_it_comes(gpu: Any) -> None:
    gpu.Bench(torch.device("cpu"), data.prepare("digits"), 1, True)
    cudnn = torch.backends.cudnn
    assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)
    with gpu.as_torch_comes():
        assert (cudnn.allow_tf32, cudnn.deterministic) == (True, False)
    assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)


def test_another_data_set_is_measured_only_in_a_rehearsal(gpu: Any) -> None:
    digits, cpu = data.prepare("digits"), torch.device("cpu")
    with pytest.raises(UserError, match="--data holds digits; expected mnist, or --rehearse"):
        gpu.Bench(cpu, digits, 1, False)
    assert gpu.Bench(cpu, digits, 1, True).study.datasets == ("digits",)


@pytest.mark.parametrize(
    "card, known",
    [("NVIDIA H100 80GB HBM3", True), ("NVIDIA H100 PCIe", False), ("NVIDIA H200 NVL", False)],
)
def test_ceilings_are_those_of_the_very_card(gpu: Any, card: str, known: bool) -> None:
    bench = gpu.Bench(torch.device("cpu"), data.prepare("digits"), 1, True)
    bench.machine = {"device": card}
    assert ("share_of_bandwidth" in gpu.achieved(bench, bench.arms()[0], 1e6)) == known


def test_a_table_keeps_what_was_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend("benchmarks")
    tables = importlib.import_module("tables")
    out = tmp_path / "results" / "t.csv"

    def measured(device: str, **values: int) -> None:
        rows = [{"depth": int(depth[1:]), "value": value} for depth, value in values.items()]
        tables.write(out, rows, {"device": device}, ["depth"])

    measured("One CPU", d2=1, d5=2)
    measured("Another", d2=3)
    measured("One CPU", d5=4)
    rows = [tuple(row.values()) for row in csv.DictReader(out.open())]
    assert rows == [("2", "1", "One CPU"), ("2", "3", "Another"), ("5", "4", "One CPU")]


def test_only_the_named_candidates_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend("benchmarks")
    candidates = importlib.import_module("candidates")
    monkeypatch.setattr(candidates, "measure", lambda *measured: {"ratio": 1.5})
    out = tmp_path / "candidates.csv"
    monkeypatch.setattr(sys, "argv", ["", "--only", "bf16", "huge pages", "--out", str(out)])
    candidates.main()
    measured = [row["candidate"] for row in csv.DictReader(out.open())]
    assert measured == 4 * ["bf16"] + 4 * ["huge pages"]


def test_a_study_is_timed_in_an_empty_folder_only(tmp_path: Path) -> None:
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "mine").touch()
    command = [sys.executable, "benchmarks/study.py", "--run", "quick", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is not empty; expected a folder to make" in done.stderr


MACHINE = {"device": "A CPU", "torch": "2.0", "python": "3", "system": "Linux", "threads": "1"}


def write(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_convolutions_are_measured_beside_a_matrix_product(tmp_path: Path) -> None:
    out = tmp_path / "convolving.csv"
    command = [sys.executable, "benchmarks/convolving.py", "--rounds", "3", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.open()))
    assert [(row["size"], row["pass"], row["by"]) for row in rows] == [
        (size, name, by)
        for size in ("14", "7")
        for name in ("forward", "backward")
        for by in ("torch", "fused")
    ]
    assert all(0 < float(row["share_q1"]) <= float(row["share_q3"]) for row in rows)


def test_the_page_on_speed_says_what_the_tables_say_and_what_was_not_measured(
    tmp_path: Path,
) -> None:
    empty = speed_page(tmp_path)
    assert empty.count("*Not measured.*") == 7
    assert "It has not been run on a GPU yet" in empty
    folder = tmp_path / "benchmarks" / "results"
    ratios = {f"ours_per_{o}{q}": 2.5 for o in OTHERS for q in ("", "_q1", "_q3")}
    arm = {"ordering": "conv-bn-act", "activation": "relu", "depth": 2, "steps": 16}
    bare = arm | {"ordering": "conv-act"}
    old = {"ours": 3200.0} | ratios | MACHINE | {"device": "An old CPU"}
    fused = MACHINE | {"device": "A new CPU", "kernels": "fused 01234567"}
    new = arm | {"ours": 9600.0} | ratios | {"ours_per_tutorial_0": 4.5} | fused
    plain = arm | {"ours": 6400.0} | ratios | MACHINE
    deep = plain | {"depth": 5, "tutorial_0": 2500.0}
    write(folder / "training.csv", new | {"tutorial_0": 2500.0}, deep, plain, arm | old, bare | old)
    shares = {"gradient_torch": 2e-3, "gradient_fused": 3e-7}
    off = shares | {"statistics_torch": 5e-4, "statistics_fused": 1e-7}
    write(folder / "rounding.csv", arm | off | fused, bare | shares | fused)
    passes = [
        {"size": size, "pass": name, "by": by, "microseconds": microseconds, "share": 0.9}
        | {"share_q1": 0.8, "share_q3": 1.1}
        for size in (14, 7)
        for name in ("forward", "backward")
        for by, microseconds in (("torch", 10.0), ("fused", 6.0))
    ]
    write(folder / "convolving.csv", *(row | MACHINE for row in passes))
    failed = {"candidate": "torch.compile", "ratio": "", "ratio_q1": "", "ratio_q3": ""}
    write(folder / "candidates.csv", failed | arm | MACHINE)
    pairs = [{"arm": "an-arm", "seconds": 60, "ratio": ratio} for ratio in (1.01, 1.07, 1.2)]
    write(folder / "probing.csv", *pairs)
    part = {"study": "quick", "runs": 200, "jobs": 2, "wall_seconds": 71.2, "part": "evaluation"}
    write(folder / "study.csv", part | {"seconds": 3.14, "share": 0.25} | MACHINE)
    sizes = {"html_bytes": 700_000, "pdf_bytes": 300_000}
    scale = [{"runs": n, "stage": "collect", "seconds": n / 10, "peak_mb": 99} for n in (300, 9000)]
    write(folder / "scale.csv", *(row | sizes | MACHINE for row in scale))
    card = MACHINE | {"device": "A GPU"}
    seconds = {"wall_seconds": 58.4, "train_seconds": 44, "evaluate_seconds": 6.1}
    write(folder / "gpu" / "article.csv", {"runs": 300, "images_per_second": 1e6} | seconds | card)
    others = {f"ours_per_{o}{q}": 9.5 for o in GPU_OTHERS for q in ("", "_q1", "_q3")}
    shares = {"share_of_bandwidth": 0.35, "share_of_arithmetic": 0.125}
    write(
        folder / "gpu" / "training.csv",
        arm | {"ours": 2e6, "tutorial": 9e3} | others | shares | card,
    )
    way = {"way": "vmap", "size": 7, "replicas": 10, "relative_error": 2e-7}
    times = {"microseconds": 256.2, "microseconds_least": 255, "microseconds_most": 1257}
    write(folder / "gpu" / "replicas.csv", way | times | card)
    page = speed_page(tmp_path)
    assert "Not measured" not in page and "has not been run" not in page
    assert "*checks: not measured.*" in page
    for line in (
        "| conv-bn-act | relu | 2 | 6,400 |" + 4 * " 2.50 (2.50–2.50) |",
        "A CPU, torch 2.0. Over all arms, in turns of 16 steps: 2.50 times the floor (",
        "An old CPU, torch 2.0. Over all arms, in turns of 16 steps: 2.50 times the floor",
        "| conv-bn-act | relu | 2 | 3,200 |",
        "The aim of 4 times the tutorial is not met: it takes 400 % of the ceiling",
        "A new CPU, torch 2.0, fused 01234567. Over all arms, in turns of 16 steps: 2.5",
        "0.95 times the floor is met by 1 of 1 arms. The aim of 4 times the tutorial is met by all",
        "gradient off by 2.0e-03 with PyTorch's own kernels, 3.0e-07 with fused kernels.",
        "| conv-bn-act | relu | 2 | 2.0e-03 | 3.0e-07 | 5.0e-04 | 1.0e-07 |",
        "| conv-act | relu | 2 | 2.0e-03 | 3.0e-07 | - | - |",
        "without computing much. Without any BN it is 2.50 times.",
        "| torch.compile | did not run |",
        "**quick**: 200 runs in 2 jobs; 71 s from `make report` to the end; A CPU, torch 2.0.",
        "Outside training, evaluation and probes: 0.0 %.",
        "three of 7 x 7: 80 microseconds an image by PyTorch's kernels, 48 by ours. 4 times the",
        "would leave 100 to 100 for all of it",
        "| 14 x 14 | backward | fused | 6.0 | 0.90 (0.80–1.10) |",
        "| an-arm | 3 | 60 s | 1.070 (1.010–1.200) |",
        "| evaluation | 3.1 | 25.0 % |",
        "| collect | 30.0 s, 99 MB | 900.0 s, 99 MB |",
        "| HTML | 0.70 MB | 0.70 MB |",
        "**The article study**, 300 runs by `scripts/train_study.py`, took 58 s from the start",
        "A GPU, torch 2.0. 9.5 (9.5 to 9.5) times the captured, 9.5 (9.5 to 9.5) times the plain",
        "would be 35.0 (35.0 to 35.0) % of the card's bandwidth, and the convolutions are 12.5 (",
        "| conv-bn-act | relu | 2 | 2,000,000 | 9,000 |" + 3 * " 9.50 (9.50–9.50) |",
        "| vmap | 7 x 7 | 256 (255–1,257) | 2.0e-07 |",
    ):
        assert line in page, line
