"""The arithmetic of training: an arm's seeds, from their first step to their last.

Its digest stands in every record. What starts and saves it, on which device, is jobs.py's.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F

from bnorder.checkpoints import State
from bnorder.data import Dataset
from bnorder.errors import UserError
from bnorder.network import Network, seeded_generator
from bnorder.optimiser import make_optimiser
from bnorder.records import Evaluation
from bnorder.study import Arm, Recipe

# Fractions of the first epoch at which the test set is evaluated, then every half epoch:
# convergence happens within the first epoch and is measured in steps.
EARLY_EVALUATIONS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
EVALUATION_BATCH = 500  # images; small enough for a core's cache, large enough for a GPU
Progress = Callable[[float, float], None]  # (runs done, images a second)


@dataclass(frozen=True)
class Images:
    """A data set on the device: images uint8 (n, channels, height, width), labels (n,)."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    offset: torch.Tensor  # (channels, 1, 1); a pixel x becomes (x - offset) * scale
    scale: torch.Tensor

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Training images (batch, S * channels, h, w) and labels (S, batch) of index (batch, S)."""
        images = self._as_input(self.train_images[index])
        return images, self.train_labels[index].t()

    def test_batches(self, replicas: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The test set in its own order, the same images for every replica."""
        for start in range(0, len(self.test_labels), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            images = self.test_images[part, None].expand(-1, replicas, -1, -1, -1)
            yield self._as_input(images), self.test_labels[part].expand(replicas, -1)

    def _as_input(self, pixels: torch.Tensor) -> torch.Tensor:
        images = (
            pixels.to(self.offset.dtype) - self.offset
        ) * self.scale  # (batch, S, channels, h, w)
        return images.flatten(1, 2).contiguous(memory_format=torch.channels_last)


def place(dataset: Dataset, recipe: Recipe, device: torch.device) -> Images:
    """Move a data set to the device as bytes, with the constants that scale a pixel.

    Held-out training images take the test set's place, so that a choice made on them
    (a learning rate, say) has not seen the test set.
    """
    n_train = recipe.train_images or len(dataset.train_labels) - recipe.validation_images
    if not 0 < n_train <= len(dataset.train_labels) - recipe.validation_images:
        raise UserError(
            f"recipe.train_images {recipe.train_images} and recipe.validation_images "
            f"{recipe.validation_images}; expected together at most {len(dataset.train_labels)}, "
            f"the training images of {dataset.name}"
        )
    train_images, train_labels = dataset.train_images[:n_train], dataset.train_labels[:n_train]
    test_images, test_labels = dataset.test_images, dataset.test_labels
    if recipe.validation_images:
        test_images = dataset.train_images[-recipe.validation_images :]
        test_labels = dataset.train_labels[-recipe.validation_images :]
    channels = train_images.shape[1]
    offset, scale = torch.zeros(channels), torch.full((channels,), 1 / 255)
    if recipe.scaling == "standardise":
        by_channel = train_images.transpose(0, 1).flatten(1).double()
        offset = by_channel.mean(1).float()
        scale = 1 / by_channel.std(1).clamp_min(1e-3).float()
    tensors = (train_images, train_labels, test_images, test_labels)
    moved = [tensor.to(device) for tensor in tensors]
    return Images(*moved, *(t.view(-1, 1, 1).to(device) for t in (offset, scale)))


def evaluation_steps(steps_per_epoch: int, epochs: int) -> list[int]:
    """Steps after which the test set is evaluated; the last is the run's end."""
    steps = {int(fraction * steps_per_epoch) for fraction in EARLY_EVALUATIONS}
    steps |= {half * steps_per_epoch // 2 for half in range(2, 2 * epochs + 1)}
    return sorted(steps)


@dataclass
class Tally:
    """What the training batches since the last evaluation said, a row a step; device tensors."""

    losses: list[torch.Tensor] = field(default_factory=list)  # each (S,)
    correct: list[torch.Tensor] = field(default_factory=list)  # each (S,)


class Trainer:
    """One arm's replicas in training; `run()` takes them to their end."""

    def __init__(
        self,
        arm: Arm,
        recipe: Recipe,
        dataset: Dataset,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        self.arm, self.recipe, self.seeds, self.device = arm, recipe, list(seeds), device
        self.images, self.data_sha256 = place(dataset, recipe, device), dataset.sha256
        self.n_train = len(self.images.train_labels)
        self.n_test = len(self.images.test_labels)
        self.steps_per_epoch = self.n_train // recipe.batch_size  # the rest waits for next epoch
        if not self.steps_per_epoch:
            raise UserError(
                f"recipe.batch_size is {recipe.batch_size}; expected at most {self.n_train}, "
                f"the training images of {dataset.name}"
            )
        network = Network(arm, recipe, dataset.shape, len(dataset.classes), seeds)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.optimiser = make_optimiser(self.network, recipe)
        self.generators = [seeded_generator(seed, "data order") for seed in seeds]
        self.step = 0
        self.curves: list[list[Evaluation]] = [[] for _ in seeds]
        self.diverged_steps: list[int | None] = [None for _ in seeds]
        self.train_seconds = self.evaluate_seconds = 0.0

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.recipe.epochs

    def run(
        self, progress: Progress | None = None, at_epoch_end: Callable[[], None] | None = None
    ) -> None:
        """Train from where it stands to the last step, or until every replica has diverged."""
        order = torch.empty(0)
        for until in evaluation_steps(self.steps_per_epoch, self.recipe.epochs):
            if self.step >= until and self.curves[0]:
                continue  # done before the checkpoint from which this run goes on
            tally, start = Tally(), time.perf_counter()
            for step in range(self.step, until):
                if step % self.steps_per_epoch == 0:
                    order = self._next_order()
                self._train_step(order[step % self.steps_per_epoch], step, tally)
            wait_for(self.device)
            self.train_seconds += time.perf_counter() - start
            self.step = until
            self._evaluate(tally)
            if all(step is not None for step in self.diverged_steps):
                break
            if progress:
                progress(len(self.seeds) * until / self.total_steps, self.images_per_second)
            if at_epoch_end and until % self.steps_per_epoch == 0 < until < self.total_steps:
                at_epoch_end()

    def state(self) -> State:
        """All that a run is at the end of an epoch, for `restore`."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state(),
            "generators": [generator.get_state() for generator in self.generators],
            "curves": [[asdict(point) for point in curve] for curve in self.curves],
            "diverged_steps": self.diverged_steps,
            "seconds": [self.train_seconds, self.evaluate_seconds],
        }

    def restore(self, state: State) -> None:
        """Go on from `state`, bit for bit as if never interrupted."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.optimiser.restore(state["optimiser"])
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved.cpu())
        self.curves = [[Evaluation(**point) for point in curve] for curve in state["curves"]]
        self.diverged_steps = list(state["diverged_steps"])
        self.train_seconds, self.evaluate_seconds = state["seconds"]

    @property
    def images_per_second(self) -> float:
        images = self.step * self.recipe.batch_size * len(self.seeds)
        return images / max(self.train_seconds, 1e-9)

    def _next_order(self) -> torch.Tensor:
        """One epoch's index, (steps, batch, S): each replica has a permutation of its own."""
        used = self.steps_per_epoch * self.recipe.batch_size
        orders = [torch.randperm(self.n_train, generator=g)[:used] for g in self.generators]
        shape = (self.steps_per_epoch, self.recipe.batch_size, len(orders))
        return torch.stack(orders, 1).view(shape).to(self.device)

    def _train_step(self, index: torch.Tensor, step: int, tally: Tally) -> None:
        images, labels = self.images.batch(index)
        with reduced_precision(self.recipe, self.device):
            logits = self.network(images)  # (S, batch, classes)
        losses = cross_entropy(logits.float(), labels)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step(self._learning_rate(step))
        tally.losses.append(losses.detach())
        tally.correct.append((logits.detach().argmax(2) == labels).sum(1))

    def _learning_rate(self, step: int) -> float:
        """Constant, or a half cosine from the first step to 0 (Loshchilov & Hutter 2017)."""
        if self.recipe.schedule == "constant":
            return self.recipe.learning_rate
        return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.total_steps))

    def _evaluate(self, tally: Tally) -> None:
        """Count the test set and note it, with the training batches since the last time."""
        start = time.perf_counter()
        with reduced_precision(self.recipe, self.device):
            correct, losses = evaluate(self.network, self.images)
        going_on = [step is None for step in self.diverged_steps]
        self._note_divergence(tally)
        for replica, curve in enumerate(self.curves):
            if going_on[replica]:
                curve.append(self._evaluation(replica, correct, losses, tally))
        self.evaluate_seconds += time.perf_counter() - start

    def _evaluation(
        self, replica: int, correct: torch.Tensor, losses: torch.Tensor, tally: Tally
    ) -> Evaluation:
        seen = len(tally.losses) * self.recipe.batch_size
        train_loss = torch.stack(tally.losses)[:, replica].double().mean() if seen else None
        train_correct = int(torch.stack(tally.correct)[:, replica].sum()) if seen else 0
        return Evaluation(
            step=self.step,
            epoch=self.step / self.steps_per_epoch,
            test_correct=int(correct[replica]),
            test_loss=_finite(float(losses[replica])),
            train_seen=seen,
            train_correct=train_correct,
            train_loss=None if train_loss is None else _finite(float(train_loss)),
        )

    def _note_divergence(self, tally: Tally) -> None:
        if not tally.losses:
            return
        finite = torch.stack(tally.losses).isfinite().cpu()  # (steps, S)
        first_step = self.step - len(tally.losses)
        for replica, column in enumerate(finite.t()):
            if self.diverged_steps[replica] is None and not bool(column.all()):
                self.diverged_steps[replica] = first_step + int((~column).nonzero()[0]) + 1

    def parameters(self) -> int:
        """Trained numbers of one replica."""
        return sum(int(p.numel()) for p in self.network.parameters()) // len(self.seeds)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each replica: logits (S, batch, classes), labels (S, batch) -> (S,)."""
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view(labels.shape).mean(1)


@torch.inference_mode()
def evaluate(network: Network, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Correct answers and mean loss on the whole test set, (S,) each, with running statistics."""
    network.eval()
    replicas = network.replicas
    correct = torch.zeros(replicas, dtype=torch.int64, device=images.test_labels.device)
    loss = torch.zeros(replicas, dtype=torch.float64, device=correct.device)
    for batch, labels in images.test_batches(replicas):
        logits = network(batch).float()
        correct += (logits.argmax(2) == labels).sum(1)
        loss += cross_entropy(logits, labels).double() * labels.shape[1]
    network.train()
    return correct.cpu(), loss.cpu() / len(images.test_labels)


def reduced_precision(recipe: Recipe, device: torch.device) -> torch.autocast:
    """bf16 arithmetic where the recipe asks for it, else nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def set_exactness(recipe: Recipe) -> None:
    """Let CUDA round to TF32 only where the recipe says so, and take repeatable algorithms."""
    tf32 = recipe.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
