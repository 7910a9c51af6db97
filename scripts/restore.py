"""Take over a study's published records, so that training does only what is missing."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="as for snakemake --config")
    arguments = parser.parse_args()

    from bnorder.locks import hold_study
    from bnorder.publishing.published import published_folder, restore
    from bnorder.workflow import configured_study

    pairs = dict(word.partition("=")[::2] for word in arguments.config)
    source = pairs.pop("from", "published")
    study = configured_study(pairs)[2]
    folder = published_folder(source, study.name.partition("+")[0])
    results = Path("results", study.name)
    lock = hold_study(results)
    done = restore(study, folder, results)
    lock.close()
    print(
        f"{results}: {done.runs} of {len(study.runs())} runs taken from {folder}; "
        f"{done.missing} are left to train. Go on with make report."
    )


exit_cleanly(main)
