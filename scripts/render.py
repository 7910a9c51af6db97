"""Render a study's report: report.html, report.pdf and figures/ from its tables and analysis."""

import _bootstrap  # noqa: F401

import argparse
import gc
import time
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, help="the effective study.yaml")
    parser.add_argument("--tables", type=Path, required=True, help="folder of runs.parquet")
    parser.add_argument("--analysis", type=Path, required=True, help="folder of verdicts.json")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--lang", choices=("en", "zh"), default="en", help="the report's language")
    parser.add_argument(
        "--archive",
        action="store_true",
        help="instead report-archive.pdf: PDF/A-3, tables attached",
    )
    options = parser.parse_args()

    from bnorder.report.document import render, render_archive

    # A PDF is millions of small objects; looking among them for cycles took a seventh of the time.
    gc.set_threshold(50_000, 50, 50)

    parts = (options.study, options.tables, options.analysis, options.out)
    if options.archive:
        print(render_archive(*parts, lang=options.lang))
        return
    start = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - start:5.1f} s: {line}", flush=True)

    report = render(*parts, lang=options.lang, say=say)
    say(f"{report.html}, {report.pdf} and {len(report.figures)} figure files")


if __name__ == "__main__":
    exit_cleanly(main)
