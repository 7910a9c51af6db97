"""Probes: each definition by hand, each replica its own, and no number of a run changed."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from bnorder import checkpoints, data, jobs, probes, probing, records, training
from bnorder.network import Network
from bnorder.probes import Moments
from bnorder.records import Probe, Record
from bnorder.study import Arm, Recipe, Run, Study, load_study

CPU = torch.device("cpu")
STUDY = load_study("studies/quick.yaml")
ORDERINGS = ["bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn", "conv-act"]


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


def recipe(**changes: object) -> Recipe:
    return replace(STUDY.recipe, **{"epochs": 2, "train_images": 640, **changes})


def arm(ordering: str = "conv-bn-act", depth: int = 2) -> Arm:
    return Arm("digits", ordering, "relu", depth, "base")


def probed(
    digits: data.Dataset, ordering: str = "conv-bn-act", depth: int = 2, **changes: object
) -> Record:
    run = Run(arm(ordering, depth), 0)
    return jobs.train([run], recipe(**changes), digits, CPU, "config", kind=probing.ProbedTrainer)[
        0
    ]


def one_row(*channels: list[float]) -> torch.Tensor:
    """Two or more replicas of one or more channels, one image of one row."""
    return torch.tensor(channels)[None, :, None, :]


def moments(mean: list[list[float]], variance: list[list[float]]) -> Moments:
    return Moments(torch.tensor(mean).float(), torch.tensor(variance).float())


# Each definition by hand


def test_bn_then_relu_on_gaussian_input_has_the_moments_of_a_rectified_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, 32, 32, generator=generator) * 3 + 5
    rectified = torch.relu(torch.nn.BatchNorm2d(4)(x))
    found = probes.moments(rectified, 2)
    phi = 1 / math.sqrt(2 * math.pi)
    assert found.mean.shape == (2, 2)
    torch.testing.assert_close(found.mean, torch.full((2, 2), phi), atol=5e-3, rtol=0)
    variance = torch.full((2, 2), 0.5 - phi**2)  # .341
    torch.testing.assert_close(found.variance, variance, atol=5e-3, rtol=0)
    zeros = probes.zero_share(rectified, 2)
    torch.testing.assert_close(zeros, torch.full((2,), 0.5), atol=5e-3, rtol=0)


def test_norms_are_of_each_replica() -> None:
    activations = one_row([3.0], [4.0], [6.0], [8.0])
    assert probes.norms(activations, 2, 1).tolist() == [5, 10]
    weights = torch.tensor([3.0, 4.0, 6.0, 8.0]).view(4, 1, 1, 1)
    assert probes.norms(weights, 2, 0).tolist() == [5, 10]
    assert probes.norms(weights, 1, 0).tolist() == [pytest.approx(math.sqrt(125))]


def test_the_slope_is_that_of_an_exponential_whichever_way_it_goes() -> None:
    layers = torch.arange(5.0)[:, None]
    values = torch.exp(layers * torch.tensor([[0.7, -0.7, 0.0]]))
    found = probes.absolute_log_slope(values)
    assert found.tolist() == [pytest.approx(0.7), pytest.approx(0.7), pytest.approx(0)]


def test_the_slope_is_least_squares() -> None:
    values = torch.tensor([0.0, 1.0, 0.0, 3.0]).exp()[:, None]  # slope of 0 1 0 3 on 1..4: .8
    assert float(probes.absolute_log_slope(values)) == pytest.approx(0.8)


def test_one_layer_or_a_dead_one_has_no_slope() -> None:
    assert probes.absolute_log_slope(torch.tensor([[1.0, 2.0]])).isnan().all()
    found = probes.absolute_log_slope(torch.tensor([[1.0, 2.0], [0.0, 2.0]]))
    assert found.isnan().tolist() == [True, False]


def test_pooled_statistics_are_those_of_all_batches_together() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 6, 3, 3, generator=generator) + shift for shift in (0, 1, 5)]
    found = probes.pooled([probes.moments(b, 3) for b in batches])
    whole = probes.moments(torch.cat(batches), 3)
    torch.testing.assert_close(found.mean, whole.mean)
    torch.testing.assert_close(found.variance, whole.variance)


def test_variation_is_in_units_that_bn_divides_by() -> None:
    # Two replicas of two channels; batch means 1 and 3 spread by sqrt(2) around within-variance 4.
    first = moments([[1, 7], [0, 0]], [[3, 4], [1, 0]])
    second = moments([[3, 7], [0, 0]], [[5, 4], [1, 0]])
    found = probes.mean_variation([first, second], 0.0625)
    assert found.tolist() == [pytest.approx(math.sqrt(2) / math.sqrt(4.0625) / 2), 0]
    found = probes.variance_variation([first, second], 0.0625)
    assert found.tolist() == [pytest.approx(math.sqrt(2) / 4.0625 / 2), 0]


def test_skewness_and_kurtosis_of_a_known_sample() -> None:
    # 0 0 0 1: mean 1/4, variance 3/16, skewness 2/sqrt(3), kurtosis 7/3; symmetric: 0 and 1.
    skewed = one_row([0.0, 0, 0, 1], [5.0, 5, 5, 5], [-1.0, 1, -1, 1], [-2.0, 2, 2, -2])
    skewness, kurtosis = probes.skewness_and_kurtosis(skewed, 2)
    assert skewness.tolist() == [pytest.approx(2 / math.sqrt(3)), 0]  # the constant is left out
    assert kurtosis.tolist() == [pytest.approx(7 / 3), pytest.approx(1)]


def test_zeros_are_counted_exactly() -> None:
    x = one_row([0.0, 1e-30, 1, 0], [1.0, 1, 1, 1])
    assert probes.zero_share(x, 2).tolist() == [0.5, 0]
    assert probes.zero_share(x, 1).tolist() == [0.25]


def test_the_least_variance_is_in_units_of_eps() -> None:
    variance = torch.tensor([[1.0, 1e-3], [2.0, 5e-5]])
    found = probes.least_variance_over_eps(variance, 1e-5)
    assert found.tolist() == [pytest.approx(100), pytest.approx(5)]


def test_distances_of_running_statistics() -> None:
    running, recomputed = moments([[1, 0]], [[8, 1]]), moments([[3, 0]], [[4, 1]])
    distance = float(probes.mean_distance(running, recomputed, 0.0))
    assert distance == pytest.approx(2 / 2 / 2)  # 2 off at a standard deviation of 2; 0 off
    found = float(probes.variance_distance(running, recomputed, 0.0))
    assert found == pytest.approx(math.log(2) / 2)
    with_eps = float(probes.variance_distance(running, recomputed, 4.0))
    assert with_eps == pytest.approx(math.log(12 / 8) / 2)


def test_a_channel_is_dead_only_if_it_is_zero_on_all_batches() -> None:
    first, second = one_row([0.0, 0], [0.0, 1]), one_row([0.0, 2], [0.0, 0])
    both = [probes.alive_channels(x, 1) for x in (first, second)]
    assert probes.zero_channels(both).tolist() == [0]
    assert probes.zero_channels(both[:1]).tolist() == [0.5]
    each = [probes.alive_channels(first, 2)]
    assert probes.zero_channels(each).tolist() == [1, 0]
    cancelling = one_row([-1.0, 1], [0.0, 0])
    assert probes.zero_channels([probes.alive_channels(cancelling, 2)]).tolist() == [0, 1]


def test_a_filter_is_collapsed_where_gamma_is_near_0_on_either_side() -> None:
    gamma = torch.tensor([1.0, 9e-4, -9e-4, 0.0, 1.1e-3, -2.0, 1.0, 0.0])
    assert probes.collapsed_channels(gamma, 2).tolist() == [0.75, 0.25]


def test_covariance_condition_and_effective_rank_of_each_replica() -> None:
    # Replica 1: independent channels of variances 1 and 4. Replica 2: one channel twice.
    x = one_row([1.0, -1, 1, -1], [2.0, 2, -2, -2], [3.0, 5, 3, 5], [3.0, 5, 3, 5])
    covariance = probes.channel_covariance(x, 2)
    assert covariance.tolist() == [[[1, 0], [0, 4]], [[1, 1], [1, 1]]]
    values = probes.eigenvalues(covariance)
    entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    rank = probes.effective_rank(values).tolist()
    assert rank == [pytest.approx(math.exp(entropy)), pytest.approx(1, abs=1e-6)]
    assert probes.condition_number(values).tolist() == [pytest.approx(4), pytest.approx(1e7)]


def test_a_replica_that_is_not_finite_has_no_eigenvalues_and_harms_no_other() -> None:
    covariance = torch.eye(16, dtype=torch.float64).repeat(2, 1, 1)
    covariance[0] = math.nan
    values = probes.eigenvalues(covariance)
    assert values[0].isnan().all()
    assert values[1].tolist() == [1] * 16


def test_the_landscape_of_a_parabola_is_as_curved_as_it() -> None:
    # Replica i has loss a/2 (x^2 + y^2) with a = 2, 4, at (3, 4): g = a (3, 4), |g| = 5 a.
    curvature = torch.tensor([2.0, 4.0])
    parameters = [torch.tensor([3.0, 3.0]), torch.tensor([[4.0], [4.0]])]

    def losses(moved: Sequence[torch.Tensor]) -> torch.Tensor:
        return curvature / 2 * (moved[0] ** 2 + moved[1][:, 0] ** 2)

    found = probes.landscape(losses, parameters, 2, [0.1, 0.25])
    assert found.smoothness.tolist() == pytest.approx([2, 4])
    assert found.gradient_change.tolist() == pytest.approx([0.25 * 5 * 4, 0.25 * 5 * 16])
    # A step of 0.25 shrinks x by (1 - a / 4): to a half and to nothing.
    assert found.loss_range.tolist() == pytest.approx([25 * (1 - 0.25), 50])
    assert [p.requires_grad for p in parameters] == [False, False]
    assert parameters[0].tolist() == [3, 3]


# The prober


def readings_of(
    network: Network, batches: list[probing.Batch]
) -> dict[tuple[str, str], list[float]]:
    return {(r.name, r.probe): r.values.tolist() for r in probing.read(network, batches)}


def batches(replicas: int, count: int = 3) -> list[probing.Batch]:
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(16, 1, 8, 8, generator=generator) for _ in range(count)]
    labels = [torch.randint(0, 10, (16,), generator=generator) for _ in range(count)]
    return [
        (x.expand(-1, replicas, -1, -1).contiguous(), y.expand(replicas, -1))
        for x, y in zip(images, labels, strict=True)
    ]


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_packed_replicas_read_what_each_reads_alone(ordering: str) -> None:
    packed = readings_of(Network(arm(ordering), recipe(), (1, 8, 8), 10, [3, 7]), batches(2))
    for replica, seed in enumerate([3, 7]):
        network = Network(arm(ordering), recipe(), (1, 8, 8), 10, [seed])
        alone = readings_of(network, batches(1))
        assert alone.keys() == packed.keys()
        for key, values in alone.items():
            assert packed[key][replica] == pytest.approx(values[0], rel=2e-3, abs=1e-5), key


def test_gradient_norms_are_those_of_the_mean_loss() -> None:
    network = Network(arm(depth=1), recipe(), (1, 8, 8), 10, [0])
    images, labels = batches(1, 1)[0]
    found = readings_of(network, [(images, labels)])
    torch.nn.functional.cross_entropy(network(images)[0], labels[0]).backward()
    gradient = network.body.block1_conv.weight.grad
    expected = float(gradient.norm())
    assert found["block1_conv", "weight_gradient_norm"] == [pytest.approx(expected, rel=1e-5)]
    size = float(network.body.block1_conv.weight.detach().norm())
    relative = found["block1_conv", "relative_gradient"]
    assert relative == [pytest.approx(expected / size, rel=1e-5)]


def test_the_gradient_at_an_output_is_that_of_a_bias_there() -> None:
    network = Network(arm("conv-act", 1), recipe(conv_bias=True), (1, 8, 8), 10, [0])
    images, labels = batches(1, 1)[0]
    with probing.observed(network) as seen:
        logits = network(images)
    output = seen["block1_conv"][1]
    loss = torch.nn.functional.cross_entropy(logits[0], labels[0])
    expected = float(torch.autograd.grad(loss, output, retain_graph=True)[0].norm())
    at_outputs, _ = probing.gradient_norms(network, seen, logits, labels)
    assert at_outputs.tolist() == [[pytest.approx(expected, rel=1e-5)]]


def test_reading_leaves_the_network_as_it_was() -> None:
    network = Network(arm(), recipe(), (1, 8, 8), 10, [0, 1])
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    probing.read(network, batches(2))
    with probing.recomputed_statistics(network, [images for images, _ in batches(2)]):
        pass
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in network.parameters())
    assert not network.training
    assert not any(layer._forward_hooks for layer in network.modules())
    assert all(bn.track_running_stats for bn in probing.batch_norms(network).values())


def test_recomputed_statistics_are_those_of_the_images_and_last_only_inside() -> None:
    network = Network(arm(depth=1), recipe(), (1, 8, 8), 10, [0])
    images = [images for images, _ in batches(1)]
    bn = network.body.block1_bn
    with torch.no_grad():
        whole = probes.moments(network.body.block1_conv(torch.cat(images)), 1)
    with probing.recomputed_statistics(network, images):
        torch.testing.assert_close(bn.running_mean, whole.mean[0])
        torch.testing.assert_close(bn.running_var, whole.variance[0])
    assert bn.running_mean.tolist() == [0] * 16
    assert bn.running_var.tolist() == [1] * 16


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_a_run_has_the_same_numbers_with_probes_and_without(
    ordering: str, digits: data.Dataset
) -> None:
    run = Run(arm(ordering), 0)
    plain = training.Trainer(run.arm, recipe(), digits, [0], CPU)
    with_probes = probing.ProbedTrainer(run.arm, recipe(), digits, [0], CPU)
    plain.run()
    with_probes.run()
    assert with_probes.probes[0]
    assert with_probes.curves == plain.curves
    ours, theirs = with_probes.network.state_dict(), plain.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_probes_are_read_at_the_start_early_and_at_each_epochs_end(digits: data.Dataset) -> None:
    found = probed(digits)
    slopes = [p.step for p in found.probes if p.probe == "gradient_slope"]
    assert slopes == [0, 1, 3, 10, 20, 30, 40]  # 20 steps an epoch; 100 is beyond the end
    updates = {p.step for p in found.probes if p.probe == "relative_update"}
    assert updates == {1, 3, 10, 20, 30, 40}
    lost = [p for p in found.probes if p.probe == "running_loss_pp"]
    assert [p.step for p in lost] == [40]


def test_a_relative_update_is_what_the_optimiser_did(digits: data.Dataset) -> None:
    # Adam's first step moves every weight by the learning rate, whatever its gradient.
    found = probed(digits, "conv-act", 1, epochs=1)
    weights = Network(arm("conv-act", 1), recipe(), digits.shape, 10, [0]).body.block1_conv.weight
    expected = 1e-3 * math.sqrt(weights.numel()) / float(weights.detach().norm())
    first = next(p for p in found.probes if p.probe == "relative_update")
    assert (first.step, first.name) == (1, "block1_conv")
    assert first.value == pytest.approx(expected, rel=1e-3)


def test_running_loss_is_recomputed_less_running_accuracy(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = probing.ProbedTrainer(arm(), recipe(), digits, [0, 1], CPU)
    trainer.run()
    for replica, curve in enumerate(trainer.curves):
        images = [images for images, _ in trainer._batches(32)]
        with probing.recomputed_statistics(trainer.network, images):
            correct, _ = training.evaluate(trainer.network, trainer.images)
        expected = 100 * (int(correct[replica]) - curve[-1].test_correct) / 540
        rows = [p.value for p in trainer.probes[replica] if p.probe == "running_loss_pp"]
        assert rows == [pytest.approx(expected, rel=1e-5)]


def test_what_does_not_apply_has_no_row(digits: data.Dataset) -> None:
    found = {p.probe for p in probed(digits, "conv-act", 1, epochs=1).probes}
    assert "weight_gradient_norm" in found
    assert not {name for name in found if "bn" in name or "running" in name or "slope" in name}
    one_batch = readings_of(Network(arm(), recipe(), (1, 8, 8), 10, [0]), batches(1, 1))
    assert ("block1_bn", "bn_input_kurtosis") in one_batch
    assert ("block1_bn", "bn_input_mean_cv") not in one_batch


def test_a_diverged_run_keeps_only_finite_rows(digits: data.Dataset) -> None:
    settings = recipe(learning_rate=99.0, optimiser="sgd", epochs=5)
    where = Arm("digits", "conv-act", "identity", 5, "base")
    found = jobs.train(
        [Run(where, 0)], settings, digits, CPU, "config", kind=probing.ProbedTrainer
    )[0]
    assert found.status == "diverged"
    assert all(math.isfinite(p.value) for p in found.probes)
    assert Record.from_line(found.as_line()) == found


# Records, checkpoints, tables


def small_study(**changes: object) -> Study:
    chosen = {"seeds": 2, "depths": [1, 2], "activations": ["relu"], "train_images": 160}
    grid = {"orderings": ["conv-bn-act", "conv-act"], "epochs": 2, "arms_per_job": 4}
    return load_study("studies/quick.yaml", {**chosen, **grid, "probes": True, **changes})


def test_a_record_with_probes_is_one_compact_line_that_reads_back(digits: data.Dataset) -> None:
    found = probed(digits)
    line = found.as_line()
    assert line.count("\n") == 1
    assert Record.from_line(line) == found
    assert len(line) < 40 * len(found.probes)
    assert found.cost.probe_seconds > 0


def test_a_resumed_run_keeps_its_probes(digits: data.Dataset) -> None:
    whole = probing.ProbedTrainer(arm(), recipe(), digits, [0, 1], CPU)
    states = []
    whole.run(at_epoch_end=lambda: states.append(torch_copy(whole.state())))
    again = probing.ProbedTrainer(arm(), recipe(), digits, [0, 1], CPU)
    again.restore(states[0])
    again.run()
    assert again.probes == whole.probes
    assert again.probe_seconds > states[0]["probe_seconds"]


def torch_copy(state: checkpoints.State) -> checkpoints.State:
    """What a checkpoint on disk gives back."""
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    copy: checkpoints.State = torch.load(file, weights_only=True)
    return copy


def test_a_killed_job_with_probes_ends_as_if_undisturbed(
    digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints.JobFiles, "_is_due", lambda files: files.seconds_between < 1e9)
    study = small_study()
    job = study.jobs()[0]
    calls = iter(range(100))

    def progress(done: float, rate: float) -> None:
        if next(calls) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.train_job(study, job, digits, progress, tmp_path)
    assert list(tmp_path.iterdir())
    again = jobs.train_job(study, job, digits, None, tmp_path)
    whole = jobs.train_job(study, job, digits)
    assert [(r.curve, r.probes) for r in again] == [(r.curve, r.probes) for r in whole]


def test_probes_change_no_configuration_but_what_counts_as_the_same_code() -> None:
    with_probes, without = small_study(), small_study(probes=False)
    arms = with_probes.arms()
    assert [with_probes.config_hash(a) for a in arms] == [without.config_hash(a) for a in arms]
    assert records.code_hash(probes=True) != records.code_hash()


def test_without_probes_a_job_is_trained_as_ever(digits: data.Dataset) -> None:
    study = small_study(probes=False)
    found = jobs.train_job(study, study.jobs()[0], digits)
    assert all(r.probes == () and r.code_hash == records.code_hash() for r in found)
    assert all(r.cost.probe_seconds == 0 for r in found)
    assert "bn_input_mean_cv" not in records.runs_table(study, found)


def test_tables_hold_the_rows_and_the_measures(digits: data.Dataset, tmp_path: Path) -> None:
    study = small_study()
    found = jobs.train_job(study, study.jobs()[0], digits)
    records.write_records(tmp_path / "records" / f"{study.jobs()[0].name}.jsonl", found)
    assert records.collect(study, tmp_path / "records") == found
    records.write_tables(study, found, tmp_path / "tables")
    rows = pd.read_parquet(tmp_path / "tables" / "probes.parquet")
    assert len(rows) == sum(len(r.probes) for r in found)
    assert {"run", "ordering", "seed", "step", "layer", "probe", "value"} <= {*rows}
    assert len(pd.read_csv(tmp_path / "tables" / "probes.csv")) == len(rows)
    runs = pd.read_parquet(tmp_path / "tables" / "runs.parquet").set_index("run")
    deep, flat, bare = (
        runs.loc[f"digits.{name}.base.s0"]
        for name in ("conv-bn-act.relu.d2", "conv-bn-act.relu.d1", "conv-act.relu.d2")
    )
    assert deep["gradient_slope@0"] > 0
    assert math.isnan(deep["gradient_slope@100"])  # the runs are shorter
    assert math.isnan(flat["gradient_slope@0"])
    assert flat["bn_input_mean_cv"] > 0
    assert math.isnan(bare["bn_input_mean_cv"])
    assert math.isnan(bare["running_loss_pp"])


def test_measures_are_means_over_the_bn_layers_at_the_end(digits: data.Dataset) -> None:
    study = small_study()
    run = Run(study.arms()[0], 0)
    record = jobs.train([run], study.recipe, digits, CPU, "c", kind=probing.ProbedTrainer)[0]
    rows = (
        Probe(0, 0, "network", "gradient_slope", 0.25),
        Probe(100, 0, "network", "gradient_slope", 0.5),
        Probe(3, 1, "block1_bn", "bn_input_mean_cv", 99.0),
        Probe(record.steps, 1, "block1_bn", "bn_input_mean_cv", 1.0),
        Probe(record.steps, 2, "block2_bn", "bn_input_mean_cv", 2.0),
        Probe(record.steps, 0, "network", "running_loss_pp", -0.5),
    )
    row = records.runs_table(study, [replace(record, probes=rows)]).iloc[0]
    assert (row["gradient_slope@0"], row["gradient_slope@100"]) == (0.25, 0.5)
    assert (row["bn_input_mean_cv"], row["running_loss_pp"]) == (1.5, -0.5)


def test_a_study_without_probes_leaves_no_table_of_an_older_one(
    digits: data.Dataset, tmp_path: Path
) -> None:
    for wanted in (True, False):
        study = small_study(probes=wanted)
        found = jobs.train_job(study, study.jobs()[0], digits)
        records.write_tables(study, found, tmp_path)
        assert (tmp_path / "probes.parquet").exists() == wanted
