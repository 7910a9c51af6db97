"""Training as a GPU wants it: nothing asked of the device inside an epoch, a step as one launch.

`CapturedTrainer` takes the steps of `training.Trainer` on buffers that stay where they are. On CUDA
a step becomes a graph: recorded once, then replayed, so that the host launches one thing a step
instead of some hundred. On a CPU the same functions are called directly, which is how they are
tested. This stands beside training.py and not inside it: the arithmetic is training's own, and a
faster way to launch it is no reason to train again.

Source: CUDA graphs, as PyTorch's documentation has them ("whole-network capture").
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from bnorder import training
from bnorder.checkpoints import State
from bnorder.data import Dataset
from bnorder.study import Arm, Recipe
from bnorder.training import Progress, Tally, reduced_precision

WARM_UP = 1  # calls before a graph is recorded: libraries choose algorithms and take memory in them


class Replayed:
    """One function on fixed buffers, called again and again; on CUDA a graph from the second call.

    The function comes with each call: kept, a trainer's own method would keep the trainer with all
    its memory alive until Python looks for cycles.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.calls = device, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.side: Any = None  # one stream for all calls: each stream keeps memory of its own

    def __call__(self, action: Callable[[], None]) -> None:
        self.calls += 1
        if self.device.type != "cuda":
            action()
        elif self.calls <= WARM_UP:
            self._on_side_stream(action)
        else:
            if self.graph is None:
                self._on_side_stream(partial(self._record, action))
            assert self.graph
            self.graph.replay()

    def _record(self, action: Callable[[], None]) -> None:
        """Not by `torch.cuda.graph`, which looks for cycles and waits for the device at each."""
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        try:
            action()
        finally:  # else the stream would go on recording what comes next
            graph.capture_end()
        self.graph = graph

    def _on_side_stream(self, action: Callable[[], None]) -> None:
        """What is recorded later must not have touched the default stream's memory before."""
        if self.side is None:
            self.side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream(self.device)
        self.side.wait_stream(current)
        with torch.cuda.stream(self.side):
            action()
        current.wait_stream(self.side)


