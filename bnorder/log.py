"""What a training process says of its progress: runs done, images a second, time left."""

import sys
import time
from typing import IO

from bnorder.study import Arm


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: 0:01:30."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Log:
    """A line every five seconds.

    runs: how many there are to train; at_most: fewer may be, since some were finished before.
    """

    def __init__(self, runs: int, *, at_most: bool = False, file: IO[str] | None = None) -> None:
        self.runs, self.at_most, self.file = runs, at_most, file or sys.stdout
        self.start = self.printed = time.monotonic()
        self.first: tuple[float, float] | None = None  # runs done before, and when training began

    def progress(self, done: float, images_per_second: float, arm: Arm | None = None) -> None:
        """done: runs finished, with the fraction of those in training; arm: the one in training."""
        now = time.monotonic()
        self.first = self.first or (done, now)
        before, start = self.first
        if now - self.printed < 5 or done <= before:
            return
        self.printed = now
        left = clock((now - start) * (self.runs - done) / (done - before))
        print(
            f"{done:.2f} of {self.runs} runs, {arm.id + ', ' if arm else ''}"
            f"{images_per_second:,.0f} images/s, {'at most ' if self.at_most else ''}{left} left",
            file=self.file,
            flush=True,
        )

    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self.start
