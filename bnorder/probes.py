"""What is measured inside a network: pure functions on tensors, one number a replica.

Shapes throughout: S replicas (seeds) are S groups of C channels, so activations are
(batch, S * C, height, width) and every result is (S,) unless it says (S, C) or (L, S), L layers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

COLLAPSED_GAMMA = 1e-3  # |gamma| below which a channel is called collapsed
LEAST_EIGENVALUE = 1e-7  # of the greatest: what float32 can tell from 0


def norms(tensor: torch.Tensor, replicas: int, dim: int) -> torch.Tensor:
    """Euclidean norm of each replica's part of a tensor, (S,).

    tensor: the replicas stand behind each other in dimension `dim`: 1 for activations and their
    gradients, 0 for the weights of a grouped convolution. Source: Glorot & Bengio (2010) compare
    the size of back-propagated gradients over layers.
    """
    parts = torch.stack(tensor.detach().chunk(replicas, dim))
    size: torch.Tensor = torch.linalg.vector_norm(parts.flatten(1), dim=1)
    return size


def absolute_log_slope(values: torch.Tensor) -> torch.Tensor:
    """Absolute least-squares slope of ln(value) over the layers 1..L, (S,), in 1 / layer.

    values: (L, S) positive norms. 0: the same at every layer; s: each layer multiplies or divides
    it by e**s, so both vanishing and exploding gradients have a large slope. NaN for L < 2 and
    where a norm is 0. Source: exponential decay or growth over depth (Hochreiter et al. 2001;
    Yang et al. 2019, for batch norm).
    """
    layers = torch.arange(len(values), dtype=torch.float64, device=values.device)
    centred = (layers - layers.mean())[:, None]
    logs = values.double().log()
    slope = (centred * logs).sum(0) / (centred**2).sum()
    return slope.abs().where(slope.isfinite(), math.nan)


def rows(activations: torch.Tensor) -> torch.Tensor:
    """(batch * height * width, S * C) in float32: no copy of what lies channels last.

    Sums over rows are many times as fast on a CPU as PyTorch's var_mean over three dimensions.
    """
    return activations.detach().float().permute(0, 2, 3, 1).flatten(0, 2)


@dataclass(frozen=True)
class Moments:
    """A batch's mean and biased variance of every channel, (S, C) each."""

    mean: torch.Tensor
    variance: torch.Tensor


def moments(activations: torch.Tensor, replicas: int) -> Moments:
    """The two moments with which BN normalises a batch (Ioffe & Szegedy 2015, algorithm 1)."""
    x = rows(activations)
    mean = x.mean(0)
    centred = x - mean
    return Moments(mean.view(replicas, -1), (centred * centred).mean(0).view(replicas, -1))


def pooled(batches: Sequence[Moments]) -> Moments:
    """Mean and variance of all batches together, by the law of total variance.

    These are the "precise" statistics of Wu & Johnson (2021), section 3.
    """
    means = torch.stack([b.mean for b in batches])  # (batches, S, C)
    within = torch.stack([b.variance for b in batches]).mean(0)
    return Moments(means.mean(0), within + means.var(0, correction=0))


def mean_variation(batches: Sequence[Moments], eps: float) -> torch.Tensor:
    """How much a batch's mean varies from batch to batch, (S,), averaged over channels.

    Standard deviation of the batch means over the root of (mean batch variance + eps). A plain
    coefficient of variation divides by the mean, which may be 0 and then says nothing; BN divides
    by this, so it is by how much BN's output shifts from batch to batch, in its own unit.
    NaN with one batch.
    """
    spread = torch.stack([b.mean for b in batches]).std(0)
    within = torch.stack([b.variance for b in batches]).mean(0)
    return (spread / (within + eps).sqrt()).mean(1)


def variance_variation(batches: Sequence[Moments], eps: float) -> torch.Tensor:
    """Coefficient of variation of the batch variance over batches, (S,), averaged over channels.

    Standard deviation over the mean of (batch variance + eps), by which BN divides: a channel
    that is constant has 0. NaN with one batch.
    """
    variances = torch.stack([b.variance for b in batches])
    return (variances.std(0) / (variances.mean(0) + eps)).mean(1)


