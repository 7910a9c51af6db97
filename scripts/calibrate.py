"""Simulate thousands of studies with a known truth and see how often the verdicts are right."""

import argparse
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000, help="a setting (default 2000)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation (default 1)")
    parser.add_argument("--claims", type=Path, default=Path("claims/article.yaml"))
    parser.add_argument("--out", type=Path, default=Path("report/calibration"))
    args = parser.parse_args()

    from bnorder.report.calibration import plot
    from bnorder.statistics.calibration import calibrate, findings

    tables = calibrate(
        args.claims,
        args.out,
        args.studies,
        args.seed,
        say=lambda line: print(line, file=sys.stderr),
    )
    plot(tables, args.out / "calibration.svg")
    print("\n".join(findings(tables)))


if __name__ == "__main__":
    exit_cleanly(main)
