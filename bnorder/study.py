"""A study: one YAML file, checked and filled in, expanded into arms, runs and jobs."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from bnorder.errors import DELETE, UserError
from bnorder.ordering import Activation, Ordering
from bnorder.schema import check_against_schema, parse_yaml, read_yaml, write_yaml

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMA_FILE = REPOSITORY / "workflow" / "schemas" / "study.schema.yaml"
RECOMPUTED = "recomputed_statistics"  # a variant that nobody trains: made from the base's probes
LARGEST_STUDY = 1_000_000  # runs; one that has more is a slip


@dataclass(frozen=True)
class Recipe:
    """Everything about training that is not on the grid; the schema documents each key."""

    width: int
    kernel: int
    downsampling: str
    downsample_blocks: int
    stem: str
    head: str
    final_norm_act: bool
    conv_bias: bool
    scaling: str
    initialisation: str
    bn_momentum: float
    bn_eps: float
    optimiser: str
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: str
    batch_size: int
    epochs: int
    train_images: int
    validation_images: int
    precision: str


@dataclass(frozen=True)
class Arm:
    """One cell of the grid."""

    dataset: str
    ordering: str
    activation: str
    depth: int
    variant: str

    @property
    def id(self) -> str:
        dataset = dataset_slug(self.dataset)
        return f"{dataset}.{self.ordering}.{self.activation}.d{self.depth}.{self.variant}"


@dataclass(frozen=True)
class Run:
    """An arm and a seed."""

    arm: Arm
    seed: int

    @property
    def id(self) -> str:
        return f"{self.arm.id}.s{self.seed}"


@dataclass(frozen=True)
class Job:
    """What one training process does: some seeds of some arms of one data set."""

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """The arm (or how many, with a digest of them) and the first and last seed."""
        first, last = self.seeds[0], self.seeds[-1]
        arms = self.arms[0].id
        if len(self.arms) > 1:
            digest = _digest([arm.id for arm in self.arms])[:8]
            arms = f"{dataset_slug(self.dataset)}.{len(self.arms)}arms-{digest}"
        if self.seeds == tuple(range(first, last + 1)):
            return f"{arms}.s{first}-{last}"
        return f"{arms}.s{first}-{last}-{_digest(self.seeds)[:8]}"

    @property
    def dataset(self) -> str:
        return self.arms[0].dataset

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(Run(arm, seed) for arm in self.arms for seed in self.seeds)


@dataclass(frozen=True)
class Selection:
    """A choice among variants, made for each order on images held out, with seeds of its own."""

    name: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    validation_images: int


@dataclass(frozen=True)
class Study:
    """A grid, a recipe and the claims it can speak to."""

    name: str
    title: str
    datasets: tuple[str, ...]
    orderings: tuple[str, ...]
    activations: tuple[str, ...]
    depths: tuple[int, ...]
    seeds: tuple[int, ...]
    variants: Mapping[str, Mapping[str, Any]]
    recipe: Recipe
    seeds_per_job: int
    seeds_together: int
    arms_per_job: int
    jobs_per_gpu: int
    kernels: str
    thresholds: tuple[float, ...]
    data_dirs: tuple[str, ...]
    claims: str
    probes: bool
    selection: Selection | None

    def arms(self) -> list[Arm]:
        axes = (self.datasets, self.orderings, self.activations, self.depths, self.variants)
        return [Arm(*cell) for cell in itertools.product(*axes)]

    def runs(self) -> list[Run]:
        return [Run(arm, seed) for arm in self.arms() for seed in self.seeds]

    def jobs(self) -> list[Job]:
        """Seed group by seed group, so that an unfinished study is whole for its first seeds."""
        return [Job(arms, seeds) for seeds in self.seed_groups for arms in self.arm_groups]

    @cached_property
    def seed_groups(self) -> list[tuple[int, ...]]:
        step = self.seeds_per_job
        return [self.seeds[i : i + step] for i in range(0, len(self.seeds), step)]

    @cached_property
    def arm_groups(self) -> list[tuple[Arm, ...]]:
        groups: list[tuple[Arm, ...]] = []
        for _, same in itertools.groupby(self.arms(), key=lambda arm: arm.dataset):
            arms, step = list(same), self.arms_per_job
            groups += [tuple(arms[i : i + step]) for i in range(0, len(arms), step)]
        return groups

    def parts(self) -> "list[Study]":
        """This study, and the runs on which its selection is made, if it has one."""
        return [self, *([self.selecting] if self.selecting else [])]

    @cached_property
    def selecting(self) -> "Study | None":
        """The runs that a selection is made on, as a study: fewer variants, other seeds, and the
        held-out images in the test set's place. It has no probes."""
        choice = self.selection
        if choice is None:
            return None
        return replace(
            self,
            seeds=choice.seeds,
            variants={name: self.variants[name] for name in choice.variants},
            recipe=replace(self.recipe, validation_images=choice.validation_images),
            probes=False,
            selection=None,
        )

    def part_with(self, name: str) -> "Study":
        """The one of `parts` that has a job of this name; this study where none has."""
        found = (part for part in self.parts() if any(job.name == name for job in part.jobs()))
        return next(found, self)

    def job(self, name: str) -> Job:
        for job in self.jobs():
            if job.name == name:
                return job
        raise UserError(
            f"study {self.name}: it has no job {name[:120]!r}; list them with a dry run"
        )

    def recipe_for(self, variant: str) -> Recipe:
        return replace(self.recipe, **self.variants[variant])

    def job_hash(self, job: Job) -> str:
        """Digest of all that a study says of the numbers of a job's arms."""
        return _digest([self.config_hash(arm) for arm in job.arms])

    def config_hash(self, arm: Arm) -> str:
        """Digest of all that a study says of one arm's numbers (not its seeds or thresholds)."""
        config = {"arm": asdict(arm), "recipe": asdict(self.recipe_for(arm.variant))}
        return _digest(config)

    def as_yaml(self) -> str:
        """The effective study, defaults filled in; loads back as the same study."""
        plain = json.loads(json.dumps(asdict(self)))
        head = "# The effective study: every default filled in. Made by scripts/study.py.\n"
        return head + write_yaml(plain, sort_keys=False, allow_unicode=True, width=100)


