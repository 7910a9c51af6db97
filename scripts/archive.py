"""Pack the project and its published results into one file for a deposit."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    from bnorder import __version__

    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(f"results/bnorder-{__version__}.tar.gz")
    parser.add_argument("--out", type=Path, default=default, help="the file to write")
    arguments = parser.parse_args()

    from bnorder.publishing.archive import write_archive
    from bnorder.publishing.published import sha256

    files = write_archive(Path(__file__).resolve().parents[1], arguments.out)
    size = arguments.out.stat().st_size / 1e6
    print(f"{arguments.out}: {files} files, {size:.1f} MB, SHA-256 {sha256(arguments.out)}")
    print("Unpacked: make report STUDY=quick FROM=published rebuilds a report without training.")


exit_cleanly(main)
