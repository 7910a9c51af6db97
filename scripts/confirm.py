"""Train random published runs again and state how far their numbers are off, if at all."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    from bnorder.publishing.confirmation import CONDITIONS, FOLDER

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="study=NAME")
    parser.add_argument("--runs", type=int, default=20, help="how many, of as many arms (20)")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS)
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder of the table")
    arguments = parser.parse_args()

    from bnorder.publishing import confirmation, published

    pairs = dict(word.partition("=")[::2] for word in arguments.config)
    folder = published.published_folder("published", pairs.get("study", "quick"))
    study = published.published_study(folder)
    records = confirmation.draw(published.published_records(study, folder), arguments.runs)
    path = arguments.out / f"{study.name}.csv"
    for row in confirmation.confirm(study, records, path, arguments.conditions):
        off = abs(row.correct_again - row.correct)
        same = "identical" if row.same_curve else f"{off} of {row.n_test:,} answers off at the end"
        print(f"{row.condition:<14} {row.run}: {same}", flush=True)
    print(f"written to {path}; README.md says so after `make pages`")


exit_cleanly(main)
