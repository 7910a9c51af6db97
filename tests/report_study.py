"""Studies with made-up runs but the real analysis, for the tests of the report."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bnorder.statistics.analysis import analyse, load_inputs
from bnorder.study import Run, Study, load_study

STEPS = (0, 10, 20, 40, 60, 80, 100, 130, 160, 200, 250, 300, 400, 600, 1000)
FULL: dict[str, Any] = {
    "name": "full",
    "title": "Before or after, on made-up runs",
    "datasets": ["mnist"],
    "orderings": ["bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn", "conv-act"],
    "activations": ["relu", "elu"],
    "depths": [2, 5],
    "seeds": 6,
    "thresholds": [90, 97],
}
POOR: dict[str, Any] = {
    "name": "poor",
    "title": "<script>alert('title')</script> & \"quotes\"",
    "datasets": ["digits"],
    "orderings": ["conv-bn-act", "conv-act-bn"],
    "activations": ["relu"],
    "depths": [2],
    "seeds": 2,
    "thresholds": [99],
}
WIDE: dict[str, Any] = {
    "name": "wide",
    "title": "",
    "datasets": ["mnist", "folder:/somewhere/<b>images</b>"],
    "orderings": [
        "bn-act-conv",
        "act-conv-bn",
        "conv-bn-act",
        "act-bn-conv",
        "bn-conv-act",
        "conv-act-bn",
        "conv-act",
        "conv",
    ],
    "activations": ["relu", "leaky_relu-0.1", "tanh", "gelu", "identity"],
    "depths": [1, 20],
    "seeds": 2,
    "variants": {"base": {}, "stride": {"downsampling": "stride"}},
}


def make_study(
    folder: Path,
    raw: Mapping[str, Any],
    *,
    drop: int = 0,
    diverge: int = 0,
    effect: float = 0.3,
    explore: bool = True,
) -> Path:
    """Write study.yaml, tables/ and analysis/ of a study whose runs are drawn at random.

    drop: runs left out; diverge: runs that stopped at 10 %; effect: how much BN-act-conv gains.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source.yaml"
    source.write_text(yaml.safe_dump(dict(raw)), encoding="utf-8")
    study = load_study(source)
    (folder / "study.yaml").write_text(study.as_yaml(), encoding="utf-8")
    rng = np.random.default_rng(1)
    rows, curves = [], []
    for i, run in enumerate(study.runs()):
        row, curve = _run(study, run, rng, effect, diverged=i < diverge)
        rows.append(row)
        curves += curve
    kept = rows[: len(rows) - drop] if drop else rows
    names = {row["run"] for row in kept}
    tables = folder / "tables"
    tables.mkdir(exist_ok=True)
    pd.DataFrame(kept).to_parquet(tables / "runs.parquet")
    frame = pd.DataFrame(curves)
    frame[frame["run"].isin(names)].to_parquet(tables / "curves.parquet")
    missing = [row["run"] for row in rows if row["run"] not in names]
    _write_missing(tables, rows, kept, missing)
    inputs = load_inputs(tables / "runs.parquet", study=folder / "study.yaml")
    analyse(
        inputs,
        folder / "analysis",
        curves=tables / "curves.parquet" if explore else None,
        resamples=20,
        explore=explore,
    )
    return folder


def _write_missing(tables: Path, rows: list[Any], kept: list[Any], missing: list[str]) -> None:
    import json

    said = {"expected": len(rows), "present": len(kept), "missing": missing}
    (tables / "missing.json").write_text(json.dumps(said), encoding="utf-8")


def _run(
    study: Study, run: Run, rng: np.random.Generator, effect: float, *, diverged: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from bnorder.ordering import Ordering

    arm = run.arm
    ordering = Ordering(arm.ordering)
    n_test = 360 if arm.dataset == "digits" else 10_000
    gain = effect * (arm.ordering == "bn-act-conv") - 0.8 * (ordering.bn_class == "none")
    final = 10.0 if diverged else 98.4 + gain + 0.1 * min(arm.depth, 5) + rng.normal(0, 0.1)
    shared = {
        "run": run.id,
        "dataset": arm.dataset,
        "ordering": arm.ordering,
        "bn_class": ordering.bn_class,
        "cut": ordering.cut,
        "activation": arm.activation,
        "depth": arm.depth,
        "variant": arm.variant,
        "seed": run.seed,
    }
    curve, slow = [], float(rng.uniform(2, 25))
    for step in STEPS:
        correct = round(n_test * (10 + (final - 10) * step / (step + slow)) / 100)
        correct = round(n_test * final / 100) if step == STEPS[-1] else correct
        curve.append(shared | {"step": step, "epoch": step / 400, **_scores(correct, n_test)})
    last = curve[-1]
    first = {t: [c["step"] for c in curve if c["test_accuracy_pp"] >= t] for t in study.thresholds}
    row = shared | {
        "status": "diverged" if diverged else "finished",
        "diverged_step": 50.0 if diverged else np.nan,
        **{k: last[k] for k in ("n_test", "test_correct", "test_accuracy_pp", "test_loss")},
        "train_accuracy_pp": 99.0,
        "train_loss": 0.02,
        "test_error_area": 5.0 - gain + rng.normal(0, 0.1),
        "steps": STEPS[-1],
        "parameters": 20_000,
        **{f"steps_to_{t:g}": float(s[0]) if s else np.nan for t, s in first.items()},
        "wall_seconds": 20.0,
        "train_seconds": 17.0,
        "evaluate_seconds": 3.0,
        "images_per_second": 15_000.0,
        "threads": 1,
        "device": "cpu",
        "torch": "2.9.0",
        "config_hash": study.config_hash(arm),
        "code_hash": "c0de" * 4,
        "data_sha256": "da7a" * 16,
    }
    return row, curve


def _scores(correct: int, n_test: int) -> dict[str, Any]:
    accuracy = 100 * correct / n_test
    scores = {"n_test": n_test, "test_correct": correct, "test_accuracy_pp": accuracy}
    return scores | {"test_loss": 0.05, "train_accuracy_pp": accuracy, "train_loss": 0.05}


@functools.cache
def studies() -> Path:
    """A folder for the studies below, gone when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="bnorder-report-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def rendered_study(name: str) -> Path:
    """One of three studies with its report, made once a process: `full`, `poor` or `wide`."""
    made: dict[str, Any] = {
        "full": (FULL, {"diverge": 2}),
        "poor": (POOR, {"drop": 1, "diverge": 1, "explore": False}),
        "wide": (WIDE, {"effect": 0.0, "explore": False}),
    }
    raw, how = made[name]
    return rendered(make_study(studies() / name, raw, **how))


@functools.cache
def report_of(name: str) -> Path:
    """report.html of one of the three studies, its Chinese one for `full.zh`; the PDF is beside."""
    study, _, lang = name.partition(".")
    folder = rendered_study(study)
    if lang:
        rendered(folder, lang)
    return folder / "report" / f"report{'.' * bool(lang)}{lang}.html"


def rendered(folder: Path, lang: str = "en") -> Path:
    """Render the report of a study's folder into it; return the folder."""
    from bnorder.report.document import render

    parts = (folder / "study.yaml", folder / "tables", folder / "analysis", folder / "report")
    render(*parts, lang=lang)
    return folder
