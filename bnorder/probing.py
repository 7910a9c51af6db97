"""When and where a network is probed while it trains: it is read, and no number of it changes.

This stands beside training.py and not inside it, because training.py decides a run's numbers and
its digest stands in every record: a study without probes keeps its records whatever happens here.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from bnorder import probes, training
from bnorder.checkpoints import State
from bnorder.data import Dataset
from bnorder.network import Network
from bnorder.probes import Moments
from bnorder.records import Probe
from bnorder.study import Arm, Recipe

EARLY_STEPS = (0, 1, 3, 10, 30, 100)  # probed where a run has them, beside each epoch's end
PROBE_BATCHES = 8  # of the recipe's batch size, from the first training images
GRADIENT_BATCHES = 2  # of them
STEP_SIZES = (0.03, 0.1, 0.3)  # along the gradient, the same for every recipe
RECOMPUTE_BATCHES = 32  # likewise, for the statistics with which the test set is counted again

Batch = tuple[torch.Tensor, torch.Tensor]  # images (batch, S * channels, h, w), labels (S, batch)
Seen = Mapping[str, tuple[torch.Tensor, torch.Tensor]]  # a layer's name -> its input and output


@dataclass(frozen=True)
class Reading:
    """One probe of one layer: `values` (S,), one a replica; layer 0 is the whole network."""

    layer: int
    name: str
    probe: str
    values: torch.Tensor


def convolutions(network: Network) -> dict[str, nn.Conv2d]:
    """The body's convolutions by name, in order; as every kind, they are numbered from 1."""
    return {n: layer for n, layer in network.body.named_children() if isinstance(layer, nn.Conv2d)}


def batch_norms(network: Network) -> dict[str, nn.BatchNorm2d]:
    layers = network.body.named_children()
    return {n: layer for n, layer in layers if isinstance(layer, nn.BatchNorm2d)}


def activations(network: Network) -> list[str]:
    return [name for name, _ in network.body.named_children() if name.endswith("_act")]


