"""Train one job of a study (some seeds of some arms) and write its records."""

import _bootstrap  # noqa: F401
import argparse
import json
import time
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
    from bnorder.study import load_study, parse_override

    study = load_study(arguments.study, dict(map(parse_override, arguments.overrides)))
    study = study.part_with(arguments.job)
    job = study.job(arguments.job)
    log = Log(job.name, len(job.runs))
    folder = arguments.out.parent.parent / "checkpoints"
    lock = checkpoints.claim(folder, job.name, arguments.out)
    trained = _finished(study, job, arguments.data, folder) or _train(study, job, arguments, log)
    checkpoints.finish(folder, job.name, arguments.out, trained)
    lock.close()
    log.end(trained)


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


class Log:
    """Progress on standard output: runs done, images a second, time left."""

    def __init__(self, name: str, runs: int) -> None:
        self.name, self.runs = name, runs
        self.start = self.printed = time.monotonic()
        self.first: tuple[float, float] | None = None  # runs done before, and when training began
        print(f"{name}: {runs} runs", flush=True)

    def progress(self, done: float, images_per_second: float) -> None:
        """done: runs finished, with the fraction of those in training."""
        now = time.monotonic()
        self.first = self.first or (done, now)
        before, start = self.first
        if now - self.printed < 5 or done <= before:
            return
        self.printed = now
        left = (now - start) * (self.runs - done) / (done - before)
        print(
            f"{done:.2f} of {self.runs} runs, {images_per_second:,.0f} images/s, "
            f"{left // 60:.0f}:{left % 60:02.0f} left",
            flush=True,
        )

    def end(self, trained: "list[object]") -> None:
        print(f"{self.name}: {len(trained)} records in {time.monotonic() - self.start:.1f} s")


if __name__ == "__main__":
    exit_cleanly(main)
