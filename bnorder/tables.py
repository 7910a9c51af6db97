"""A table of runs, read and checked: from this workflow, or anyone's own.

Needed columns: `ordering`, `seed`, and a measure (`test_accuracy_pp`, or `test_correct` and
`n_test`; whatever the claims name). `dataset`, `activation`, `depth` and `variant` may be left out.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bnorder.claims import ACCURACY, AXES, Claims
from bnorder.errors import DELETE, UserError
from bnorder.schema import HIDDEN
from bnorder.statistics.contrasts import describe
from bnorder.study import Study

DEFAULTS: dict[str, str | int] = {
    "dataset": "data",
    "activation": "unnamed",
    "depth": 0,
    "variant": "base",
}
NUMBERS = (
    "test_loss",
    "test_error_area",
    "train_accuracy_pp",
    "train_loss",
    "diverged_step",
    "wall_seconds",
    "images_per_second",
)
LONGEST_NAME = 200
LARGEST_WHOLE = 2**53  # as doubles, which the numbers pass through, hold them exactly
ROUNDING = 0.0051  # points by which an accuracy printed with two digits may miss its counts


def read_runs(path: str | Path, measures: Sequence[str] = ()) -> pd.DataFrame:
    """Read .csv or .parquet; fill in what may be left out; check every value that is used.

    measures: columns that must hold numbers where present. Raises UserError naming row and column
    (rows count from 1, the header not counted).
    """
    frame = _read(path)
    for column in ("ordering", "seed"):
        if column not in frame:
            have = ", ".join(str(name)[:40] for name in list(frame.columns)[:12])
            raise UserError(f"{path}: column {column!r} is missing; the columns are {have}")
    if frame.empty:
        raise UserError(f"{path}: it has no rows; expected one row a run")
    frame = frame.assign(**{k: v for k, v in DEFAULTS.items() if k not in frame})
    frame = _check_names(frame, path)
    steps = [c for c in frame.columns if str(c).startswith("steps_to_")]
    for column in dict.fromkeys([*measures, ACCURACY, *NUMBERS, *steps, "test_correct", "n_test"]):
        if column in frame:
            frame[column] = _as_numbers(frame[column], column, path)
    frame = _check_accuracy(frame, path)
    _refuse_duplicates(frame, path)
    described = {o: describe(o) for o in frame["ordering"].unique()}
    for column in ("bn_class", "cut"):
        frame[column] = frame["ordering"].map({o: d[column] for o, d in described.items()})
    return frame.reset_index(drop=True)


def read_curves(path: str | Path) -> pd.DataFrame:
    """Read a table of learning curves, one row an evaluation; needs `ordering`, `seed`, `step`."""
    frame = _read(path)
    for column in ("ordering", "seed", "step"):
        if column not in frame:
            raise UserError(f"{path}: column {column!r} is missing; expected learning curves")
    frame = frame.assign(**{k: v for k, v in DEFAULTS.items() if k not in frame})
    for column in ("step", "epoch", ACCURACY, "test_loss", "train_loss", "depth"):
        if column in frame:
            frame[column] = _as_numbers(frame[column], column, path)
    return frame.astype({"depth": "int64"})


def _read(path: str | Path) -> pd.DataFrame:
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".csv":
            _refuse_repeated_columns(path)
            return pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a table of runs") from None
    except Exception as error:  # parsers raise many kinds for a file that is no table
        line = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        name = str(path)[:200]
        hint = f"; if make report made it, {DELETE}" if path.suffix == ".parquet" else ""
        raise UserError(f"{name}: cannot be read as {path.suffix[1:]} ({line}){hint}") from None
    raise UserError(f"{path}: expected a .csv or a .parquet table of runs")


def _refuse_repeated_columns(path: Path) -> None:
    """Of two columns of one name pandas would rename the second and use the first."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = [name.strip() for name in next(csv.reader(file), [])]
    again = next((name for name, times in Counter(names).items() if times > 1), None)
    if again is not None:
        raise UserError(f"{path}: column {again[:40]!r} stands twice; expected each once")