def describe(ordering: str) -> dict[str, str]:
    """An ordering's class and cut; `none` and nothing for a name that is no ordering of ours."""
    try:
        parsed = Ordering(ordering)
    except UserError:
        return {"bn_class": "none", "cut": ""}
    return {"bn_class": parsed.bn_class, "cut": parsed.cut}


def dataset_slug(dataset: str) -> str:
    """A data set's name as part of a file name; a folder gets its last part and a digest."""
    kind, _, path = dataset.partition(":")
    if kind != "folder":
        return kind
    last = re.sub(r"[^A-Za-z0-9_]", "_", Path(path).name)[:30]
    return f"folder_{last}_{hashlib.sha256(path.encode()).hexdigest()[:6]}"


def load_study(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read, check and fill in a study; `overrides` replace its keys (see `override`).

    Raises UserError naming the file, the key, its value and what was expected.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, as in studies/quick.yaml")
    if not overrides:
        return _checked(raw, path)
    overridden = override(raw, overrides)
    try:
        return _checked(overridden, path)
    except UserError:
        _checked(raw, path)  # the file's own mistake comes first
        return _checked(overridden, f"the command line (over {path})")


def _checked(raw: Mapping[str, Any], where: str | Path) -> Study:
    schema = study_schema()
    check_against_schema(raw, schema, where)
    return _build(fill_defaults(raw, schema), where)


def load_effective(path: Path) -> Study:
    """Read the study that the workflow wrote; raises UserError that says what to do about it."""
    try:
        return load_study(path)
    except UserError as error:
        raise UserError(f"{error}; this file was made: {DELETE}") from None


def study_schema() -> dict[str, Any]:
    schema: dict[str, Any] = yaml.safe_load(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def override(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A study with some keys replaced, named after them: `article` + seeds=3 = `article+seeds=3`.

    A recipe key may be given bare (`epochs`) or as `recipe: {epochs: 1}`; of a selection, too, a
    mapping replaces the keys that it has.
    """
    study_keys = study_schema()["properties"]
    result = dict(raw)
    recipe = _mapping("recipe", raw.get("recipe"))
    for key, value in overrides.items():
        if key == "name":
            raise UserError("name: a study's name cannot be overridden; copy its file instead")
        if key == "recipe":
            recipe |= _mapping(key, value)
        elif key == "selection" and isinstance(value, Mapping):
            result[key] = _mapping(key, raw.get(key)) | dict(value)
        elif key in study_keys["recipe"]["properties"]:
            recipe[key] = value
        else:
            result[key] = value
    if recipe or "recipe" in raw:
        result["recipe"] = recipe
    longest = study_keys["name"]["maxLength"] - len(f"{raw.get('name')}+")
    result["name"] = f"{raw.get('name')}+{_overrides_label(overrides, longest)}"
    return result


def _mapping(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping | None):
        raise UserError(f"{key} is {str(value)[:60]!r}; expected a mapping of its keys")
    return dict(value or {})


def parse_override(text: str) -> tuple[str, Any]:
    """`seeds=3` as a key and its value in YAML; raises UserError when it is no such thing."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text[:60]!r}: expected KEY=VALUE, such as seeds=3")
    return key, parse_yaml(value, f"--set {text[:60]!r}")


def _overrides_label(overrides: Mapping[str, Any], longest: int) -> str:
    """All of them where that is a name of at most `longest` characters, else a digest of them."""
    label = "+".join(
        f"{key}={_value_label(key, value)}" for key, value in sorted(overrides.items())
    )
    if re.fullmatch(r"[A-Za-z0-9_.+=,-]{1,60}", label) and len(label) <= longest:
        return label
    return _digest(dict(overrides))[:8]


def _value_label(key: str, value: object) -> str:
    if isinstance(value, (list, tuple)):
        alone = key == "seeds" and len(value) == 1  # seeds=3 is a count, seeds=3, the seed 3
        return ",".join(_value_label(key, item) for item in value) + "," * alone
    return value if isinstance(value, str) else json.dumps(value, default=str)


def fill_defaults(raw: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with the schema's defaults, one level into the recipe as well."""
    filled = {k: p["default"] for k, p in schema["properties"].items() if "default" in p}
    filled |= {k: v for k, v in raw.items() if v is not None}
    recipe = schema["properties"]["recipe"]["properties"]
    filled["recipe"] = {k: p["default"] for k, p in recipe.items()} | dict(filled["recipe"])
    return filled


def _build(raw: Mapping[str, Any], path: str | Path) -> Study:
    try:
        for ordering in raw["orderings"]:
            Ordering(ordering)
        for activation in raw["activations"]:
            Activation(activation)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    seeds = raw["seeds"]
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    values: dict[str, Any] = {
        f.name: tuple(raw[f.name]) if isinstance(raw[f.name], list) else raw[f.name]
        for f in fields(Study)
    }
    values["seeds"] = seeds
    values["recipe"] = Recipe(**raw["recipe"])
    values["variants"] = _variants(raw, path)
    values["selection"] = _selection(raw, values["variants"], seeds, path)
    values["thresholds"] = tuple(sorted({float(t) for t in raw["thresholds"]}))
    study = Study(**values)
    chosen = study.selection.name if study.selection else ""
    if RECOMPUTED in (*study.variants, chosen):
        raise UserError(
            f"{path}: a variant or selection is named {RECOMPUTED!r}; expected another name, the "
            "analysis makes a variant of this one from probes"
        )
    if study.name == "data":
        raise UserError(f"{path}: name is 'data'; expected another, results/data holds data sets")
    for axis in ("datasets", "orderings", "activations", "depths", "seeds"):
        _refuse_repeats(axis, getattr(study, axis), path)
    _refuse_twins(study.activations, path)
    _refuse_too_many(study, path)
    _refuse_probes_in_tf32(study, path)
    _refuse_repeats("arms", (arm.id for arm in study.arms()), path)
    return study


def _refuse_twins(activations: Iterable[str], path: str | Path) -> None:
    """Two names of one activation, such as leaky_relu and leaky_relu-0.01."""
    seen: dict[tuple[str, float], str] = {}
    for activation in map(Activation, activations):
        first = seen.setdefault((activation.kind, activation.slope), activation.name)
        if first != activation.name:
            raise UserError(
                f"{path}: activations has {activation.name!r}, the same as {first!r}; "
                "expected each once"
            )


def _refuse_too_many(study: Study, path: str | Path) -> None:
    axes = (study.datasets, study.orderings, study.activations, study.depths, study.variants)
    runs = math.prod(map(len, axes)) * len(study.seeds)
    if runs > LARGEST_STUDY:
        raise UserError(f"{path}: a grid of {runs:,} runs; expected at most {LARGEST_STUDY:,}")


def _refuse_probes_in_tf32(study: Study, path: str | Path) -> None:
    """Probes are read in float32; TF32 is a setting of the whole process, theirs too."""
    for variant in study.variants:
        if study.probes and study.recipe_for(variant).precision == "tf32":
            raise UserError(
                f"{path}: probes with precision tf32 (in variants.{variant}); expected float32 or "
                "bf16 where there are probes"
            )


def _variants(raw: Mapping[str, Any], path: str | Path) -> dict[str, dict[str, Any]]:
    variants = {name: dict(changes or {}) for name, changes in raw["variants"].items()}
    if variants.get("base"):
        raise UserError(
            f"{path}: variants.base overrides {sorted(variants['base'])}; it must be {{}}"
        )
    recipe = study_schema()["properties"]["recipe"]
    for name, changes in variants.items():
        try:
            check_against_schema(changes, recipe, path)
        except UserError as error:
            raise UserError(f"{error} (in variants.{name})") from None
    return variants


def _selection(
    raw: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    path: str | Path,
) -> Selection | None:
    """The study's selection; raises UserError where it would judge on what it has chosen by."""
    given = raw["selection"]
    if given is None:
        return None
    where = f"{path}: selection"
    for axis in ("variants", "seeds"):
        _refuse_repeats(f"selection.{axis}", given[axis], path)
    if given["name"] in variants:
        raise UserError(f"{where}.name is {given['name']!r}, a variant already; expected a new one")
    for name in given["variants"]:
        if name not in variants:
            there = ", ".join(variants)
            raise UserError(f"{where}.variants has {name!r}; expected variants of it: {there}")
        if "validation_images" in variants[name]:
            raise UserError(
                f"{where}.variants has {name!r}, which overrides validation_images; expected a "
                "variant that leaves them to the selection"
            )
    both = sorted(set(given["seeds"]) & set(seeds))
    if both:
        raise UserError(
            f"{where}.seeds has {both[0]}, a seed that is judged; expected seeds of its own"
        )
    if raw["recipe"]["validation_images"]:
        raise UserError(
            f"{where}: recipe.validation_images is {raw['recipe']['validation_images']}; expected "
            "0, so that what was chosen is judged on the test set"
        )
    return Selection(
        given["name"],
        tuple(given["variants"]),
        tuple(given["seeds"]),
        given["validation_images"],
    )


def _refuse_repeats(axis: str, values: Iterable[object], path: str | Path) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise UserError(f"{path}: {axis} has {value!r} twice; expected each once")
        seen.add(value)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
