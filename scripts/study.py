"""Check a study, fill in its defaults and write the effective study."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import exit_cleanly
from bnorder.records import write_text
from bnorder.study import load_study, parse_override
from bnorder.workflow import study_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="such as quick, or a study's file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--out", type=Path, help="where to write it; else it is only checked")
    arguments = parser.parse_args()
    study = load_study(study_path(arguments.study), dict(map(parse_override, arguments.overrides)))
    if arguments.out:
        write_text(arguments.out, study.as_yaml())
    print(f"{study.name}: {len(study.arms())} arms, {len(study.runs())} runs")


exit_cleanly(main)
