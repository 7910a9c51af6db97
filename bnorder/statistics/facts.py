"""Counts, sums and provenance of a study, computed once so that the report computes nothing."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bnorder.claims import ACCURACY, AXES
from bnorder.statistics.contrasts import Grid
from bnorder.statistics.estimates import smallest_p
from bnorder.statistics.verdicts import LEVEL
from bnorder.study import Arm

# Watts at the wall under load, for an estimate that no meter has checked: a desktop's share a
# busy thread, and a data-centre GPU with its host.
WATTS_A_THREAD = 15.0
WATTS_A_GPU = 400.0
GPU = re.compile(r"NVIDIA|GeForce|Tesla|Quadro|RTX|Radeon|Instinct", re.IGNORECASE)
MADE_BY = ("python", "torch", "system", "device", "threads", "kernels", "code_hash")


def facts(
    runs: pd.DataFrame,
    grid: Grid,
    missing: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
    model: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """facts.json: what the report says of the runs beside the verdicts.

    tables: the exploration's, by name, as far as there are any; model: the mixed model's file.
    Durations in seconds, minutes and hours, energy in watt-hours and kilowatt-hours.
    """
    return {
        "grid": _grid(grid),
        "runs": counts(runs, missing),
        "test_images": _first(runs, "dataset", "n_test"),
        "training_images": _first(runs, "dataset", "n_train"),
        "cost": cost(runs),
        "made_by": {c: _values(runs, c) for c in MADE_BY},
        "data": _first(runs, "dataset", "data_sha256"),
        "configurations": _by_arm(runs, "config_hash"),
        "parameters": _by_arm(runs, "parameters"),
        "exploration": _exploration(tables, model or {}),
        "convergence": _convergence(tables.get("survival_summary")),
    }


def _grid(grid: Grid) -> dict[str, Any]:
    sizes = {axis: len(grid.values(axis)) for axis in AXES}
    seeds = len(grid.seeds)
    return {
        **sizes,
        "panels": sizes["activation"] * sizes["depth"],
        "arms": math.prod(sizes.values()),
        "seeds": seeds,
        "first_seed": min(grid.seeds),
        "last_seed": max(grid.seeds),
        "depths": list(grid.depth),
        "runs": math.prod(sizes.values()) * seeds,
        "smallest_p": smallest_p(seeds),
    }


def counts(runs: pd.DataFrame, missing: Sequence[str]) -> dict[str, int]:
    """How many runs there should be, are there, are missing, and diverged."""
    status = runs.get("status")
    return {
        "expected": len(runs) + len(missing),
        "present": len(runs),
        "missing": len(missing),
        "diverged": 0 if status is None else int((status == "diverged").sum()),
    }


def cost(runs: pd.DataFrame) -> dict[str, Any] | None:
    """Machine time of all runs together, and an estimate of the energy; None where not recorded."""
    if "wall_seconds" not in runs or not len(runs):
        return None
    seconds = float(runs["wall_seconds"].sum())
    found: dict[str, Any] = {
        "seconds": seconds,
        "minutes": seconds / 60,
        "hours": seconds / 3600,
    }
    if "images_per_second" in runs:
        speed = runs["images_per_second"].to_numpy(dtype=float)
        speed = speed[np.isfinite(speed)]
        found["images_per_second"] = float(np.median(speed)) if len(speed) else None
    if {"device", "threads"} <= set(runs.columns):
        watts = [_watts(str(d), float(t)) for d, t in zip(runs.device, runs.threads, strict=True)]
        hours = float((np.array(watts) * runs["wall_seconds"].to_numpy()).sum()) / 3600
        if math.isfinite(hours):  # else a run does not say how long, or on how many threads
            found |= {"watt_hours": hours, "kilowatt_hours": hours / 1000}
            found |= {"watts_a_thread": WATTS_A_THREAD, "watts_a_gpu": WATTS_A_GPU}
            found["on_gpu"] = any(GPU.search(str(d)) for d in set(runs.device))
    return found


def _watts(device: str, threads: float) -> float:
    return WATTS_A_GPU if GPU.search(device) else WATTS_A_THREAD * threads


def _values(runs: pd.DataFrame, column: str) -> list[str]:
    if column not in runs:
        return []
    return sorted({str(_whole(v)) for v in runs[column].dropna()})


def _first(runs: pd.DataFrame, key: str, column: str) -> dict[str, Any]:
    if column not in runs:
        return {}
    known = runs.dropna(subset=[column])
    return {str(k): _whole(v) for k, v in known.groupby(key, sort=True)[column].first().items()}


def _by_arm(runs: pd.DataFrame, column: str) -> dict[str, Any]:
    if column not in runs:
        return {}
    first = runs.drop_duplicates(list(AXES))
    cells = first[list(AXES)].itertuples(index=False, name=None)
    return {Arm(*cell).id: _whole(v) for cell, v in zip(cells, first[column], strict=True)}


def _whole(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return int(value) if float(value).is_integer() else float(value)
    return int(value) if isinstance(value, np.integer) else value


def _exploration(tables: Mapping[str, pd.DataFrame], model: Mapping[str, Any]) -> dict[str, Any]:
    """How many rows of each table there are, and in how many of them an effect is clear."""
    found: dict[str, Any] = {}
    for name in ("pairwise", "logrank"):
        table = tables.get(name)
        if table is not None and len(table):
            used = table[table["variant"] == "base"] if name == "pairwise" else table
            clear = int((used["p_holm"] < LEVEL).sum())
            found[name] = {"rows": len(used), "clear": clear}
    classes = tables.get("class_cut")
    if classes is not None and len(classes):
        rows = classes[(classes.effect == "class") & (classes.measure == ACCURACY)]
        rows = rows[rows.variant == "base"]
        found["class_effect"] = _clear(rows.ci_low, rows.ci_high)
    effects = pd.DataFrame(model.get("effects", []))
    if len(effects):
        effects = effects[effects.term != "mean"]
        found["mixed_model"] = _clear(effects.ci_low, effects.ci_high)
    return found


def _clear(low: pd.Series, high: pd.Series) -> dict[str, int]:
    return {"rows": len(low), "clear": int(((low > 0) | (high < 0)).sum())}


def _convergence(summary: pd.DataFrame | None) -> list[dict[str, Any]]:
    """One entry a data set and threshold: in how many arms every run got there, or none did.

    known: arms with a median; fastest, slowest: those that share the least and the greatest one.
    """
    if summary is None:
        return []
    used = summary[summary["variant"] == "base"]
    return [
        {
            "dataset": str(dataset),
            "threshold": float(str(threshold)),
            "arms": len(group),
            "every": int((group["reached"] == group["n"]).sum()),
            "none": int((group["reached"] == 0).sum()),
            "known": int(group["median_steps"].notna().sum()),
            "fastest": int((group["median_steps"] == group["median_steps"].min()).sum()),
            "slowest": int((group["median_steps"] == group["median_steps"].max()).sum()),
        }
        for dataset, of_dataset in used.groupby("dataset", sort=True)
        for threshold, group in of_dataset.groupby("threshold", sort=True)
    ]
