"""What probing adds to a run: the same run with probes and without, side by side, several times.

Seconds are the process's own on one core. The two runs of a pair follow each other, and which one
goes first alternates, so that a machine that slows down slows down both.

    python benchmarks/probing.py --repeats 3
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bnorder.errors import exit_cleanly

ROOT = Path(__file__).resolve().parents[1]

ARMS = (("act-bn-conv", "relu", 2), ("bn-act-conv", "relu", 5))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, default=ROOT / "studies/article.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/probing.csv")
    arguments = parser.parse_args()

    import pandas as pd
    import torch

    from bnorder import data
    from bnorder.study import Arm, load_study, parse_override

    torch.set_num_threads(1)
    study = load_study(arguments.study, dict(map(parse_override, arguments.overrides)))
    dataset = data.prepare(study.datasets[0], study.data_dirs)
    rows = []
    for ordering, activation, depth in ARMS:
        arm = Arm(dataset.name, ordering, activation, depth, "base")
        for repeat in range(arguments.repeats):
            seconds = {}
            for probed in (False, True) if repeat % 2 == 0 else (True, False):
                seconds[probed] = seconds_of(arm, study.recipe, dataset, probed)
            ratio = seconds[True] / seconds[False]
            rows.append((arm.id, repeat, seconds[False], seconds[True], ratio))
            print(f"{arm.id}: {seconds[False]:.1f} s, probed {seconds[True]:.1f} s", flush=True)
    names = ["arm", "repeat", "seconds", "probed_seconds", "ratio"]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=names).to_csv(arguments.out, index=False)
    for name in dict.fromkeys(row[0] for row in rows):
        ratios = [row[4] for row in rows if row[0] == name]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"{name}: probed / unprobed {middle:.3f} ({low:.3f} to {high:.3f})")


def seconds_of(arm, recipe, dataset, probed: bool) -> float:  # type: ignore[no-untyped-def]
    """Core-seconds of one whole run."""
    import torch

    from bnorder import probing, training

    made = probing.ProbedTrainer if probed else training.Trainer
    start = time.process_time()
    made(arm, recipe, dataset, [0], torch.device("cpu")).run()
    return time.process_time() - start


if __name__ == "__main__":
    exit_cleanly(main)
