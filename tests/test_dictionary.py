"""The data dictionary says what the tables hold: every column, of its kind, and no other."""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY
from report_study import FULL, WIDE, make_study
from test_records import record

from bnorder import dictionary
from bnorder.dictionary import TABLES, Column, Table
from bnorder.records import Probe, write_selection, write_tables
from bnorder.study import load_study


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """results/<study>/ of a study with probes and variants, written by the workflow's code."""
    folder = tmp_path_factory.mktemp("written")
    short = {"activations": ["relu"], "depths": [2], "seeds": 3, "thresholds": [90]}
    make_study(folder / "variants", WIDE | short, effect=0.0)
    make_study(folder, FULL | short, diverge=1)
    for name in ("by_variant", "controls_verdicts", "controls_summary"):
        for suffix in ("csv", "parquet"):  # a table without rows has no kinds
            table = folder / "variants" / "analysis" / f"{name}.{suffix}"
            table.replace(folder / "analysis" / table.name)
    study = load_study(folder / "study.yaml")
    probed = load_study(folder / "study.yaml", {"probes": True})
    probe = Probe(0, 0, "network", "gradient_slope", 0.1)
    made = [replace(record(study, run), probes=(probe,)) for run in study.runs()]
    write_tables(probed, made, folder / "tables")
    write_selection(study, [record(study, run) for run in study.runs()], folder / "tables")
    return folder


def test_it_has_every_table_and_no_other(written: Path) -> None:
    for suffix in ("csv", "parquet"):
        files = {str(f.relative_to(written).with_suffix("")) for f in written.glob(f"*/*.{suffix}")}
        assert files == {table.path for table in TABLES}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_it_has_every_column_of_its_kind_and_no_other(table: Table, written: Path) -> None:
    frame = pd.read_parquet(written / f"{table.path}.parquet")
    assert table.unknown(frame.columns) == []
    assert table.absent(frame.columns) == []
    for name in frame:
        column = next(c for c in table.columns if c.matches(str(name)))
        assert kind_of(frame[name]) in fitting(column), name
    assert list(pd.read_csv(written / f"{table.path}.csv")) == list(frame)


def kind_of(values: pd.Series) -> str:
    if pd.api.types.is_integer_dtype(values):
        return "whole"
    return "number" if pd.api.types.is_float_dtype(values) else "text"


def fitting(column: Column) -> set[str]:
    """A count may be kept as a float (where it can be missing), a whole number as a number."""
    return {"text"} if column.kind == "text" else {"whole", "number"}


def test_page_and_captions_are_written_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = dictionary.write(tmp_path)
    assert len(files) == 1 + len(TABLES)
    for file in files:
        kept = REPOSITORY / file.relative_to(tmp_path)
        assert kept.read_text(encoding="utf-8") == file.read_text(encoding="utf-8"), (
            "make dictionary renews it"
        )
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    files[0].write_text("as it was", encoding="utf-8")
    with pytest.raises(OSError, match="disk full"):
        dictionary.write(tmp_path)
    assert files[0].read_text(encoding="utf-8") == "as it was"
    known = {file.name for file in files[1:]}
    assert {p.name for p in (REPOSITORY / "workflow/report/tables").iterdir()} == known


def test_a_name_with_braces_stands_for_a_value_and_no_more() -> None:
    column = Column("steps_to_{threshold}", "number", "steps", "")
    assert column.matches("steps_to_97.5")
    assert not column.matches("steps_to_")
    assert not column.matches("steps_to_97 and more")
