"""Simulated studies, to see whether the method does what it says."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from bnorder.contrasts import describe
from bnorder.study import Arm

Effect = Callable[[Arm], float]


def simulated_runs(
    axes: Mapping[str, tuple[str | int, ...]],
    rng: np.random.Generator,
    *,
    seeds: int = 10,
    n_test: int = 10_000,
    sd_seed: float = 0.08,
    sd_run: float = 0.1,
    base: float = 98.9,
    effect: Effect = lambda arm: 0.0,
) -> pd.DataFrame:
    """A table of runs as this workflow's own would be: accuracy = base + effect + seed + run.

    sd_seed is shared by all runs of a seed (so pairing pays), sd_run is each run's own; points.
    Accuracies are whole counts out of n_test. Columns as in tables/runs.parquet.
    """
    arms = [
        Arm(str(d), str(o), str(a), int(p), str(v))
        for d in axes["dataset"]
        for o in axes["ordering"]
        for a in axes["activation"]
        for p in axes["depth"]
        for v in axes.get("variant", ("base",))
    ]
    shared = rng.normal(0, sd_seed, size=seeds)
    rows = []
    for arm in arms:
        noise = rng.normal(0, sd_run, size=seeds)
        accuracy = np.clip(base + effect(arm) + shared + noise, 0, 100)
        for seed in range(seeds):
            rows.append(_row(arm, seed, float(accuracy[seed]), n_test, rng))
    return pd.DataFrame(rows)


def _row(
    arm: Arm, seed: int, accuracy: float, n_test: int, rng: np.random.Generator
) -> dict[str, object]:
    correct = round(accuracy / 100 * n_test)
    error = 100 - 100 * correct / n_test
    area = max(0.0, error + 3.0 + rng.normal(0, 0.2))
    scale = 60 + 40 * area
    steps = {t: float(round(scale * k + abs(rng.normal(0, 30)))) for t, k in STEPS.items()}
    reached = {f"steps_to_{t}": s if s <= 2345 else np.nan for t, s in steps.items()}
    return {
        "run": f"{arm.id}.s{seed}",
        **describe(arm.ordering),
        **{"dataset": arm.dataset, "ordering": arm.ordering, "activation": arm.activation},
        **{"depth": arm.depth, "variant": arm.variant, "seed": seed},
        **{"status": "finished", "diverged_step": np.nan, "n_test": n_test},
        "test_correct": correct,
        "test_accuracy_pp": 100 * correct / n_test,
        "test_loss": error / 30 + rng.normal(0, 0.002),
        "train_accuracy_pp": min(100.0, accuracy + 0.6),
        "train_loss": error / 60,
        "test_error_area": area,
        "steps": 2345,
        "parameters": 10_000 * arm.depth,
        **reached,
        "wall_seconds": 20.0 + rng.normal(),
        "train_seconds": 17.0,
        "evaluate_seconds": 3.0,
        "images_per_second": 15_000.0,
        "threads": 1,
        **{"device": "cpu", "torch": "2.9.0", "config_hash": "0" * 16, "code_hash": "0" * 16},
        "data_sha256": "0" * 64,
    }


STEPS = {97: 1.0, 98: 2.5, 99: 12.0}
