"""Train a whole study in one process, on one GPU or on the CPU, without Snakemake.

The records are those of the workflow's jobs: a later `make report` takes them as its own. Killed,
it goes on where it was when the same command is given again.
"""

import _bootstrap  # noqa: F401
import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from bnorder.errors import UserError, exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True, help="such as article, or a study's file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--data-dir", action="append", default=[], help="searched for local files")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder")
    parser.add_argument("--together", type=int, help="seeds in one network on a GPU (all)")
    arguments = parser.parse_args()
    if arguments.together is not None and arguments.together < 1:
        raise UserError(f"--together is {arguments.together}; expected at least 1")

    from bnorder.devices import require_cuda, take_gpu
    from bnorder.locks import hold_study
    from bnorder.log import Log
    from bnorder.study import parse_override
    from bnorder.workflow import as_config, as_make_words, configured_study

    overrides = dict(map(parse_override, arguments.overrides))
    _, _, study = configured_study({"study": arguments.study} | overrides)
    if arguments.data_dir:
        study = replace(study, data_dirs=(*study.data_dirs, *arguments.data_dir))
    lease = take_gpu(study.jobs_per_gpu)  # before torch is imported
    require_cuda(lease)
    lock = hold_study(arguments.results / study.name)
    from bnorder import whole_study

    start = time.monotonic()
    runs = sum(len(part.runs()) for part in study.parts())
    log = Log(runs, at_most=True, file=sys.stderr)
    done = whole_study.train_study(study, arguments.results, log.progress, arguments.together)
    lock.close()
    where = f"GPU {lease.device}, leased" if lease else "the visible device"
    print(f"{study.name}: {done} runs trained in {time.monotonic() - start:.1f} s on {where}")
    words = as_make_words({"study": arguments.study} | as_config(arguments.overrides))
    elsewhere = arguments.results.resolve() != Path("results").resolve()
    move = f"copy {arguments.results / study.name} into results/, then " if elsewhere else ""
    print(f"next: {move}make report {words}", flush=True)


if __name__ == "__main__":
    exit_cleanly(main)
