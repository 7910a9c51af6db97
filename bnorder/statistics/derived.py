"""Variants that nobody trained: made from a study's runs, then judged like any other variant."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bnorder.claims import ACCURACY, AXES
from bnorder.statistics.contrasts import Grid
from bnorder.study import RECOMPUTED, Selection

LOST = "running_loss_pp"
CHOICES: dict[str, type] = {"selection": str, "dataset": str, "ordering": str, "variant": str}
CHOICES |= {"runs": int, "mean": float, "chosen": bool}


def choices(selection: pd.DataFrame, plan: Selection, grid: Grid) -> pd.DataFrame:
    """The validation accuracy of each variant and order, and which variant the order takes.

    selection: one row a run on which the choice is made; its accuracy is that on held-out images.
    One row a data set, order and variant: the mean over activations, depths and selection seeds,
    in percentage points. The greatest wins, of equals the one named first. An order that lacks
    one of these runs takes none.
    """
    if selection.empty:
        return no_choices()
    needed = len(grid.activation) * len(grid.depth) * len(plan.seeds)
    keys = ["dataset", "ordering", "variant"]
    rank = {name: place for place, name in enumerate(plan.variants)}
    frame = selection.groupby(keys, sort=False)[ACCURACY].agg(["count", "mean"]).reset_index()
    frame = frame.rename(columns={"count": "runs"}).assign(selection=plan.name, chosen=False)
    frame = frame.sort_values("variant", key=lambda names: names.map(rank), kind="stable")
    for _, rows in frame.groupby(["dataset", "ordering"], sort=False):
        if len(rows) == len(plan.variants) and (rows["runs"] == needed).all():
            frame.loc[rows["mean"].round(9).idxmax(), "chosen"] = True
    return frame[list(CHOICES)].sort_values(["dataset", "ordering"], kind="stable")


def no_choices() -> pd.DataFrame:
    """The table of choices of a study that makes none."""
    return pd.DataFrame(columns=list(CHOICES)).astype(CHOICES)


def chosen_runs(runs: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """The judged runs of each order under the variant that it took, as a variant of their own."""
    taken = made[made["chosen"].astype(bool)]
    found = runs.merge(taken[["selection", "dataset", "ordering", "variant"]])
    return found.assign(variant=found["selection"]).drop(columns="selection")


def recomputed_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The base runs with the accuracy that recomputed BN statistics give, and no other measure.

    Where there is no BN, where a run diverged, and where accuracies have no counts behind them,
    nothing can be recomputed.
    """
    base = runs[runs["variant"] == "base"]
    if not {LOST, "n_test", "test_correct"} <= set(base) or not base[LOST].notna().any():
        return runs.iloc[:0]
    gained = np.rint(base[LOST].fillna(0) * base["n_test"] / 100)
    columns = [c for c in (*AXES, "seed", "bn_class", "cut", "n_test") if c in base]
    found = base[columns].assign(variant=RECOMPUTED, test_correct=base["test_correct"] + gained)
    return found.assign(**{ACCURACY: 100 * found["test_correct"] / found["n_test"]})


def extended(
    runs: pd.DataFrame, grid: Grid, more: Sequence[tuple[str, pd.DataFrame]]
) -> tuple[pd.DataFrame, Grid]:
    """The runs and grid with further variants: (name, its runs)."""
    frames = [runs, *(frame for _, frame in more if not frame.empty)]
    names = tuple(name for name, _ in more)
    return pd.concat(frames, ignore_index=True), replace(grid, variant=grid.variant + names)
