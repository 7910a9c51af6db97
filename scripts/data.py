"""Make a data set's cache file: found locally by checksum, or downloaded."""

import _bootstrap  # noqa: F401
import argparse
import json
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="such as mnist, digits or folder:PATH")
    parser.add_argument("--data-dir", action="append", default=[], help="searched for local files")
    parser.add_argument("--out", required=True, type=Path, help="the cache file (.pt) to write")
    arguments = parser.parse_args()

    from bnorder import data
    from bnorder.records import write_text

    dataset = data.prepare(arguments.dataset, arguments.data_dir)
    data.save(dataset, arguments.out)
    summary = {
        "dataset": dataset.name,
        "sha256": dataset.sha256,
        "shape": list(dataset.shape),
        "classes": list(dataset.classes),
        "n_train": len(dataset.train_labels),
        "n_test": len(dataset.test_labels),
    }
    write_text(arguments.out.with_suffix(".json"), json.dumps(summary, indent=1) + "\n")
    print(f"{dataset.name}: {summary['n_train']} training and {summary['n_test']} test images")


exit_cleanly(main)
