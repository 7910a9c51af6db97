"""Write the pages of the documentation that are made: README's blocks and some of docs/."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()

    from bnorder.files import write_atomically
    from bnorder.publishing.pages import pages

    for path, text in pages(Path(__file__).resolve().parents[1]).items():
        write_atomically(path, text.encode("utf-8"))
        print(path)


exit_cleanly(main)
