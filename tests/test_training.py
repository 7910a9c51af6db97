"""The training engine: replicas, optimisers, determinism, schedules, divergence."""

from dataclasses import replace

import pytest
import torch

from bnorder import data, jobs, training
from bnorder.errors import UserError
from bnorder.network import Network
from bnorder.optimiser import SGD, Adam, make_optimiser
from bnorder.records import Record
from bnorder.study import Arm, Recipe, Run, load_study

CPU = torch.device("cpu")
STUDY = load_study("studies/quick.yaml")


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


def arm(ordering: str = "conv-bn-act", activation: str = "relu", depth: int = 2) -> Arm:
    return Arm("digits", ordering, activation, depth, "base")


def recipe(**changes: object) -> Recipe:
    return replace(STUDY.recipe, **{"epochs": 1, "train_images": 640, **changes})


def trained(seeds: list[int], digits: data.Dataset, ordering: str, steps: int = 20) -> Network:
    """Trained in float64, so that what is left of a difference is no rounding."""
    trainer = training.Trainer(arm(ordering), recipe(), digits, seeds, CPU)
    trainer.network.double()
    trainer.optimiser = make_optimiser(trainer.network, recipe())
    images = trainer.images
    trainer.images = replace(images, offset=images.offset.double(), scale=images.scale.double())
    order = trainer._next_order()
    for step in range(steps):
        trainer._train_step(order[step % len(order)], step, training.Tally())
    return trainer.network


def train_one(where: Arm, settings: Recipe, digits: data.Dataset, seed: int = 0) -> Record:
    return jobs.train([Run(where, seed)], settings, digits, CPU, "config")[0]


ORDERINGS = ["bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn", "conv-act"]


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_packed_replicas_match_the_same_seeds_trained_alone(
    ordering: str, digits: data.Dataset
) -> None:
    packed = trained([3, 7, 11], digits, ordering)
    for replica, seed in enumerate([3, 7, 11]):
        alone = trained([seed], digits, ordering)
        names = dict(packed.named_parameters()) | dict(packed.named_buffers())
        for name, value in (*alone.named_parameters(), *alone.named_buffers()):
            whole = names[name]
            part = whole if whole.dim() == 0 else whole.chunk(3)[replica]
            torch.testing.assert_close(part, value, rtol=1e-5, atol=1e-6, msg=name)


def test_replicas_differ_from_each_other(digits: data.Dataset) -> None:
    network = trained([0, 1], digits, "conv-bn-act", steps=1)
    first, second = network.weight
    assert not torch.allclose(first, second)


def test_the_same_run_twice_gives_the_same_records(digits: data.Dataset) -> None:
    def once() -> list[object]:
        records = [train_one(arm(), recipe(), digits, 5)]
        return [(r.curve, r.run, r.steps, r.parameters) for r in records]

    assert once() == once()


def test_a_run_does_not_depend_on_the_global_random_state(digits: data.Dataset) -> None:
    torch.manual_seed(1)
    one = train_one(arm(), recipe(), digits, 5).curve
    torch.manual_seed(2)
    assert train_one(arm(), recipe(), digits, 5).curve == one


def test_a_seed_draws_the_same_weights_for_every_order_where_shapes_agree() -> None:
    first = Network(arm("conv-bn-act"), recipe(), (1, 8, 8), 10, [4])
    second = Network(arm("conv-act-bn"), recipe(), (1, 8, 8), 10, [4])
    assert torch.equal(first.body.block1_conv.weight, second.body.block1_conv.weight)
    assert torch.equal(first.weight, second.weight)


def test_a_seed_draws_the_same_data_order_for_every_arm(digits: data.Dataset) -> None:
    orders = [
        training.Trainer(arm(o), recipe(), digits, [4], CPU)._next_order() for o in ORDERINGS[:2]
    ]
    assert torch.equal(*orders)


