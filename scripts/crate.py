"""Describe a published study as a Workflow Run RO-Crate: results/<study>.crate.zip."""

import _bootstrap  # noqa: F401
import argparse
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="study=NAME")
    parser.add_argument("--out", type=Path, help="the file to write")
    arguments = parser.parse_args()

    from bnorder.publishing.crate import write_crate
    from bnorder.publishing.published import verify
    from bnorder.workflow import as_config, published_results

    pairs = as_config(arguments.config, ["study"])
    root = Path(__file__).resolve().parents[1]
    folder = published_results(pairs)
    verify(folder)
    out = arguments.out or Path("results", f"{folder.name}.crate.zip")
    write_crate(root, root / folder, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


exit_cleanly(main)