def skewness_and_kurtosis(
    activations: torch.Tensor, replicas: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of ((x - mean) / sd) to the powers 3 and 4 in a channel, (S,) each.

    Averaged over the channels that vary; NaN where none of a replica's does. A Gaussian has 0 and
    3. Source: any textbook; no correction for bias.
    """
    x = rows(activations)
    centred = x - x.mean(0)
    squares = centred * centred
    variance = squares.mean(0)
    third = (squares * centred).mean(0) / variance**1.5
    fourth = (squares * squares).mean(0) / variance**2
    skewness, kurtosis = (
        moment.view(replicas, -1).nanmean(1)  # a constant channel has 0 / 0
        for moment in (third, fourth)
    )
    return skewness, kurtosis


def zero_share(activations: torch.Tensor, replicas: int) -> torch.Tensor:
    """Share of the values that are exactly 0, (S,), from 0 to 1."""
    return (rows(activations) == 0).float().mean(0).view(replicas, -1).mean(1)


def alive_channels(activations: torch.Tensor, replicas: int) -> torch.Tensor:
    """Which channels have a value other than 0, (S, C)."""
    return (rows(activations).abs().sum(0) != 0).view(replicas, -1)


def least_variance_over_eps(variance: torch.Tensor, eps: float) -> torch.Tensor:
    """The smallest channel variance in units of BN's eps, (S,): below 1, eps rules the scale.

    variance: (S, C).
    """
    return variance.min(1).values / eps


def mean_distance(running: Moments, recomputed: Moments, eps: float) -> torch.Tensor:
    """How far running means are from recomputed ones, (S,), in standard deviations.

    Mean over channels of the absolute difference over the root of (recomputed variance + eps).
    Source: the two kinds of statistics are those of Wu & Johnson (2021), section 3.
    """
    difference = (running.mean - recomputed.mean).abs()
    return (difference / (recomputed.variance + eps).sqrt()).mean(1)


def variance_distance(running: Moments, recomputed: Moments, eps: float) -> torch.Tensor:
    """How far running variances are from recomputed ones, (S,): mean |ln of their ratio|.

    Both with eps added, as BN uses them.
    """
    ratio = (running.variance + eps) / (recomputed.variance + eps)
    return ratio.log().abs().mean(1)


def zero_channels(alive: Sequence[torch.Tensor]) -> torch.Tensor:
    """Share of channels that are 0 at every place of every image, (S,): "dead" units.

    alive: `alive_channels` of each batch. Source: Lu et al. (2019), "Dying ReLU and
    initialization".
    """
    return 1 - torch.stack(list(alive)).any(0).float().mean(1)


def collapsed_channels(gamma: torch.Tensor, replicas: int) -> torch.Tensor:
    """Share of BN channels with |gamma| < 1e-3, (S,). gamma: (S * C,).

    Source: gamma near 0 marks a channel that can be pruned (Liu et al. 2017).
    """
    small = gamma.detach().abs() < COLLAPSED_GAMMA
    return small.view(replicas, -1).float().mean(1)


def channel_covariance(activations: torch.Tensor, replicas: int) -> torch.Tensor:
    """Covariance of channels over images and places, (S, C, C), in float64."""
    x = rows(activations)
    parts = torch.stack((x - x.mean(0)).chunk(replicas, 1))  # (S, batch * height * width, C)
    covariance: torch.Tensor = (parts.transpose(1, 2) @ parts).double() / len(x)
    return covariance


def eigenvalues(covariance: torch.Tensor) -> torch.Tensor:
    """Eigenvalues of (S, C, C) in rising order, (S, C); NaN where an entry is not finite."""
    finite = covariance.isfinite().flatten(1).all(1)
    safe = covariance.where(finite[:, None, None], 0.0)
    values: torch.Tensor = torch.linalg.eigvalsh(safe).clamp_min(0)
    return values.where(finite[:, None], math.nan)


def condition_number(values: torch.Tensor) -> torch.Tensor:
    """Greatest over least eigenvalue, (S,); values: (S, C) in rising order.

    A least one below 1e-7 of the greatest counts as that, so 1e7 means "singular in float32".
    NaN for the covariance of constants. Source: LeCun et al. (1998), "Efficient backprop", 5.
    """
    greatest = values[:, -1]
    return greatest / torch.maximum(values[:, 0], LEAST_EIGENVALUE * greatest)


def effective_rank(values: torch.Tensor) -> torch.Tensor:
    """Exponential of the entropy of the eigenvalues as shares of their sum, (S,), 1 to C.

    values: (S, C) eigenvalues of a covariance, its singular values. NaN for constants.
    Source: Roy & Vetterli (2007), definition 1.
    """
    shares = values / values.sum(1, keepdim=True)
    entropy: torch.Tensor = torch.special.entr(shares).sum(1)
    return entropy.exp()


@dataclass(frozen=True)
class Landscape:
    """The loss along its gradient, (S,) each; see `landscape`."""

    loss_range: torch.Tensor
    gradient_change: torch.Tensor
    smoothness: torch.Tensor


def landscape(
    losses: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    parameters: Sequence[torch.Tensor],
    replicas: int,
    step_sizes: Sequence[float],
) -> Landscape:
    """How the loss and its gradient change on the way down the gradient, for each replica.

    losses: gives (S,) for parameters like `parameters`, whose dimension 0 holds the replicas
    behind each other; none is changed. With g the gradient here and g' that after a step of
    -size * g: the greatest less the least loss (the start included), the greatest |g' - g|, and
    the greatest |g' - g| / |size * g|, an effective Lipschitz constant of the gradient.
    Source: Santurkar et al. (2018), section 3.1 and figure 4.
    """
    start, gradients = _gradients(losses, parameters)
    seen, changes, ratios = [start], [], []
    length = joint_norm(gradients, replicas)
    for size in step_sizes:
        moved = [p.detach() - size * g for p, g in zip(parameters, gradients, strict=True)]
        loss, there = _gradients(losses, moved)
        differences = [b - a for a, b in zip(gradients, there, strict=True)]
        seen.append(loss)
        changes.append(joint_norm(differences, replicas))
        ratios.append(changes[-1] / (size * length))
    spread = torch.stack(seen).amax(0) - torch.stack(seen).amin(0)
    return Landscape(spread, torch.stack(changes).amax(0), torch.stack(ratios).amax(0))


def _gradients(
    losses: Callable[[Sequence[torch.Tensor]], torch.Tensor], parameters: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    leaves = [p.detach().requires_grad_() for p in parameters]
    values = losses(leaves)
    return values.detach(), torch.autograd.grad(values.sum(), leaves)


def joint_norm(tensors: Sequence[torch.Tensor], replicas: int) -> torch.Tensor:
    """Euclidean norm over several tensors whose dimension 0 holds the replicas, (S,)."""
    parts = torch.stack([norms(t, replicas, 0) for t in tensors])
    whole: torch.Tensor = torch.linalg.vector_norm(parts, dim=0)
    return whole
