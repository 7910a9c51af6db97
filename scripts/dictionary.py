"""Write docs/data-dictionary.md and the tables' captions for `snakemake --report`."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()

    from bnorder.dictionary import write

    for path in write(Path(__file__).resolve().parents[1]):
        print(path)


exit_cleanly(main)
