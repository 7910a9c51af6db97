"""Print a finished study's answer, its verdicts and where its reports are."""

import _bootstrap  # noqa: F401
import argparse

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="as for snakemake --config")
    arguments = parser.parse_args()

    from bnorder.summary import summary
    from bnorder.workflow import as_config, configured_study, results_folder

    pairs = as_config(arguments.config)
    text = summary(results_folder(pairs, configured_study(pairs)[2]))
    if text:
        print(text)


exit_cleanly(main)
