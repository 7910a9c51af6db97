"""Train random published runs again and state how far their numbers are off, if at all."""

import _bootstrap  # noqa: F401

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnorder.errors import UserError, exit_cleanly

if TYPE_CHECKING:
    from bnorder.publishing.confirmation import Comparison
    from bnorder.records import Record
    from bnorder.study import Study


def main() -> None:
    from bnorder.publishing.confirmation import CONDITIONS, FOLDER

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="study=NAME")
    parser.add_argument("--runs", type=int, default=20, help="how many, of as many arms (20)")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS)
    parser.add_argument(
        "--workers", type=int, help="trainings at a time (one a core; one on a GPU)"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder of the table")
    parser.add_argument(
        "--trained",
        type=Path,
        metavar="RECORDS",
        help="train nothing: compare the records of this folder, results/<study>/records",
    )
    arguments = parser.parse_args()

    from bnorder.devices import usable_cores
    from bnorder.jobs import pick_device
    from bnorder.locks import hold_study
    from bnorder.log import clock
    from bnorder.publishing import confirmation, published
    from bnorder.workflow import as_config, published_results

    if arguments.runs < 1:
        raise UserError(f"--runs is {arguments.runs}; expected at least 1")
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}; expected at least 1")
    pairs = as_config(arguments.config, ["study"])
    folder = published_results(pairs)
    study = published.published_study(folder)
    records = published.published_records(study, folder)
    # Two at once would lose each other's rows.
    lock = hold_study(Path("results", "confirmation", study.name))
    path = arguments.out / f"{study.name}.csv"
    standing = confirmation.standing(path, records)
    if arguments.trained:
        hold(study, arguments.trained, records, standing, path)
        return
    drawn = confirmation.draw(records, arguments.runs)
    trainings = confirmation.plan(study, drawn, records, standing, arguments.conditions)
    print(confirmation.left_to_train(drawn, trainings, standing, path), flush=True)
    if not trainings:
        return
    cores = 1 if pick_device().type == "cuda" else usable_cores()
    start = time.perf_counter()
    rows = confirmation.confirm(study, trainings, standing, path, arguments.workers or cores)
    for done, compared in enumerate(rows, 1):
        say(compared)
        left = (time.perf_counter() - start) / done * (len(trainings) - done)
        print(f"{done} of {len(trainings)} trainings, {clock(left)} left", flush=True)
    lock.close()
    shown = "; README.md says so after `make pages`" if arguments.out == FOLDER else ""
    print(f"{path} is complete{shown}")


def hold(
    study: "Study",
    folder: Path,
    records: Sequence["Record"],
    standing: Sequence["Comparison"],
    path: Path,
) -> None:
    """Compare what was trained already."""
    from bnorder.publishing import confirmation
    from bnorder.records import collect
    from bnorder.study import load_study

    if not folder.is_dir():
        raise UserError(
            f"--trained: no folder {folder}; expected the records of a study that you have trained "
            f"(make report STUDY={study.name} leaves them in results/{study.name}/records)"
        )
    own = folder.parent / "study.yaml"  # says how many runs a job has there
    sizes = load_study(own) if own.exists() else study
    sized = replace(study, seeds_per_job=sizes.seeds_per_job, arms_per_job=sizes.arms_per_job)
    trained = collect(sized, folder)
    if not trained:
        raise UserError(f"--trained: {folder} has no record of a run of {study.name}")
    rows = confirmation.hold(trained, records, standing, path)
    say(rows)
    print(f"{len(rows)} of {len(trained)} runs in {folder} compared; they stand in {path}")
    verdicts = folder.parent / "analysis" / "verdicts.json"
    if verdicts.exists() and confirmation.is_anew(trained, records):
        kept = path.with_suffix(".json")
        confirmation.keep_verdicts(verdicts, trained, kept)
        print(f"the verdicts that they come to stand in {kept}")
    if len(rows) < len(trained):
        print("the others are the published ones, or more than one thing about them differs")


def say(rows: Sequence["Comparison"]) -> None:
    """One line a run: how many answers are others now."""
    for row in rows:
        off = abs(row.correct_again - row.correct)
        same = "identical" if row.same_curve else f"{off} of {row.n_test:,} answers off at the end"
        print(f"{row.condition:<14} {row.run}: {same}", flush=True)


if __name__ == "__main__":  # its training processes import this file
    exit_cleanly(main)
