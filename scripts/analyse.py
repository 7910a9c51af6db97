"""Verdicts and tables from a table of runs: this workflow's, or your own."""

import argparse
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="docs/verdicts.md explains the columns and the claims file."
    )
    parser.add_argument("--runs", required=True, type=Path, help="table of runs, .csv or .parquet")
    parser.add_argument("--claims", type=Path, help="claims file (default: the study's)")
    parser.add_argument("--study", type=Path, help="study file; without it the runs are the grid")
    parser.add_argument("--selection", type=Path, help="the runs on which its selection is made")
    parser.add_argument("--curves", type=Path, help="learning curves, for their bands (optional)")
    parser.add_argument("--probes", type=Path, help="what probes read, for the page why (optional)")
    parser.add_argument(
        "--out", type=Path, help="folder for the results (default: analysis, beside the runs)"
    )
    parser.add_argument(
        "--verdicts-only", action="store_true", help="leave the exploratory tables out"
    )
    args = parser.parse_args()

    from bnorder.statistics.analysis import analyse, load_inputs
    from bnorder.summary import verdict_line

    inputs = load_inputs(args.runs, args.claims, args.study, args.selection)
    out = args.out or args.runs.parent / "analysis"
    verdicts = analyse(
        inputs,
        out,
        curves=args.curves,
        probes=args.probes,
        explore=not args.verdicts_only,
        say=lambda line: print(line, file=sys.stderr),
    )
    width = max(len(v.claim.id) for v in verdicts)
    for v in verdicts:
        said = verdict_line(v.verdict, v.too_small, v.claim.sentence, v.reason)
        print(f"{v.claim.id:<{width}}  {said}")
    print(f"written to {out}", file=sys.stderr)


if __name__ == "__main__":
    exit_cleanly(main)
