"""Publish a study: its records, verdicts and reports, and what made them, in report/published/."""

import _bootstrap  # noqa: F401
import argparse
import sys
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="as for snakemake --config")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where studies lie")
    parser.add_argument("--out", type=Path, default=Path("report/published"))
    arguments = parser.parse_args()

    from bnorder.publishing import published, publish
    from bnorder import records
    from bnorder.errors import UserError
    from bnorder.workflow import (
        as_config,
        as_make_words,
        configured_study,
        published_source,
        setting,
    )

    pairs = as_config(arguments.config)
    _, overrides, study = configured_study(pairs)
    source = published_source(pairs)
    results = arguments.results / study.name
    if source:
        study = publish.planned_study(study, source, overrides)
    read, folder = (
        (published.published_records, source) if source else (records.collect, results / "records")
    )
    if folder.is_dir():
        step(1, f"reading the records of {sum(len(part.runs()) for part in study.parts())} runs")
    found = [record for part in study.parts() for record in read(part, folder)]
    if not found:
        raise UserError(f"{results}: no records; train first: make report {as_make_words(pairs)}")
    step(2, "what training cost")
    costs = publish.measured_costs(study, found, results, arguments.out / study.name)
    missing = bool(setting(pairs, "allow_missing"))
    out = arguments.out
    folder = publish.publish(study, found, costs, out, allow_missing=missing, say=step)
    say(folder, published.read_manifest(folder))


def step(number: int, what: str) -> None:
    """A line a step, for it takes half a minute."""
    from bnorder.publishing.publish import STEPS

    print(f"{number} of {STEPS}: {what}", file=sys.stderr, flush=True)


def say(folder: Path, manifest: "dict[str, dict[str, object]]") -> None:
    runs, seeds = manifest["runs"], manifest["seeds"]
    print(f"{folder}: {runs['published']} of {runs['planned']} runs published")
    if not manifest["complete"]:
        print(
            f"The study is incomplete: verdicts and report are about {runs['reported']} runs of "
            f"the seeds {seeds['reported']}; {runs['missing_in_report']} of theirs are missing."
        )
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{size / 1e6:.1f} MB: {', '.join(sorted(path.name for path in folder.iterdir()))}")


exit_cleanly(main)
