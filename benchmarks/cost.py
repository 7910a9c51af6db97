"""What a study costs in core-hours on this machine, before it is run.

Times a few training steps, one evaluation and, where the study has them, one reading of the probes
for one order of each class, activation, depth and variant, and multiplies by what the study asks
for. Seconds are the process's own on one core, so a busy machine does not count twice.

    python benchmarks/cost.py studies/controls.yaml
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bnorder.errors import exit_cleanly

ROOT = Path(__file__).resolve().parents[1]

STEPS = 4  # timed, after one that is not


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", type=Path, nargs="+", help="study files")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    start = time.process_time()
    import torch

    from bnorder.study import load_study, parse_override

    imports = time.process_time() - start
    torch.set_num_threads(1)
    for path in arguments.studies:
        study = load_study(path, dict(map(parse_override, arguments.overrides)))
        parts = study.parts()
        runs, jobs = (sum(len(getattr(p, what)()) for p in parts) for what in ("runs", "jobs"))
        hours = (sum(map(seconds_of, parts)) + jobs * imports) / 3600
        print(f"{study.name}: {runs:,} runs, {hours:.2g} core-hours", flush=True)


def seconds_of(study: Any) -> float:
    """Core-seconds of all runs of a study or of its selection."""
    from bnorder import data
    from bnorder.ordering import Ordering

    datasets = {name: data.prepare(name, study.data_dirs) for name in study.datasets}
    measured: dict[tuple[object, ...], float] = {}
    total = 0.0
    for arm in study.arms():
        kind = (*vars(arm).values(), Ordering(arm.ordering).bn_class)
        key = tuple(value for value in kind if value != arm.ordering)
        if key not in measured:
            measured[key] = seconds_of_run(study, arm, datasets[arm.dataset])
        total += measured[key] * len(study.seeds)
    return total


def seconds_of_run(study: Any, arm: Any, dataset: Any) -> float:
    import torch

    from bnorder import probing, training

    recipe = study.recipe_for(arm.variant)
    made = probing.ProbedTrainer if study.probes else training.Trainer
    together = min(study.seeds_together, len(study.seeds))
    trainer = made(arm, recipe, dataset, range(together), torch.device("cpu"))
    order, tally = trainer._next_order(), training.Tally()

    def step() -> None:
        training.Trainer._train_step(trainer, order[0], 0, tally)

    step()
    evaluations = training.evaluation_steps(trainer.steps_per_epoch, recipe.epochs)
    seconds = trainer.total_steps * timed(step, STEPS)
    seconds += len(evaluations) * timed(lambda: training.evaluate(trainer.network, trainer.images))
    if isinstance(trainer, probing.ProbedTrainer):
        nothing = [torch.zeros(together)] * 2
        for replica, curve in enumerate(trainer.curves):
            curve.append(trainer._evaluation(replica, *nothing, training.Tally()))
        seconds += len(trainer.probe_steps) * timed(lambda: trainer._probe(0, None))
        seconds += timed(trainer._probe_running_averages)
    return seconds / together


def timed(action: Callable[[], object], times: int = 1) -> float:
    """Seconds of this process for one `action`, averaged over `times`."""
    start = time.process_time()
    for _ in range(times):
        action()
    return (time.process_time() - start) / times


if __name__ == "__main__":
    exit_cleanly(main)
