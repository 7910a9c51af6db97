"""Make a data set's cache file: found locally by checksum, or downloaded."""

import _bootstrap  # noqa: F401
import argparse
import re
from pathlib import Path

from bnorder.errors import UserError, exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="such as mnist, digits or folder:PATH")
    parser.add_argument("--data-dir", action="append", default=[], help="searched for local files")
    parser.add_argument("--out", required=True, type=Path, help="the cache file (.pt) to write")
    arguments = parser.parse_args()

    from bnorder import data
    from bnorder.study import study_schema

    known = study_schema()["properties"]["datasets"]["items"]["pattern"]
    if not re.fullmatch(known, arguments.dataset, re.DOTALL):
        raise UserError(f"--dataset is {arguments.dataset[:60]!r}; expected {known.strip('^()$')}")
    dataset = data.prepare(arguments.dataset, arguments.data_dir)
    data.save(dataset, arguments.out)
    n_train, n_test = len(dataset.train_labels), len(dataset.test_labels)
    print(f"{dataset.name}: {n_train} training and {n_test} test images")


exit_cleanly(main)
