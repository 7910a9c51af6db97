"""What made the runs and what they cost, summed up from the run table alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bnorder.results import Num, Results, Table


@dataclass(frozen=True)
class Provenance:
    """Values that the runs share (several when they differ), and their cost."""

    torch: tuple[str, ...]
    devices: tuple[str, ...]
    threads: tuple[str, ...]
    code_hashes: tuple[str, ...]
    data: tuple[tuple[str, str], ...]  # data set, checksum
    configs: tuple[tuple[str, str], ...]  # arm, configuration hash
    parameters: tuple[tuple[str, int], ...]  # arm, trainable parameters
    n_test: tuple[tuple[str, Num], ...]  # data set, test images
    runs: Num
    diverged: Num
    wall_seconds: Num
    images_per_second: Num  # median over the runs


def provenance(results: Results) -> Provenance:
    """Read what the report prints of where its numbers come from."""
    runs = results.runs
    return Provenance(
        torch=_values(runs, "torch"),
        devices=_values(runs, "device"),
        threads=_values(runs, "threads"),
        code_hashes=_values(runs, "code_hash"),
        data=_pairs(runs, "dataset", "data_sha256"),
        configs=_arm_pairs(runs, "config_hash"),
        parameters=tuple((a, int(v)) for a, v in _arm_pairs(runs, "parameters")),
        n_test=tuple(
            (d, Num(float(n), f"{runs.name}#{d}/n_test"))
            for d, n in _pairs(runs, "dataset", "n_test")
        ),
        runs=Num(len(runs), f"{runs.name}#rows"),
        diverged=Num(len(runs.where(status="diverged")), f"{runs.name}#rows/status=diverged"),
        wall_seconds=_sum(runs, "wall_seconds"),
        images_per_second=_median(runs, "images_per_second"),
    )


def _values(table: Table, column: str) -> tuple[str, ...]:
    if column not in table.columns:
        return ()
    return tuple(sorted({str(v) for v in table[column] if v is not None}))


def _pairs(table: Table, first: str, second: str) -> tuple[tuple[str, Any], ...]:
    if second not in table.columns:
        return ()
    return tuple(sorted(set(zip(table[first], table[second], strict=True)), key=str))


def _arm_pairs(table: Table, column: str) -> tuple[tuple[str, Any], ...]:
    if column not in table.columns:
        return ()
    arms = [str(run).rpartition(".s")[0] for run in table["run"]]
    return tuple(dict.fromkeys(zip(arms, table[column], strict=True)))


def _numbers(table: Table, column: str) -> np.ndarray:
    values = table[column].astype(float) if column in table.columns else np.zeros(0)
    return np.asarray(values[np.isfinite(values)])


def _sum(table: Table, column: str) -> Num:
    return Num(float(_numbers(table, column).sum()), f"{table.name}#sum/{column}")


def _median(table: Table, column: str) -> Num:
    values = _numbers(table, column)
    middle = float(np.median(values)) if values.size else float("nan")
    return Num(middle, f"{table.name}#median/{column}")