def running_statistics(layer: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The very buffers of running mean and variance, (S * C,) each."""
    mean, variance = layer.running_mean, layer.running_var
    assert mean is not None and variance is not None
    return mean, variance


def convolution_weights(network: Network) -> dict[str, torch.Tensor]:
    """Copies of the convolutions' weights by layer."""
    return {name: c.weight.detach().clone() for name, c in convolutions(network).items()}


@contextmanager
def batch_statistics(network: Network) -> Iterator[None]:
    """BN normalises by the batch, as in training, and its running averages stay as they are."""
    layers, was_training = batch_norms(network).values(), network.training
    for layer in layers:
        layer.track_running_stats = False
    network.train()
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
        network.train(was_training)


@contextmanager
def observed(network: Network) -> Iterator[Seen]:
    """What goes into and comes out of each layer of the body in the next forward pass."""
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(
        name: str, _: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        seen[name] = (inputs[0], output)

    children = network.body.named_children()
    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in children]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def recomputed_statistics(network: Network, images: Iterable[torch.Tensor]) -> Iterator[None]:
    """BN's running averages are those of `images`, pooled over batches; afterwards the old ones.

    Source: Wu & Johnson (2021), section 3, "precise" statistics.
    """
    layers = batch_norms(network)
    found: dict[str, list[Moments]] = {name: [] for name in layers}
    with torch.no_grad(), batch_statistics(network):
        for batch in images:
            with observed(network) as seen:
                network(batch)
            for name in layers:
                found[name].append(probes.moments(seen[name][0], network.replicas))
    buffers = {name: running_statistics(layer) for name, layer in layers.items()}
    saved = {name: (mean.clone(), variance.clone()) for name, (mean, variance) in buffers.items()}
    wanted = {name: probes.pooled(batches) for name, batches in found.items()}
    try:
        for name, (mean, variance) in buffers.items():
            mean.copy_(wanted[name].mean.flatten())
            variance.copy_(wanted[name].variance.flatten())
        yield
    finally:
        for name, (mean, variance) in buffers.items():
            mean.copy_(saved[name][0])
            variance.copy_(saved[name][1])


def read(
    network: Network, batches: Sequence[Batch], before: Mapping[str, torch.Tensor] | None = None
) -> list[Reading]:
    """All readings of a network on `batches`; gradients are those of each batch's mean loss.

    before: the convolutions' weights before the last step of training, where there was one.
    Gradients are taken on the first 2 batches; shapes of distributions, covariances and the loss
    landscape, which cost most, on the first alone.
    """
    readings, passes = [], []
    with batch_statistics(network):
        for number, batch in enumerate(batches):
            with torch.set_grad_enabled(number < GRADIENT_BATCHES):
                seen, one = _pass(network, batch)
            passes.append(one)
            if number == 0:
                readings += _read_shapes(network, seen)
        readings += _read_landscape(network, batches[0])
    readings += _read_gradients(network, [p.gradients for p in passes if p.gradients])
    readings += _read_updates(network, before or {})
    for number, (name, layer) in enumerate(batch_norms(network).items(), 1):
        moments = [one.moments[name] for one in passes]
        readings += _read_norm(number, name, layer, moments, network.replicas)
    for number, name in enumerate(activations(network), 1):
        share = probes.zero_channels([one.alive[name] for one in passes])
        readings.append(Reading(number, name, "zero_channels", share))
    return readings


@dataclass(frozen=True)
class Pass:
    """What one batch leaves: of each BN's input, each activation's output, and of gradients."""

    moments: dict[str, Moments]
    alive: dict[str, torch.Tensor]  # (S, C) each
    gradients: tuple[torch.Tensor, torch.Tensor] | None  # (L, S) each


def _pass(network: Network, batch: Batch) -> tuple[Seen, Pass]:
    images, labels = batch
    replicas = network.replicas
    with observed(network) as seen:
        logits = network(images)
    moments = {n: probes.moments(seen[n][0], replicas) for n in batch_norms(network)}
    alive = {n: probes.alive_channels(seen[n][1], replicas) for n in activations(network)}
    wanted = torch.is_grad_enabled()
    gradients = gradient_norms(network, seen, logits, labels) if wanted else None
    return seen, Pass(moments, alive, gradients)


def gradient_norms(
    network: Network, seen: Seen, logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Norms of the loss gradient at each convolution's output and at its weights, (L, S) each.

    The loss is each replica's mean cross-entropy; no parameter's `.grad` is touched.
    """
    layers = convolutions(network)
    places = [seen[name][1] for name in layers]
    weights = [layer.weight for layer in layers.values()]
    loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="sum")
    found = torch.autograd.grad(loss / labels.shape[1], [*places, *weights])
    replicas, half = network.replicas, len(places)
    at_outputs = torch.stack([probes.norms(g, replicas, 1) for g in found[:half]])
    return at_outputs, torch.stack([probes.norms(g, replicas, 0) for g in found[half:]])


def _read_gradients(
    network: Network, gradients: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> list[Reading]:
    """Gradient norms, averaged over batches, and their slopes over the convolutions."""
    at_outputs, at_weights = (torch.stack(g).mean(0) for g in zip(*gradients, strict=True))
    slopes = (("gradient_slope", at_outputs), ("weight_gradient_slope", at_weights))
    readings = [
        Reading(0, "network", probe, probes.absolute_log_slope(values)) for probe, values in slopes
    ]
    for i, (name, layer) in enumerate(convolutions(network).items()):
        size = probes.norms(layer.weight, network.replicas, 0)
        readings.append(Reading(i + 1, name, "activation_gradient_norm", at_outputs[i]))
        readings.append(Reading(i + 1, name, "weight_gradient_norm", at_weights[i]))
        readings.append(Reading(i + 1, name, "relative_gradient", at_weights[i] / size))
    return readings


def _read_updates(network: Network, before: Mapping[str, torch.Tensor]) -> list[Reading]:
    """|change| / |weights| of the optimiser's last step, as a run really made it."""
    readings = []
    for number, (name, layer) in enumerate(convolutions(network).items(), 1):
        if name in before:
            change = probes.norms(layer.weight - before[name], network.replicas, 0)
            relative = change / probes.norms(before[name], network.replicas, 0)
            readings.append(Reading(number, name, "relative_update", relative))
    return readings


def _read_landscape(network: Network, batch: Batch) -> list[Reading]:
    """The loss of one batch along its gradient in all parameters."""
    images, labels = batch
    names, parameters = zip(*network.named_parameters(), strict=True)

    def losses(moved: Sequence[torch.Tensor]) -> torch.Tensor:
        named = dict(zip(names, moved, strict=True))
        logits = torch.func.functional_call(network, named, (images,))
        return training.cross_entropy(logits.float(), labels)

    found = probes.landscape(losses, parameters, network.replicas, STEP_SIZES)
    named = {
        "landscape_loss_range": found.loss_range,
        "landscape_gradient_change": found.gradient_change,
        "landscape_smoothness": found.smoothness,
    }
    return [Reading(0, "network", probe, values) for probe, values in named.items()]


def _read_shapes(network: Network, seen: Seen) -> list[Reading]:
    """The distribution at each BN's input and the covariance at each convolution's."""
    replicas, readings = network.replicas, []
    for number, name in enumerate(batch_norms(network), 1):
        x = seen[name][0].detach()
        skewness, kurtosis = probes.skewness_and_kurtosis(x, replicas)
        readings.append(Reading(number, name, "bn_input_skewness", skewness))
        readings.append(Reading(number, name, "bn_input_kurtosis", kurtosis))
        readings.append(Reading(number, name, "bn_input_zeros", probes.zero_share(x, replicas)))
    for number, name in enumerate(convolutions(network), 1):
        x = seen[name][0].detach()
        moments = probes.moments(x, replicas)
        values = probes.eigenvalues(probes.channel_covariance(x, replicas))
        found = {
            "conv_input_mean": moments.mean.mean(1),
            "conv_input_variance": moments.variance.mean(1),
            "conv_input_condition_number": probes.condition_number(values),
            "conv_input_effective_rank": probes.effective_rank(values),
        }
        readings += [Reading(number, name, probe, value) for probe, value in found.items()]
    return readings


def _read_norm(
    number: int, name: str, layer: nn.BatchNorm2d, batches: Sequence[Moments], replicas: int
) -> list[Reading]:
    """How steady one BN's statistics are, how far its running averages, and its gamma."""
    eps, whole = layer.eps, probes.pooled(batches)
    running = Moments(*(b.view(replicas, -1) for b in running_statistics(layer)))
    found = {
        "bn_input_least_variance": probes.least_variance_over_eps(whole.variance, eps),
        "running_mean_distance": probes.mean_distance(running, whole, eps),
        "running_variance_distance": probes.variance_distance(running, whole, eps),
        "collapsed_channels": probes.collapsed_channels(layer.weight, replicas),
    }
    if len(batches) > 1:
        found["bn_input_mean_cv"] = probes.mean_variation(batches, eps)
        found["bn_input_variance_cv"] = probes.variance_variation(batches, eps)
    return [Reading(number, name, probe, values) for probe, values in found.items()]


class ProbedTrainer(training.Trainer):
    """A trainer that reads its network on a schedule and trains exactly as one that does not.

    The probe batches are the first training images in their own order, the same for each replica:
    no generator is drawn from. They are read in float32, whatever the recipe's precision.
    """

    def __init__(
        self,
        arm: Arm,
        recipe: Recipe,
        dataset: Dataset,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        super().__init__(arm, recipe, dataset, seeds, device)
        self.probe_seconds = 0.0
        self.probes: list[list[Probe]] = [[] for _ in seeds]
        ends = (self.steps_per_epoch * (epoch + 1) for epoch in range(recipe.epochs))
        self.probe_steps = {step for step in EARLY_STEPS if step <= self.total_steps} | {*ends}

    def _train_step(self, index: torch.Tensor, step: int, tally: training.Tally) -> None:
        due = step + 1 in self.probe_steps
        before = convolution_weights(self.network) if due else None
        super()._train_step(index, step, tally)
        if due:  # the caller's clock runs on meanwhile and will count this as training
            self.train_seconds -= self._timed(lambda: self._probe(step + 1, before))

    def _evaluate(self, tally: training.Tally) -> None:
        super()._evaluate(tally)
        if self.step == 0:
            self._timed(lambda: self._probe(0, None))
        if self.step == self.total_steps:
            self._timed(self._probe_running_averages)

    def _timed(self, probe: Callable[[], None]) -> float:
        training.wait_for(self.device)
        start = time.perf_counter()
        probe()
        training.wait_for(self.device)
        seconds = time.perf_counter() - start
        self.probe_seconds += seconds
        return seconds

    def _batches(self, most: int) -> Iterator[Batch]:
        size, replicas = self.recipe.batch_size, len(self.seeds)
        for number in range(min(most, self.steps_per_epoch)):
            index = torch.arange(number * size, (number + 1) * size, device=self.device)
            yield self.images.batch(index[:, None].expand(-1, replicas))

    def _probe(self, step: int, before: Mapping[str, torch.Tensor] | None) -> None:
        readings = read(self.network, list(self._batches(PROBE_BATCHES)), before)
        self._note(step, readings)

    def _probe_running_averages(self) -> None:
        """Test accuracy with recomputed statistics - with running averages, at the run's end."""
        if not batch_norms(self.network):
            return
        images = (images for images, _ in self._batches(RECOMPUTE_BATCHES))
        with recomputed_statistics(self.network, images):
            recomputed, _ = training.evaluate(self.network, self.images)
        running = torch.tensor([curve[-1].test_correct for curve in self.curves])
        lost = 100 * (recomputed - running).double() / self.n_test
        finished = torch.tensor([step is None for step in self.diverged_steps])
        values = lost.where(finished, torch.nan)
        self._note(self.step, [Reading(0, "network", "running_loss_pp", values)])

    def _note(self, step: int, readings: Iterable[Reading]) -> None:
        """Keep what is finite, to six digits: a probe that does not apply leaves no row."""
        for reading in readings:
            for replica, value in enumerate(reading.values.tolist()):
                if abs(value) < float("inf"):
                    rounded = float(f"{value:.6g}")
                    probe = Probe(step, reading.layer, reading.name, reading.probe, rounded)
                    self.probes[replica].append(probe)

    def state(self) -> State:
        rows = [[astuple(probe) for probe in replica] for replica in self.probes]
        return super().state() | {"probes": rows, "probe_seconds": self.probe_seconds}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.probes = [[Probe(*row) for row in replica] for replica in state["probes"]]
        self.probe_seconds = state["probe_seconds"]

    def sorted_probes(self, replica: int) -> tuple[Probe, ...]:
        """A replica's rows, series by series."""
        return tuple(sorted(self.probes[replica], key=lambda p: (p.layer, p.name, p.probe, p.step)))