class Stopwatch:
    """Seconds of training and of evaluation, without waiting for the device to ask the time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[tuple[str, Any]] = []

    def mark(self, next_is: str) -> None:
        """What follows counts as `next_is`."""
        mark: Any = time.perf_counter()
        if self.device.type == "cuda":
            mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            mark.record()
        self.marks.append((next_is, mark))

    def seconds(self) -> dict[str, float]:
        """Seconds by name since the last call; the device must have come to its end."""
        totals: dict[str, float] = {}
        for (name, start), (_, end) in zip(self.marks, self.marks[1:], strict=False):
            cuda = self.device.type == "cuda"
            seconds = start.elapsed_time(end) / 1000 if cuda else end - start
            totals[name] = totals.get(name, 0.0) + seconds
        self.marks = []
        return totals


class CapturedTrainer(training.Trainer):
    """`Trainer`, whose host waits for the device at the ends of epochs only."""

    def __init__(
        self,
        arm: Arm,
        recipe: Recipe,
        dataset: Dataset,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        super().__init__(arm, recipe, dataset, seeds, device)
        replicas, per_epoch = len(seeds), self.steps_per_epoch
        self.order = torch.zeros(
            (per_epoch, recipe.batch_size, replicas), dtype=torch.int64, device=device
        )
        self.losses = torch.zeros((per_epoch, replicas), device=device)
        self.correct = torch.zeros((per_epoch, replicas), dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # step within the epoch
        points = len(training.EARLY_EVALUATIONS) + 2  # of one epoch at most
        self.test_correct = torch.zeros((points, replicas), dtype=torch.int64, device=device)
        self.test_losses = torch.zeros((points, replicas), dtype=torch.float64, device=device)
        self.point = torch.zeros(1, dtype=torch.int64, device=device)
        self.rates = self._rates()
        self.total_position = torch.zeros(1, dtype=torch.int64, device=device)
        self.take_step = Replayed(device)
        self.take_evaluation = Replayed(device)
        self.next_order: torch.Tensor | None = None
        self.drawn_from: list[torch.Tensor] = []  # the generators before `next_order` was drawn

    def run(
        self, progress: Progress | None = None, at_epoch_end: Callable[[], None] | None = None
    ) -> None:
        """As `Trainer.run`; progress, divergence and checkpoints are looked at once an epoch."""
        watch, pending = Stopwatch(self.device), list[tuple[int, int]]()
        self.total_position.fill_(self.step)
        for until in training.evaluation_steps(self.steps_per_epoch, self.recipe.epochs):
            if self.step >= until and self.curves[0]:
                continue  # done before the checkpoint from which this run goes on
            watch.mark("train")
            for step in range(self.step, until):
                if step % self.steps_per_epoch == 0:
                    self._begin_epoch()
                self.take_step(self._step)
            watch.mark("evaluate")
            self.take_evaluation(self._evaluation_pass)
            pending.append((self.step, until))
            self.step = until
            if until % self.steps_per_epoch:
                continue
            watch.mark("")
            self._draw_next_order()
            self._settle(pending, watch)
            if all(step is not None for step in self.diverged_steps):
                break
            if progress:
                progress(len(self.seeds) * until / self.total_steps, self.images_per_second)
            if at_epoch_end and 0 < until < self.total_steps:
                at_epoch_end()

    def state(self) -> State:
        """As `Trainer.state`; an order drawn ahead of its epoch has not been drawn."""
        state = super().state()
        if self.next_order is not None:
            state["generators"] = self.drawn_from
        return state

    def _rates(self) -> torch.Tensor | None:
        """The learning rate of each step (steps,) where it is not the same for all."""
        if self.recipe.schedule == "constant":
            return None
        rates = [self._learning_rate(step) for step in range(self.total_steps)]
        return torch.tensor(rates, device=self.device)

    def _begin_epoch(self) -> None:
        order = self._next_order() if self.next_order is None else self.next_order
        self.order.copy_(order, non_blocking=True)
        self.position.zero_()
        self.next_order = None

    def _draw_next_order(self) -> None:
        """The host shuffles for the next epoch while the device still works on this one."""
        if self.step < self.total_steps:
            self.drawn_from = [generator.get_state() for generator in self.generators]
            self.next_order = self._next_order()

    def _step(self) -> None:
        """One step of training on the buffers; `Trainer._train_step`, but that it asks nothing."""
        index = self.order.index_select(0, self.position)[0]
        images, labels = self.images.batch(index)
        with reduced_precision(self.recipe, self.device):
            logits = self.network(images)
        self._backward(logits, labels)
        rate: Any = self.recipe.learning_rate
        if self.rates is not None:
            rate = self.rates.index_select(0, self.total_position)[0]
        self.optimiser.step(rate)
        self.position += 1
        self.total_position += 1

    def _backward(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """The gradients of the loss, which is noted, as is how many answers are correct."""
        losses = training.cross_entropy(logits.float(), labels)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        correct = (logits.detach().argmax(2) == labels).sum(1)
        self.losses.index_copy_(0, self.position, losses.detach()[None])
        self.correct.index_copy_(0, self.position, correct[None])

    @torch.no_grad()
    def _evaluation_pass(self) -> None:
        """`training.evaluate` into the buffers' next row."""
        self.network.eval()
        correct = torch.zeros_like(self.test_correct[0])
        losses = torch.zeros_like(self.test_losses[0])
        with reduced_precision(self.recipe, self.device):
            for batch, labels in self.images.test_batches(len(self.seeds)):
                logits = self.network(batch).float()
                correct += (logits.argmax(2) == labels).sum(1)
                losses += training.cross_entropy(logits, labels).double() * labels.shape[1]
        self.test_correct.index_copy_(0, self.point, correct[None])
        self.test_losses.index_copy_(0, self.point, losses[None])
        self.point += 1
        self.network.train()

    def _settle(self, pending: list[tuple[int, int]], watch: Stopwatch) -> None:
        """Read what an epoch left on the device, all at once, and note it."""
        found = (self.losses, self.correct, self.test_correct, self.test_losses)
        losses, correct, test_correct, test_losses = (tensor.cpu() for tensor in found)
        seconds = watch.seconds()
        self.train_seconds += seconds.get("train", 0.0)
        self.evaluate_seconds += seconds.get("evaluate", 0.0)
        for row, (start, end) in enumerate(pending):
            first = start % self.steps_per_epoch
            part = slice(first, first + end - start)
            tally = Tally(list(losses[part]), list(correct[part]))
            self._note(end, tally, test_correct[row], test_losses[row] / self.n_test)
        pending.clear()
        self.point.zero_()

    def _note(self, step: int, tally: Tally, correct: torch.Tensor, losses: torch.Tensor) -> None:
        """A point of each curve, at `step`; nothing more of a replica that had diverged."""
        self.step = step
        going_on = [diverged is None for diverged in self.diverged_steps]
        self._note_divergence(tally)
        for replica, curve in enumerate(self.curves):
            if going_on[replica]:
                curve.append(self._evaluation(replica, correct, losses, tally))
