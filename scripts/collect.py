"""Collect a study's records into tables: one row a run, one row an evaluation."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import UserError, exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=Path, help="the effective study")
    parser.add_argument("--records", required=True, type=Path, help="the folder of records")
    parser.add_argument("--out", required=True, type=Path, help="the folder for the tables")
    parser.add_argument("--allow-missing", action="store_true", help="go on without missing runs")
    arguments = parser.parse_args()

    from bnorder import records
    from bnorder.study import load_study

    study = load_study(arguments.study)
    found = records.collect(study, arguments.records)
    missing = records.missing_runs(study, found)
    if missing and not (arguments.allow_missing and found):
        for run in missing:
            print(f"missing: {run}")
        raise UserError(
            f"{study.name}: {len(missing)} of {len(study.runs())} runs have no record, such as "
            f"{missing[0]}; train them, or report what is there with ALLOW_MISSING=1"
        )
    records.write_tables(study, found, arguments.out)
    print(f"{study.name}: {len(found)} runs collected, {len(missing)} missing")


exit_cleanly(main)
