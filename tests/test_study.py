"""Studies: read, checked, filled in, overridden, expanded."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnorder.errors import UserError
from bnorder.ordering import ACTIVATIONS, Activation, Ordering
from bnorder.study import Arm, Job, dataset_slug, load_study, study_schema

MINIMAL = """
name: tiny
datasets: [digits]
orderings: [conv-bn-act]
activations: [relu]
depths: [2]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "bn_class", "cut"),
    [
        ("bn-act-conv", "bn_first", "conv_last"),
        ("act-conv-bn", "bn_first", "conv_middle"),
        ("conv-bn-act", "bn_first", "conv_first"),
        ("act-bn-conv", "act_first", "conv_last"),
        ("bn-conv-act", "act_first", "conv_middle"),
        ("conv-act-bn", "act_first", "conv_first"),
        ("conv-act", "none", "conv_first"),
        ("conv-bn", "none", "conv_first"),
        ("conv", "none", "conv_first"),
    ],
)
def test_an_ordering_is_a_class_and_a_cut(name: str, bn_class: str, cut: str) -> None:
    assert (Ordering(name).bn_class, Ordering(name).cut) == (bn_class, cut)


@pytest.mark.parametrize("name", ["", "bn-act", "conv-conv", "conv-relu", "conv_bn", "Conv-bn"])
def test_what_is_no_ordering_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="such as bn-act-conv"):
        Ordering(name)


def test_an_activation_may_carry_its_slope() -> None:
    assert Activation("leaky_relu").slope == 0.01
    assert Activation("leaky_relu-0.3").slope == 0.3
    assert Activation("leaky_relu-1").kind == "leaky_relu"


@pytest.mark.parametrize("name", ["", "swish", "relu-0.1", "leaky_relu--1", "leaky_relu-", "relu "])
def test_what_is_no_activation_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected one of"):
        Activation(name)


def test_defaults_come_from_the_schema(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, MINIMAL))
    assert study.seeds == tuple(range(10))
    assert study.variants == {"base": {}}
    assert study.recipe.width == 16
    assert study.recipe.bn_eps == 1e-5
    assert study.thresholds == (97.0, 98.0, 99.0)


def test_every_recipe_key_has_a_default_and_a_description() -> None:
    for key, rules in study_schema()["properties"]["recipe"]["properties"].items():
        assert "default" in rules, key
        assert rules.get("description"), key


