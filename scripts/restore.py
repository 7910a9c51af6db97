"""Take over published and older records that a study can use, so that only the rest is trained."""

import _bootstrap  # noqa: F401
import argparse
import sys
from pathlib import Path

from bnorder.errors import UserError, exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="as for snakemake --config")
    arguments = parser.parse_args()

    from bnorder.locks import hold_study
    from bnorder.publishing.published import PUBLISHED, published_studies, restore
    from bnorder.workflow import as_config, configured_study, remember_study_file

    pairs = as_config(arguments.config)
    source = pairs.pop("from", "published")
    path, _, study = configured_study(pairs)
    base = PUBLISHED if source == "published" else Path(source)
    mine = study.name.partition("+")[0]
    folders = sorted(published_studies(base), key=lambda folder: (folder.name != mine, folder.name))
    if not folders:
        raise UserError(f"{base}: no published results")
    results = Path("results", study.name)
    runs = sum(len(part.runs()) for part in study.parts())
    lock = hold_study(results)
    remember_study_file(results, path)
    print(
        f"looking for {runs} runs in {len(folders)} published studies and in {results}: a few "
        "seconds, or half a minute for what probes read",
        file=sys.stderr,
        flush=True,
    )
    done = restore(study, folders, results)
    lock.close()
    print(
        f"{results}: {done.runs} of {runs} runs taken over, from {base} or older records here; "
        f"{done.missing} are left to train. Go on with make report: it reads the data's checksum, "
        "so it needs the data set in any case (docs/data.md)."
    )


exit_cleanly(main)