def test_an_epoch_uses_no_image_twice(digits: data.Dataset) -> None:
    order = training.Trainer(arm(), recipe(), digits, [4, 5], CPU)._next_order()
    for replica in range(2):
        used = order[:, :, replica].flatten()
        assert len(used.unique()) == len(used) == 640


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "tanh", "sigmoid"])
def test_pooling_before_a_monotone_activation_changes_nothing(activation: str) -> None:
    network = Network(arm(activation=activation, depth=1), recipe(), (1, 8, 8), 10, [0])
    pixels = torch.randn(16, 1, 8, 8)
    layers = dict(network.body.named_children())
    assert list(layers) == ["block1_conv", "block1_bn", "block1_pool", "block1_act"]
    normal = layers["block1_bn"](layers["block1_conv"](pixels))
    literal = layers["block1_pool"](layers["block1_act"](normal))
    pooled = layers["block1_act"](layers["block1_pool"](normal))
    assert torch.equal(literal, pooled)
    weight = network.body.block1_conv.weight
    upstream = torch.randn_like(pooled)
    gradients = [
        torch.autograd.grad((out * upstream).sum(), weight, retain_graph=True)[0]
        for out in (literal, pooled)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_pooling_stays_behind_an_activation_that_is_not_monotone() -> None:
    network = Network(arm(activation="gelu", depth=1), recipe(), (1, 8, 8), 10, [0])
    assert list(dict(network.body.named_children()))[-1] == "block1_pool"


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_fused_optimisers_match_torch_optim(name: str, weight_decay: float) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(4, 3, 3, 3)), torch.nn.Parameter(torch.randn(4))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    if name == "adam":
        reference = torch.optim.Adam(theirs, lr=0.01, weight_decay=weight_decay)
        optimiser = Adam(ours, weight_decay)
    else:
        reference = torch.optim.SGD(theirs, lr=0.01, momentum=0.9, weight_decay=weight_decay)
        optimiser = SGD(ours, 0.9, weight_decay)
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        optimiser.step(0.01)
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_a_cosine_schedule_starts_at_the_rate_and_ends_near_zero(digits: data.Dataset) -> None:
    trainer = training.Trainer(arm(), recipe(schedule="cosine"), digits, [0], CPU)
    rates = [trainer._learning_rate(step) for step in range(trainer.total_steps)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-4


def test_evaluations_are_fine_in_the_first_epoch_and_end_with_the_last_step() -> None:
    steps = training.evaluation_steps(469, 5)
    assert steps[:6] == [0, 29, 58, 117, 234, 351]
    assert steps[-1] == 5 * 469
    assert len(steps) == len(set(steps)) == 15


def test_training_learns(digits: data.Dataset) -> None:
    settings = replace(STUDY.recipe, epochs=4)
    record = train_one(arm(), settings, digits)
    assert record.curve[0].test_correct < 200
    assert record.curve[-1].test_correct > 450
    assert record.curve[-1].step == record.steps
    assert record.curve[1].train_seen == 32 * record.curve[1].step


def test_evaluation_counts_the_whole_test_set_with_running_statistics(
    digits: data.Dataset,
) -> None:
    trainer = training.Trainer(arm(), recipe(), digits, [0], CPU)
    trainer.run()
    network = trainer.network.eval()
    images = next(iter(trainer.images.test_batches(1)))[0]
    whole = trainer.images._as_input(digits.test_images[:, None])
    with torch.no_grad():
        logits = network(whole)[0]
        torch.testing.assert_close(network(images)[0], logits[: len(images)])
    correct, loss = training.evaluate(trainer.network, trainer.images)
    assert int(correct[0]) == int((logits.argmax(1) == digits.test_labels).sum())
    expected = torch.nn.functional.cross_entropy(logits, digits.test_labels)
    assert float(loss[0]) == pytest.approx(float(expected), rel=1e-4)
    assert trainer.network.training


def test_a_diverged_run_ends_early_and_is_a_record_with_its_step(digits: data.Dataset) -> None:
    settings = recipe(learning_rate=99.0, optimiser="sgd", epochs=5)
    record = train_one(arm("conv-act", "identity", 5), settings, digits)
    assert record.status == "diverged"
    assert record.diverged_step is not None
    assert 1 <= record.diverged_step <= record.curve[-1].step < record.steps


def test_validation_images_are_held_out_of_training_and_evaluated_on(
    digits: data.Dataset,
) -> None:
    images = training.place(digits, recipe(validation_images=100, train_images=0), CPU)
    assert len(images.train_labels) == 1157
    assert torch.equal(images.test_images, digits.train_images[-100:])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train_images": 1258}, "recipe.train_images"),
        ({"train_images": 0, "validation_images": 1257}, "recipe.validation_images"),
        ({"batch_size": 641}, "recipe.batch_size"),
        ({"downsample_blocks": 4}, "recipe.downsample_blocks"),
    ],
)
def test_a_recipe_that_does_not_fit_the_data_is_one_clear_line(
    changes: dict[str, object], named: str, digits: data.Dataset
) -> None:
    with pytest.raises(UserError, match=named):
        training.Trainer(arm(depth=5), recipe(**changes), digits, [0], CPU)