@pytest.mark.parametrize("path", sorted(Path("studies").glob("*.yaml")))
def test_every_study_is_valid_and_named_as_its_file(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert Path(study.claims).is_file()


def test_the_effective_study_loads_back_as_the_same_study(tmp_path: Path) -> None:
    study = load_study("studies/article.yaml", {"epochs": 1, "seeds": [3, 5]})
    assert load_study(written(tmp_path, study.as_yaml())) == study
    numeral = load_study("studies/article.yaml", {"title": "1e-3", "data_dirs": ["1e3", "no"]})
    assert load_study(written(tmp_path, numeral.as_yaml())) == numeral


def test_the_article_has_the_300_runs_of_the_plan() -> None:
    study = load_study("studies/article.yaml")
    assert len(study.runs()) == 300
    assert len({run.id for run in study.runs()}) == 300
    recipe = study.recipe
    assert (recipe.width, recipe.kernel, recipe.epochs, recipe.batch_size) == (16, 3, 5, 128)
    assert (recipe.optimiser, recipe.learning_rate, recipe.schedule) == ("adam", 1e-3, "constant")
    assert (recipe.downsampling, recipe.downsample_blocks) == ("max_pool", 2)
    assert (recipe.conv_bias, recipe.head, recipe.scaling) == (False, "flatten", "standardise")


@pytest.mark.parametrize(("seeds_per_job", "arms_per_job"), [(1, 1), (3, 1), (10, 7), (4, 100)])
def test_jobs_hold_every_run_once(seeds_per_job: int, arms_per_job: int) -> None:
    changes = {"seeds_per_job": seeds_per_job, "arms_per_job": arms_per_job}
    study = load_study("studies/article.yaml", changes)
    runs = [run.id for job in study.jobs() for run in job.runs]
    assert sorted(runs) == sorted(run.id for run in study.runs())
    names = [job.name for job in study.jobs()]
    assert len(set(names)) == len(names)
    assert all(study.job(name).name == name for name in names[:3])


def test_more_seeds_keep_the_jobs_of_the_first_ones() -> None:
    few = load_study("studies/article.yaml", {"seeds": 10})
    many = load_study("studies/article.yaml", {"seeds": 20})
    assert {job.name for job in few.jobs()} < {job.name for job in many.jobs()}
    assert few.job_hash(few.jobs()[0]) == many.job_hash(many.jobs()[0])


def test_seeds_with_gaps_have_job_names_of_their_own() -> None:
    arm = Arm("digits", "conv-bn-act", "relu", 2, "base")
    names = {Job((arm,), seeds).name for seeds in [(0, 1, 2), (0, 2), (0, 1, 3), (0, 2, 3)]}
    assert len(names) == 4


def test_the_config_hash_follows_the_recipe_and_not_the_title() -> None:
    plain = load_study("studies/quick.yaml")
    arm = plain.arms()[0]
    titled = load_study("studies/quick.yaml", {"title": "other", "thresholds": [50]})
    wide = load_study("studies/quick.yaml", {"width": 8})
    assert plain.config_hash(arm) == titled.config_hash(arm)
    assert plain.config_hash(arm) != wide.config_hash(arm)


def test_an_overridden_study_has_a_name_of_its_own() -> None:
    assert load_study("studies/quick.yaml", {"seeds": 3}).name == "quick+seeds=3"
    both = load_study("studies/quick.yaml", {"seeds": 3, "depths": [2, 3]})
    assert both.name == "quick+depths=2,3+seeds=3"
    assert load_study("studies/quick.yaml", {"seeds": [3]}).name == "quick+seeds=3,"
    strange = load_study("studies/quick.yaml", {"title": "$(touch x) ../../x"})
    assert strange.name.startswith("quick+")
    assert not set(strange.name) & set("$()/ ")


def test_a_long_name_and_its_overrides_stay_within_what_a_name_may_be(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL.replace("tiny", "n" * 80))
    assert load_study(path, {"seeds": 3}).name == "n" * 80 + "+seeds=3"
    changes = {"seeds": 3, "depths": [2, 3], "epochs": 1}
    names = {load_study(path, changes | {"epochs": epochs}).name for epochs in (1, 2)}
    assert [len(name) for name in names] == [89, 89]  # with a digest of eight characters


def test_a_recipe_key_may_be_given_bare_or_nested() -> None:
    bare = load_study("studies/quick.yaml", {"epochs": 2})
    nested = load_study("studies/quick.yaml", {"recipe": {"epochs": 2}})
    assert bare.recipe == nested.recipe
    assert bare.recipe.batch_size == 32


@pytest.mark.parametrize("text, change", [("recipe: 5", "seeds"), ("selection: [1]", "selection")])
def test_what_is_overridden_in_part_must_be_a_mapping(
    text: str, change: str, tmp_path: Path
) -> None:
    changes = {"seeds": 3, "selection": {"name": "best"}}
    with pytest.raises(UserError, match="expected a mapping of its keys"):
        load_study(written(tmp_path, MINIMAL + text), {change: changes[change]})


def test_a_variant_overrides_the_recipe(tmp_path: Path) -> None:
    text = MINIMAL + "variants:\n  base:\n  wide: {width: 32}\n"
    study = load_study(written(tmp_path, text))
    assert study.recipe_for("wide").width == 32
    assert study.recipe_for("base") == study.recipe
    assert [arm.variant for arm in study.arms()] == ["base", "wide"]


BAD = {
    "an unknown key": (MINIMAL + "dephts: [3]", "unknown key 'dephts'"),
    "a wrong type": (
        MINIMAL + "seeds_per_job: many",
        'seeds_per_job is "many"; expected a whole number',
    ),
    "an empty axis": (MINIMAL.replace("[relu]", "[]"), "activations is []"),
    "a duplicate arm": (MINIMAL.replace("[2]", "[2, 2]"), "depths has 2 twice"),
    "an arm twice by slope": (
        MINIMAL.replace("[relu]", "[leaky_relu, leaky_relu]"),
        "has 'leaky_relu' twice",
    ),
    "an unknown ordering": (MINIMAL.replace("conv-bn-act", "conv-bm-act"), "'conv-bm-act'"),
    "an unknown activation": (MINIMAL.replace("[relu]", "[rely]"), "activation 'rely'"),
    "depth 0": (MINIMAL.replace("[2]", "[0]"), "depths[0] is 0; expected at least 1"),
    "depth 51": (MINIMAL.replace("[2]", "[51]"), "depths[0] is 51; expected at most 50"),
    "no seeds": (MINIMAL + "seeds: 0", "seeds is 0"),
    "a negative rate": (MINIMAL + "recipe: {learning_rate: -1}", "recipe.learning_rate is -1"),
    "an unknown recipe key": (MINIMAL + "recipe: {lr: 1}", "recipe: unknown key 'lr'"),
    "a missing key": (MINIMAL.replace("depths: [2]", ""), "the key 'depths' is missing"),
    "an unknown data set": (MINIMAL.replace("digits", "mnits"), 'datasets[0] is "mnits"'),
    "a base that overrides": (MINIMAL + "variants: {base: {width: 8}}", "variants.base"),
    "a variant of an axis": (MINIMAL + "variants: {deep: {depths: [9]}}", "in variants.deep"),
    "a variant that is made": (
        MINIMAL + "variants: {base: {}, recomputed_statistics: {width: 8}}",
        "expected another name",
    ),
    "a name with a slash": (MINIMAL.replace("tiny", "a/b"), 'name is "a/b"'),
    "a name that climbs": (MINIMAL.replace("tiny", "../x"), 'name is "../x"'),
    "a name of a command": (MINIMAL.replace("tiny", "$(touch x)"), "name is"),
    "no mapping": ("- 1\n- 2\n", "expected a mapping"),
    "no YAML": ("name: [", "line 1, column 8: no valid YAML"),
    "a key twice": (MINIMAL + "name: again", "the key 'name' stands twice"),
    "aliases": ("name: &a [x]\ntitle: *a\n", "aliases"),
    "a list as key": ("? [a]\n: 1\n", "a key must be a plain word"),
    "deep nesting": ("[" * 5000, "tiny.yaml"),
    "a huge file": ("#" * 1_000_001, "larger than"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_with_file_and_key(case: str, tmp_path: Path) -> None:
    text, expected = BAD[case]
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_is_of_the_file_or_of_the_command_line(tmp_path: Path) -> None:
    good, bad = written(tmp_path, MINIMAL), tmp_path / "bad.yaml"
    bad.write_text(MINIMAL + "seeds_per_job: many", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"^the command line \(over .*tiny.yaml\): depths has 2 twice"
    ):
        load_study(good, {"depths": [2, 2]})
    with pytest.raises(UserError, match=r"^[^ ]*bad.yaml: seeds_per_job"):
        load_study(bad, {"depths": [2, 2]})
    assert load_study(bad, {"seeds_per_job": 2}).seeds_per_job == 2


def test_a_missing_study_names_those_that_are_there() -> None:
    with pytest.raises(UserError, match="no such file; there are: article"):
        load_study("studies/nope.yaml")


def test_an_unreadable_study_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="expected UTF-8 YAML"):
        load_study(path)
    with pytest.raises(UserError, match="cannot be read"):
        load_study(tmp_path)


def test_a_user_s_folder_gives_a_safe_slug() -> None:
    slug = dataset_slug("folder:/home/some one/$(rm x)/my images")
    assert slug.startswith("folder_my_images_")
    assert slug.replace("_", "").isalnum()
    assert slug != dataset_slug("folder:/elsewhere/my images")


@given(
    st.lists(st.permutations(["conv", "bn", "act"]).map("-".join), min_size=1, unique=True),
    st.lists(st.sampled_from(ACTIVATIONS), min_size=1, unique=True),
    st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True),
    st.integers(1, 12),
)
def test_any_valid_grid_expands_to_its_product(
    orderings: list[str], activations: list[str], depths: list[int], seeds: int
) -> None:
    changes = {"orderings": orderings, "activations": activations, "depths": depths}
    study = load_study("studies/quick.yaml", {**changes, "seeds": seeds})
    assert len(study.runs()) == len(orderings) * len(activations) * len(depths) * seeds
