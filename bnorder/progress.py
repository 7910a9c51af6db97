"""The time left, in the bars of Snakemake's rich logger: the plugin shows elapsed time only."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path

from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

from bnorder.log import clock

TOTAL, TRAINING = "Total Progress", "train"  # the bar of all jobs, and the rule that decides it
MOMENT = 5.0  # seconds: a job that found its records there takes less


@dataclass
class Jobs:
    """What a rule's jobs took in this run. Times are in seconds, of one clock."""

    running: dict[int, tuple[float, int]] = field(default_factory=dict)  # start, `_found`
    failed: set[int] = field(default_factory=set)
    took: list[float] = field(default_factory=list)  # those that say what the next will take
    together: int = 0  # as many as ran at once
    first: float = 0.0
    last: float = 0.0  # start of the first, end of the last that counts

    def start(self, job: int, now: float, found: int) -> None:
        self.first = now if not self.together else self.first
        self.failed.discard(job)
        self.running[job] = (now, found)
        self.together = max(self.together, len(self.running))

    def finish(self, job: int, now: float) -> None:
        start, found = self.running.pop(job, (now, PART))
        if found == NOTHING or (found == RECORDS and now - start > MOMENT):
            self.took.append(now - start)
            self.last = now

    def fail(self, job: int) -> None:
        self.running.pop(job, None)
        self.failed.add(job)

    def left(self, todo: int, now: float) -> float | None:
        """Seconds for `todo` jobs, the running and the failed among them; None if unknown.

        Here each job that waits takes the next free place. On a cluster there are more jobs than
        places, and how many wait in its queue is unknown: there the jobs done so far are the pace.
        """
        todo -= len(self.failed)
        if not self.took or todo <= 0:
            return None
        if self.together > (os.cpu_count() or 1):
            return (self.last - self.first) * todo / len(self.took) - (now - self.last)
        mean = sum(self.took) / len(self.took)
        places = [max(0.0, start + mean - now) for start, _ in list(self.running.values())]
        waiting = max(0, todo - len(places))
        places = sorted(places + [0.0] * (self.together - len(places)))
        rounds, more = divmod(waiting, len(places))
        return rounds * mean + max(places[-1], places[more - 1] + mean if more else 0.0)


NOTHING, RECORDS, PART = range(3)


def _found(record: LogRecord) -> int:
    """What there was of a job when it started: a checkpoint in a run, whole runs, or neither."""
    for path in map(Path, getattr(record, "output", None) or ()):
        checkpoints = path.parents[1] / "checkpoints" if len(path.parents) > 1 else path.parent
        if (checkpoints / f"{path.stem}.checkpoint.pt").exists():
            return PART
        if path.exists() or (checkpoints / f"{path.stem}.finished.jsonl").exists():
            return RECORDS
    return NOTHING


class TimeLeft(ProgressColumn):
    """Time left of each rule's jobs, by those of it that this run did whole; of all, by training.

    Jobs that take their runs from a checkpoint, and steps of a moment, promise nothing. Rich's own
    column takes the speed from the last jobs to finish, and jobs that started together finish
    together: it then promises a moment.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self._jobs: defaultdict[str, Jobs] = defaultdict(Jobs)
        self._rules: dict[int, str] = {}

    def watch(self, record: LogRecord) -> bool:
        """A filter of the logger, which lets everything pass."""
        event = getattr(getattr(record, "event", None), "name", "")
        job = getattr(record, "job_id" if event == "JOB_FINISHED" else "jobid", None)
        now = self.progress.get_time()
        if event == "JOB_INFO" and job is not None:
            self._rules[job] = str(getattr(record, "rule_name", ""))
            self._jobs[self._rules[job]].start(job, now, _found(record))
        elif event == "JOB_FINISHED" and job in self._rules:
            self._jobs[self._rules[job]].finish(job, now)
        elif event == "JOB_ERROR" and job in self._rules:
            self._jobs[self._rules[job]].fail(job)
        return True

    def render(self, task: Task) -> Text:
        rule = TRAINING if task.description == TOTAL else task.description
        bars = [bar for bar in self.progress.tasks if bar.description == rule]
        if not bars or rule not in self._jobs:
            return Text("")
        todo = round((bars[0].total or 0.0) - bars[0].completed)
        left = self._jobs[rule].left(todo, self.progress.get_time())
        # A job that takes longer than the others did: nobody knows how much.
        return Text(f"{clock(left)} left" if left and left >= 1 else "")


def show_time_left(handlers: Iterable[object]) -> None:
    """Add the column where a logger has rich's progress bars; leave other loggers alone."""
    for handler in handlers:
        progress, watched = getattr(handler, "progress", None), getattr(handler, "addFilter", None)
        if isinstance(progress, Progress) and watched:
            column = TimeLeft(progress)
            watched(column.watch)
            progress.columns = (*progress.columns, column)
