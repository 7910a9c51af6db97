"""The time left, in the bars of Snakemake's rich logger: the plugin shows elapsed time only."""

from collections.abc import Iterable

from rich.progress import Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from bnorder.log import clock


class TimeLeft(ProgressColumn):
    """Time left if the jobs to come take as long as those done, counted down between two of them.

    rich's own column takes the speed from the last jobs to finish, and jobs that started together
    finish together: it then promises a moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self._latest: dict[TaskID, tuple[float, float]] = {}  # jobs done, and seconds until then

    def render(self, task: Task) -> Text:
        elapsed, total = task.elapsed or 0.0, task.total or 0.0
        if task.completed and self._latest.get(task.id, (0.0, 0.0))[0] != task.completed:
            self._latest[task.id] = (task.completed, elapsed)
        if task.completed >= total or task.id not in self._latest:
            return Text("")
        done, seconds = self._latest[task.id]
        return Text(f"{clock(seconds * (total - done) / done - (elapsed - seconds))} left")


def show_time_left(handlers: Iterable[object]) -> None:
    """Add the column where a logger has rich's progress bars; leave other loggers alone."""
    for handler in handlers:
        progress = getattr(handler, "progress", None)
        if isinstance(progress, Progress):
            progress.columns = (*progress.columns, TimeLeft())
