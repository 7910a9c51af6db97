"""Print a finished study's answer, its verdicts and where its reports are."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="as for snakemake --config")
    arguments = parser.parse_args()

    from bnorder.summary import summary
    from bnorder.workflow import configured_study

    pairs = dict(word.partition("=")[::2] for word in arguments.config)
    text = summary(Path("results", configured_study(pairs)[2].name))
    if text:
        print(text)


exit_cleanly(main)
