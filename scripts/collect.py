"""Collect a study's records into tables: one row a run, one row an evaluation."""

import _bootstrap  # noqa: F401
import argparse
import gc
from pathlib import Path

from bnorder.errors import UserError, exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=Path, help="the effective study")
    parser.add_argument(
        "--records", required=True, type=Path, help="the folder of records, or of published ones"
    )
    parser.add_argument("--out", required=True, type=Path, help="the folder for the tables")
    parser.add_argument("--allow-missing", action="store_true", help="go on without missing runs")
    arguments = parser.parse_args()

    gc.disable()  # the records all live to the end; a search for cycles among them takes a third

    from bnorder import checkpoints, records
    from bnorder.publishing import published
    from bnorder.study import load_effective

    study = load_effective(arguments.study)
    parts = study.parts()
    is_published = (arguments.records / published.RECORDS).exists()
    read = published.published_records if is_published else records.collect
    found = [read(part, arguments.records) for part in parts]
    missing = [
        run
        for part, there in zip(parts, found, strict=True)
        for run in records.missing_runs(part, there)
    ]
    if missing and not (arguments.allow_missing and found[0]):
        for run in missing:
            print(f"missing: {run}")
        report = "" if arguments.allow_missing else ", or report what is there with ALLOW_MISSING=1"
        raise UserError(
            f"{study.name}: {len(missing)} of {sum(len(part.runs()) for part in parts)} runs have "
            f"no record, such as {missing[0]}; train them{report}"
        )
    records.write_tables(study, found[0], arguments.out)
    for part, there in zip(parts[1:], found[1:], strict=True):
        records.write_selection(part, there, arguments.out)
    for job in (job for part in parts for job in part.jobs()):
        if (arguments.records / f"{job.name}.jsonl").exists():
            checkpoints.forget(arguments.records.parent / "checkpoints", job.name)
    print(f"{study.name}: {sum(map(len, found))} runs collected, {len(missing)} missing")


exit_cleanly(main)