def test_standardised_pixels_have_mean_0_and_spread_1(digits: data.Dataset) -> None:
    images = training.place(digits, recipe(train_images=0), CPU)
    pixels = images._as_input(images.train_images[:, None])
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-4)
    assert float(pixels.std()) == pytest.approx(1, abs=1e-3)
    unit = training.place(digits, recipe(scaling="unit"), CPU)
    pixels = unit._as_input(unit.train_images[:, None])
    assert (float(pixels.min()), float(pixels.max())) == (0, 1)


def test_bf16_is_an_option_that_changes_the_numbers(digits: data.Dataset) -> None:
    exact = train_one(arm(), recipe(), digits)
    rounded = train_one(arm(), recipe(precision="bf16"), digits)
    assert exact.curve != rounded.curve
    assert abs(exact.curve[-1].test_correct - rounded.curve[-1].test_correct) < 50


def test_a_job_trains_every_seed_of_every_arm(digits: data.Dataset) -> None:
    study = load_study(
        "studies/quick.yaml", {"seeds": 2, "epochs": 1, "train_images": 64, "depths": [1]}
    )
    job = study.jobs()[0]
    records = jobs.train_job(study, job, digits)
    assert [r.run for r in records] == list(job.runs)
    assert {r.config_hash for r in records} == {study.config_hash(a) for a in job.arms}


def test_a_job_refuses_another_data_set(digits: data.Dataset) -> None:
    job = load_study("studies/article.yaml").jobs()[0]
    with pytest.raises(UserError, match="holds digits"):
        jobs.train_job(STUDY, job, digits)


def test_a_cpu_refuses_a_precision_that_only_cuda_has(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "pick_device", lambda: CPU)
    study = load_study(
        "studies/quick.yaml", {"variants": {"base": {}, "fast": {"precision": "tf32"}}}
    )
    job = study.jobs()[-1]
    with pytest.raises(UserError, match=r"precision is tf32, .* this is a CPU; expected float32"):
        jobs.train_job(study, replace(job, arms=tuple(study.arms())), digits)


def test_a_cpu_packs_as_many_seeds_as_the_study_says(digits: data.Dataset) -> None:
    changes = {"seeds": 3, "depths": [1], "epochs": 1, "train_images": 320, "arms_per_job": 2}
    alone, packed = (
        load_study("studies/quick.yaml", changes | {"seeds_together": n}) for n in (1, 2)
    )
    ours = jobs.train_job(packed, packed.jobs()[0], digits)
    assert [record.cost.replicas for record in ours] == [2, 2, 1] * 2
    for mine, other in zip(ours, jobs.train_job(alone, alone.jobs()[0], digits), strict=True):
        assert (mine.run, mine.config_hash) == (other.run, other.config_hash)
        assert mine.curve[-1].test_loss == pytest.approx(other.curve[-1].test_loss, rel=1e-2)
