"""A table of runs, read and checked: from this workflow, or anyone's own.

Needed columns: `ordering`, `seed`, and a measure (`test_accuracy_pp`, or `test_correct` and
`n_test`; whatever the claims name). `dataset`, `activation`, `depth` and `variant` may be left out.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bnorder.claims import ACCURACY, AXES, Claims
from bnorder.errors import DELETE, UserError
from bnorder.schema import HIDDEN
from bnorder.study import Study, describe

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
    "steps",
    "threads",
    "n_train",
    "parameters",
    "running_loss_pp",
)
THRESHOLD = re.compile(r"steps_to_\d+(\.\d+)?(e-\d+)?")  # as in steps_to_97.5
LONGEST_NAME = 200
LARGEST_WHOLE = 2**53  # as doubles, which the numbers pass through, hold them exactly
Filter = tuple[str, str, object]  # column, comparison and value, as pandas takes it
ROUNDING = 0.0051  # points by which an accuracy printed with two digits may miss its counts


def read_runs(path: str | Path, measures: Sequence[str] = ()) -> pd.DataFrame:
    """Read .csv or .parquet; fill in what may be left out; check every value that is used.

    measures: columns that must hold numbers where present. Raises UserError naming row and column
    (rows count from 1, the header not counted).
    """
    frame = _named(read_table(path), path)
    _refuse_empty(frame, path, "a run")
    steps = [c for c in frame.columns if THRESHOLD.fullmatch(str(c))]
    for column in dict.fromkeys([*measures, ACCURACY, *NUMBERS, *steps, "test_correct", "n_test"]):
        if column in frame:
            frame[column] = _as_numbers(frame[column], column, path)
    frame = _check_accuracy(frame, path)
    _refuse_duplicates(frame, path, (), "run")
    described = {o: describe(o) for o in frame["ordering"].unique()}
    for column in ("bn_class", "cut"):
        frame[column] = frame["ordering"].map({o: d[column] for o, d in described.items()})
    return frame.reset_index(drop=True)


def without_other_steps(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs without columns such as `steps_to_converge`, which name no threshold."""
    names = [c for c in runs.columns if str(c).startswith("steps_to_")]
    return runs.drop(columns=[c for c in names if not THRESHOLD.fullmatch(str(c))])


def read_curves(path: str | Path) -> pd.DataFrame:
    """Read a table of learning curves, one row an evaluation, and check it as runs are checked.

    It needs `ordering`, `seed` and `step`.
    """
    frame = _named(read_table(path), path, "step")
    _refuse_empty(frame, path, "an evaluation")
    frame["step"] = _whole_numbers(frame["step"], "step", path)
    for column in ("epoch", ACCURACY, "test_loss", "train_loss", "test_correct", "n_test"):
        if column in frame:
            frame[column] = _as_numbers(frame[column], column, path)
    frame = _check_accuracy(frame, path)
    _refuse_duplicates(frame, path, ("step",), "evaluation")
    return frame


def read_probes(path: str | Path, names: Sequence[str]) -> pd.DataFrame:
    """Read what the probes of these names read in the base runs, one row a number.

    It needs `run`, `ordering`, `seed`, `step`, `layer`, `probe` and `value`. Of a Parquet file,
    which may be large, no other rows are read.
    """
    only: list[Filter] = [("probe", "in", sorted(names)), ("variant", "==", DEFAULTS["variant"])]
    needed = ("run", "step", "layer", "probe", "value")
    frame = _named(read_table(path, only), path, *needed)
    for column in ("step", "layer"):
        frame[column] = _whole_numbers(frame[column], column, path).astype(np.int64)
    frame["value"] = _as_numbers(frame["value"], "value", path)
    frame["run"] = frame["run"].astype(str)
    _refuse_shared_names(frame, path)
    return frame[frame["probe"].isin(names) & (frame["variant"] == DEFAULTS["variant"])]


def read_table(path: str | Path, only: list[Filter] | None = None) -> pd.DataFrame:
    """Read .csv, all of it as text, or .parquet, of which `only` some rows may be asked for.

    Raises UserError where it is no such table.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path, filters=only)
        if path.suffix == ".csv":
            _refuse_repeated_columns(path)
            return pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a table") from None
    except Exception as error:  # parsers raise many kinds for a file that is no table
        line = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        name = str(path)[:200]
        hint = f"; if make report made it, {DELETE}" if path.suffix == ".parquet" else ""
        raise UserError(f"{name}: cannot be read as {path.suffix[1:]} ({line}){hint}") from None
    raise UserError(f"{path}: expected a .csv or a .parquet table")


def _refuse_repeated_columns(path: Path) -> None:
    """Of two columns of one name pandas would rename the second and use the first."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = [name.strip() for name in next(csv.reader(file), [])]
    again = next((name for name, times in Counter(names).items() if times > 1), None)
    if again is not None:
        raise UserError(f"{path}: column {again[:40]!r} stands twice; expected each once")


def _refuse_empty(frame: pd.DataFrame, path: str | Path, row: str) -> None:
    if frame.empty:
        raise UserError(f"{path}: it has no rows; expected one row {row}")


def _refuse_shared_names(frame: pd.DataFrame, path: str | Path) -> None:
    """Raise UserError at the second run of one name; by their names they are found in the runs."""
    first = np.flatnonzero(~frame.duplicated(["run", *AXES, "seed"]).to_numpy())
    names = frame["run"].iloc[first]
    again = first[names.duplicated().to_numpy()]
    if len(again):
        raise UserError(
            f"{path}: row {again[0] + 1}, column run: {frame['run'].iloc[again[0]][:60]!r} is "
            "another run's name too; expected a name of its own for each run"
        )


def _named(frame: pd.DataFrame, path: str | Path, *needed: str) -> pd.DataFrame:
    """The table with the axes that were left out; `ordering`, `seed` and `needed` must be there."""
    for column in ("ordering", "seed", *needed):
        if column not in frame:
            have = ", ".join(str(name)[:40] for name in list(frame.columns)[:12])
            raise UserError(f"{path}: column {column!r} is missing; the columns are {have}")
    frame = frame.assign(**{k: v for k, v in DEFAULTS.items() if k not in frame})
    return _check_names(frame, path)


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
        frame[column] = _whole_numbers(frame[column], column, path).astype(np.int64)
    return frame


def _whole_numbers(values: pd.Series, column: str, path: str | Path) -> pd.Series:
    """Whole numbers, none of them blank; raises UserError at the first that is not."""
    numbers = _as_numbers(values, column, path)
    bad = np.flatnonzero(~(numbers.abs() < LARGEST_WHOLE) | (numbers != np.floor(numbers)))
    if len(bad):
        raise UserError(
            f"{path}: row {bad[0] + 1}, column {column}: {str(values.iloc[bad[0]])[:60]!r}; "
            "expected a whole number"
        )
    return numbers


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


def _refuse_duplicates(
    frame: pd.DataFrame, path: str | Path, more: Sequence[str], what: str
) -> None:
    """Raise UserError at the second row of the same arm, seed and whatever `more` names."""
    keys = [*AXES, "seed", *more]
    again = np.flatnonzero(frame.duplicated(keys).to_numpy())
    if len(again):
        row = frame.iloc[again[0]]
        same = (frame[keys] == row[keys]).all(axis=1)
        arm = ", ".join(f"{k} {row[k]}" for k in keys)
        raise UserError(
            f"{path}: row {again[0] + 1}, column {keys[-1]}: the same {what} as row "
            f"{int(np.flatnonzero(same)[0]) + 1} ({arm}); expected each {what} once"
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
