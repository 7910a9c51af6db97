"""Train one job of a study (some seeds of some arms) and write its records."""

import _bootstrap  # noqa: F401
import argparse
import json
from pathlib import Path

from bnorder.errors import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=Path, help="the study, or the effective one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--job", required=True, help="the job's name, as a dry run shows it")
    parser.add_argument("--data", required=True, type=Path, help="the data set's cache file")
    parser.add_argument("--out", required=True, type=Path, help="the records (.jsonl) to write")
    arguments = parser.parse_args()

    from bnorder import checkpoints
    from bnorder.log import Log
    from bnorder.study import load_study, parse_override

    study = load_study(arguments.study, dict(map(parse_override, arguments.overrides)))
    study = study.part_with(arguments.job)
    job = study.job(arguments.job)
    print(f"{job.name}: {len(job.runs)} runs", flush=True)
    log = Log(len(job.runs))
    folder = arguments.out.parent.parent / "checkpoints"
    lock = checkpoints.claim(folder, job.name, arguments.out)
    trained = _finished(study, job, arguments.data, folder) or _train(study, job, arguments, log)
    checkpoints.finish(folder, job.name, arguments.out, trained)
    lock.close()
    print(f"{job.name}: {len(trained)} records in {log.seconds():.1f} s")


def _finished(study, job, data, folder):  # type: ignore[no-untyped-def]
    """The job's records where all its runs were finished before, as after `make restore`."""
    from bnorder import checkpoints, records

    try:
        checksum = json.loads(data.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # missing or damaged: the data speak for themselves
    identity = {"code": records.code_hash(study.probes), "data": checksum}
    hashes = {run.id: study.config_hash(run.arm) for run in job.runs}
    return checkpoints.finished_runs(folder, job.name, identity, hashes)


def _train(study, job, arguments, log):  # type: ignore[no-untyped-def]
    from bnorder.devices import require_cuda, take_gpu

    lease = take_gpu(study.jobs_per_gpu)  # before torch is imported
    from bnorder import data, jobs

    require_cuda(lease)
    if lease:
        print(f"on GPU {lease.device}, leased")
    folder = arguments.out.parent.parent / "checkpoints"
    return jobs.train_job(study, job, data.load(arguments.data), log.progress, folder)


if __name__ == "__main__":
    exit_cleanly(main)