def _check_names(frame: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Axis columns: text without blanks, whole numbers for depth and seed."""
    for column in ("dataset", "ordering", "activation", "variant"):
        text = frame[column].astype(str).str.strip()
        blank = np.flatnonzero((text == "") | frame[column].isna().to_numpy())
        if len(blank):
            raise UserError(f"{path}: row {blank[0] + 1}, column {column}: empty; expected a name")
        unfit = [v for v in text.unique() if len(v) > LONGEST_NAME or HIDDEN.search(v)]
        odd = np.flatnonzero(text.isin(unfit))
        if len(odd):
            raise UserError(
                f"{path}: row {odd[0] + 1}, column {column}: {text.iloc[odd[0]][:60]!r}; expected "
                f"a name of at most {LONGEST_NAME} characters, none of them hidden"
            )
        frame[column] = text
    for column in ("depth", "seed"):
        numbers = _as_numbers(frame[column], column, path)
        bad = np.flatnonzero(~(numbers.abs() < LARGEST_WHOLE) | (numbers != np.floor(numbers)))
        if len(bad):
            raise UserError(
                f"{path}: row {bad[0] + 1}, column {column}: "
                f"{str(frame[column].iloc[bad[0]])[:60]!r}; "
                "expected a whole number"
            )
        frame[column] = numbers.astype(np.int64)
    return frame


def _as_numbers(values: pd.Series, column: str, path: str | Path) -> pd.Series:
    """Numbers, NaN where blank; raises UserError at the first that is neither."""
    if pd.api.types.is_bool_dtype(values):
        values = values.astype(str)  # true is no number
    if pd.api.types.is_numeric_dtype(values):
        return values.astype(np.float64)
    text = values.astype(str).str.strip()
    blank = values.isna() | text.str.lower().isin(["", "nan", "na", "none"])
    numbers = pd.to_numeric(text.where(~blank, "nan"), errors="coerce").astype(np.float64)
    bad = np.flatnonzero(numbers.isna().to_numpy() & ~blank.to_numpy())
    if len(bad):
        raise UserError(
            f"{path}: row {bad[0] + 1}, column {column}: {str(values.iloc[bad[0]])[:40]!r}; "
            "expected a number"
        )
    return numbers


def _check_accuracy(frame: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Accuracies in percentage points that agree with their counts, where there are counts."""
    if {"test_correct", "n_test"} <= set(frame.columns):
        correct, n_test = frame["test_correct"], frame["n_test"]
        bad = np.flatnonzero(~(n_test >= 1) | ~np.isfinite(n_test) | (n_test % 1 != 0))
        if len(bad):
            raise UserError(
                f"{path}: row {bad[0] + 1}, column n_test: {n_test.iloc[bad[0]]:g}; "
                "expected the number of test images, a whole number above 0"
            )
        bad = np.flatnonzero(
            (correct < 0) | (correct > n_test) | (correct % 1 != 0) & correct.notna()
        )
        if len(bad):
            raise UserError(
                f"{path}: row {bad[0] + 1}, column test_correct: {correct.iloc[bad[0]]:g}; "
                f"expected a whole number from 0 to n_test ({n_test.iloc[bad[0]]:g})"
            )
        counted = 100 * correct / n_test
        if ACCURACY not in frame:
            return frame.assign(**{ACCURACY: counted})
        off = np.flatnonzero((frame[ACCURACY] - counted).abs() > ROUNDING)
        if len(off):
            raise UserError(
                f"{path}: row {off[0] + 1}, column {ACCURACY}: {frame[ACCURACY].iloc[off[0]]:g}; "
                f"expected 100 × test_correct / n_test = {counted.iloc[off[0]]:.4f}"
            )
    if ACCURACY in frame:
        _check_range(frame[ACCURACY], path)
    return frame


def _check_range(accuracy: pd.Series, path: str | Path) -> None:
    bad = np.flatnonzero((accuracy < 0) | (accuracy > 100))
    if len(bad):
        raise UserError(
            f"{path}: row {bad[0] + 1}, column {ACCURACY}: {accuracy.iloc[bad[0]]:g}; "
            "expected percentage points from 0 to 100"
        )
    if accuracy.notna().any() and accuracy.max() <= 1:
        raise UserError(
            f"{path}: row 1, column {ACCURACY}: {accuracy.iloc[0]:g}; no value is above 1, so "
            "these look like fractions; expected percentage points from 0 to 100"
        )


def _refuse_duplicates(frame: pd.DataFrame, path: str | Path) -> None:
    keys = [*AXES, "seed"]
    again = np.flatnonzero(frame.duplicated(keys).to_numpy())
    if len(again):
        row = frame.iloc[again[0]]
        same = (frame[keys] == row[keys]).all(axis=1)
        arm = ", ".join(f"{k} {row[k]}" for k in keys)
        raise UserError(
            f"{path}: row {again[0] + 1}, column seed: the same run as row "
            f"{int(np.flatnonzero(same)[0]) + 1} ({arm}); expected each run once"
        )


def refuse_strangers(runs: pd.DataFrame, study: Study, path: str | Path) -> None:
    """Raise UserError at the first run that is not in the study's grid."""
    axes = {
        "dataset": study.datasets,
        "ordering": study.orderings,
        "activation": study.activations,
        "depth": study.depths,
        "variant": tuple(study.variants),
        "seed": study.seeds,
    }
    for column, values in axes.items():
        stray = np.flatnonzero(~runs[column].isin(values).to_numpy())
        if len(stray):
            raise UserError(
                f"{path}: row {stray[0] + 1}, column {column}: {runs[column].iloc[stray[0]]!r} "
                f"is not in the study {study.name}; collect the runs of this study again"
            )


def measures_of(claims: Claims) -> list[str]:
    """The measures that the claims name, once each."""
    return list(dict.fromkeys(part.measure for claim in claims.claims for part in claim.parts))
