"""What a finished study left, read for the report; each number knows where it stands."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bnorder import dictionary
from bnorder.errors import DELETE, UserError
from bnorder.language import Language, language
from bnorder.language.printing import Num
from bnorder.schema import read_yaml
from bnorder.study import Study


@dataclass(frozen=True)
class Table:
    """A tidy table: columns of equal length, and each row's place in its file."""

    name: str
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    places: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def where(self, **equal: object) -> "Table":
        """The rows where each named column equals its value."""
        keep = np.ones(len(self), dtype=bool)
        for column, value in equal.items():
            if column not in self.columns:
                return self.pick(np.zeros(len(self), dtype=bool))
            keep &= self.columns[column] == value
        return self.pick(keep)

    def pick(self, keep: np.ndarray) -> "Table":
        columns = {name: values[keep] for name, values in self.columns.items()}
        return Table(self.name, columns, self.places[keep])

    def sorted_by(self, column: str) -> "Table":
        return self.pick(np.argsort(self.columns[column], kind="stable"))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows as mappings; numbers come as `Num`."""
        for i, place in enumerate(self.places):
            yield {
                name: self._cell(values[i], name, int(place))
                for name, values in self.columns.items()
            }

    def _cell(self, value: object, column: str, place: int) -> object:
        if value is None or isinstance(value, (bool, np.bool_, str)):
            return value
        if isinstance(value, (int, float, np.integer, np.floating)):
            return Num(float(value), f"{self.name}#{place}/{column}")
        return value


@dataclass(frozen=True)
class Results:
    """Everything the report is made of."""

    study: Study
    study_sha256: str
    settings: Mapping[str, Any]  # study.yaml as it stands, its numbers traced
    words: Language
    runs: Table
    curves: Table
    missing: tuple[str, ...]
    verdicts: Mapping[str, Any]
    facts: Mapping[str, Any]
    mixed_model: Mapping[str, Any]
    analysis: Mapping[str, Table]

    def table(self, name: str) -> Table:
        return self.analysis.get(name) or Table(f"analysis/{name}.parquet")

    @cached_property
    def said(self) -> Mapping[str, Any]:
        """The analysis's sentences in the report's language."""
        found: Mapping[str, Any] = self.verdicts.get("translations", {}).get(self.words.code)
        return self.verdicts if found is None else found

    @cached_property
    def claims(self) -> list[Mapping[str, Any]]:
        """The verdicts, their words in the report's language."""
        pairs = zip(self.verdicts["verdicts"], self.said["verdicts"], strict=True)
        return [_in_words(verdict, said) for verdict, said in pairs]

    def by_family(self) -> list[Mapping[str, Any]]:
        """The claims, families together, each in its own order."""
        families = list(dict.fromkeys(v["family"] for v in self.claims))
        return sorted(self.claims, key=lambda v: families.index(v["family"]))


def _in_words(verdict: Mapping[str, Any], said: Mapping[str, Any]) -> Mapping[str, Any]:
    parts = zip(verdict["parts"], said["parts"], strict=True)
    return {**verdict, **said, "parts": [{**part, **words} for part, words in parts]}


def files_of(study_file: Path, tables: Path, analysis: Path) -> dict[str, Path]:
    """The results files by the names that numbers' sources begin with."""
    found = {"study.yaml": study_file, "tables/runs.parquet": tables / "runs.parquet"}
    found |= {f"analysis/{p.name}": p for p in sorted(analysis.glob("*.json"))}
    return found | {f"analysis/{p.name}": p for p in sorted(analysis.glob("*.parquet"))}


def load_results(
    study: Study, study_file: Path, tables: Path, analysis: Path, words: Language | None = None
) -> Results:
    """Read a study's tables and analysis, for a report in the language `words`.

    Raises UserError when the runs or the verdicts are missing; the other files are optional.
    """
    import hashlib

    missing = _json(tables / "missing.json", required=False)
    verdicts = _traced(_json(analysis / "verdicts.json"), "analysis/verdicts.json#")
    model = _json(analysis / "mixed_model.json", required=False)
    found = {
        table.name: _parquet(analysis / f"{table.name}.parquet", f"{table.path}.parquet")
        for table in dictionary.tables("analysis")
        if (analysis / f"{table.name}.parquet").exists()
    }
    return Results(
        study=study,
        study_sha256=hashlib.sha256(Path(study_file).read_bytes()).hexdigest(),
        settings=_traced(read_yaml(study_file), "study.yaml#"),
        words=words or language("en"),
        runs=_parquet(tables / "runs.parquet", "tables/runs.parquet"),
        curves=_parquet(tables / "curves.parquet", "tables/curves.parquet", only=["step"]),
        missing=tuple(missing.get("missing", ())),
        verdicts=verdicts,
        facts=_traced(_json(analysis / "facts.json"), "analysis/facts.json#"),
        mixed_model=_traced(model, "analysis/mixed_model.json#"),
        analysis=found,
    )


def _json(path: Path, *, required: bool = True) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not required:
            return {}
        raise UserError(f"{path}: no such file; run the analysis first (make report)") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); {DELETE}") from None


def _parquet(path: Path, name: str, only: Sequence[str] | None = None) -> Table:
    columns = read_columns(path, only)
    rows = len(next(iter(columns.values()), ()))
    return Table(name, {c: _column(v) for c, v in columns.items()}, np.arange(rows))


def read_columns(path: Path, only: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """A Parquet file's columns as lists; raises UserError where there is no such file."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        # not read_table, and no to_numpy: both import pandas, which costs more than the report
        table = pyarrow.parquet.ParquetFile(path).read(columns=only, use_threads=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; collect the records first (make report)") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: no valid Parquet ({error}); {DELETE}") from None
    return {
        column: table.column(column).to_pylist()
        for column in table.column_names
        if not column.startswith("__index")
    }


def _column(values: list[Any]) -> np.ndarray:
    if all(isinstance(v, (int, float)) or v is None for v in values) and not any(
        isinstance(v, bool) for v in values
    ):
        return np.array([math.nan if v is None else v for v in values])
    return np.array(values, dtype=object)


def _traced(value: Any, source: str) -> Any:
    """The same JSON with each number as a `Num` (null stays None)."""
    if isinstance(value, dict):
        return {k: _traced(v, f"{source}/{_pointer(k)}") for k, v in value.items()}
    if isinstance(value, list):
        return [_traced(v, f"{source}/{i}") for i, v in enumerate(value)]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Num(value, source)
    return value


def _pointer(key: object) -> str:
    """A key as it stands in a JSON pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")
