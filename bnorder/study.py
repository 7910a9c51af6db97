"""A study: one YAML file, checked and filled in, expanded into arms, runs and jobs."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from bnorder.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMA_FILE = REPOSITORY / "workflow" / "schemas" / "study.schema.yaml"
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "identity")
LARGEST_FILE = 1_000_000  # bytes; a study is a page of text


@dataclass(frozen=True)
class Ordering:
    """A block's layers in order, parsed from its name, such as `bn-act-conv`."""

    name: str

    def __post_init__(self) -> None:
        layers = self.layers
        if "conv" not in layers or len(set(layers)) < len(layers) or set(layers) - set(LAYERS):
            raise UserError(
                f"ordering {self.name[:60]!r}: expected conv, with or without bn and act, "
                "each at most once, joined by dashes, such as bn-act-conv"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.name.split("-"))

    @property
    def bn_class(self) -> str:
        """`bn_first` or `act_first`: which follows which in the cycle; `none` without both."""
        if len(self.layers) < len(LAYERS):
            return "none"
        start = self.layers.index("conv")
        after_conv = self.layers[(start + 1) % 3]
        return "bn_first" if after_conv == "bn" else "act_first"

    @property
    def cut(self) -> str:
        """Where the convolution stands in the block: `conv_first`, `conv_middle`, `conv_last`."""
        position = self.layers.index("conv")
        if position == 0:
            return "conv_first"
        return "conv_last" if position == len(self.layers) - 1 else "conv_middle"


LAYERS = ("conv", "bn", "act")


@dataclass(frozen=True)
class Activation:
    """An activation's kind and its one parameter, parsed from `leaky_relu` or `leaky_relu-0.1`."""

    name: str

    def __post_init__(self) -> None:
        match = re.fullmatch(r"([a-z_]+)(?:-(\d+(?:\.\d+)?))?", self.name)
        if not match or match[1] not in ACTIVATIONS or (match[2] and match[1] != "leaky_relu"):
            raise UserError(
                f"activation {self.name[:60]!r}: expected one of {', '.join(ACTIVATIONS)}, "
                "or leaky_relu-SLOPE such as leaky_relu-0.1"
            )

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]

    @property
    def slope(self) -> float:
        """Slope of `leaky_relu` left of zero."""
        return float(self.name.partition("-")[2] or 0.01)


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
    """What one training process does: some seeds of one arm."""

    arm: Arm
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        first, last = self.seeds[0], self.seeds[-1]
        if self.seeds == tuple(range(first, last + 1)):
            return f"{self.arm.id}.s{first}-{last}"
        digest = hashlib.sha256(json.dumps(self.seeds).encode()).hexdigest()[:8]
        return f"{self.arm.id}.s{first}-{last}.{digest}"

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(Run(self.arm, seed) for seed in self.seeds)


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
    thresholds: tuple[float, ...]
    data_dirs: tuple[str, ...]
    claims: str

    def arms(self) -> list[Arm]:
        axes = (self.datasets, self.orderings, self.activations, self.depths, self.variants)
        return [Arm(*cell) for cell in itertools.product(*axes)]

    def runs(self) -> list[Run]:
        return [Run(arm, seed) for arm in self.arms() for seed in self.seeds]

    def jobs(self) -> list[Job]:
        return [Job(arm, seeds) for arm in self.arms() for seeds in self.seed_groups]

    @cached_property
    def seed_groups(self) -> list[tuple[int, ...]]:
        step = self.seeds_per_job
        return [self.seeds[i : i + step] for i in range(0, len(self.seeds), step)]

    def job(self, name: str) -> Job:
        for job in self.jobs():
            if job.name == name:
                return job
        raise UserError(
            f"study {self.name}: it has no job {name[:120]!r}; list them with a dry run"
        )

    def recipe_for(self, variant: str) -> Recipe:
        return replace(self.recipe, **self.variants[variant])

    def config_hash(self, arm: Arm) -> str:
        """Digest of all that a study says of one arm's numbers (not its seeds or thresholds)."""
        config = {"arm": asdict(arm), "recipe": asdict(self.recipe_for(arm.variant))}
        return _digest(config)

    def as_yaml(self) -> str:
        """The effective study, defaults filled in; loads back as the same study."""
        plain = json.loads(json.dumps(asdict(self)))
        head = "# The effective study: every default filled in. Made by scripts/study.py.\n"
        return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


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
        raise UserError(f"{path}: expected a mapping of keys to values; see studies/quick.yaml")
    if overrides:
        raw = override(raw, overrides)
    schema = study_schema()
    check_against_schema(raw, schema, path)
    return _build(fill_defaults(raw, schema), path)


def read_yaml(path: str | Path) -> Any:
    """Parse a small YAML file; raises UserError when it is unreadable or no YAML."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: larger than {LARGEST_FILE:,} bytes; expected a page of YAML")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except FileNotFoundError:
        beside = sorted(p.stem for p in path.parent.glob("*.yaml"))
        hint = f"; there are: {', '.join(beside)}" if beside else ""
        raise UserError(f"{path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected UTF-8 YAML") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{path}{where}: no valid YAML ({problem})") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; expected a page of YAML") from None


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases (which can grow without bound) and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not accepted", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a plain word", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as a string; people mean the number.
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def study_schema() -> dict[str, Any]:
    schema: dict[str, Any] = yaml.safe_load(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def override(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A study with some keys replaced, named after them: `article` + seeds=3 = `article+seeds=3`.

    A recipe key may be given bare (`epochs`) or as `recipe: {epochs: 1}`.
    """
    study_keys = study_schema()["properties"]
    result = dict(raw)
    recipe = dict(raw.get("recipe") or {})
    for key, value in overrides.items():
        if key == "name":
            raise UserError("name: a study's name cannot be overridden; copy its file instead")
        if key == "recipe" and isinstance(value, Mapping):
            recipe |= value
        elif key in study_keys["recipe"]["properties"]:
            recipe[key] = value
        else:
            result[key] = value
    if recipe or "recipe" in raw:
        result["recipe"] = recipe
    result["name"] = f"{raw.get('name')}+{_overrides_label(overrides)}"
    return result


def _overrides_label(overrides: Mapping[str, Any]) -> str:
    parts = [f"{k}={json.dumps(v, separators=(',', ':'))}" for k, v in sorted(overrides.items())]
    label = re.sub(r'[\[\]"]', "", "+".join(parts))
    if re.fullmatch(r"[A-Za-z0-9_.+=,-]{1,60}", label):
        return label
    return _digest(dict(overrides))[:8]


def check_against_schema(raw: object, schema: Mapping[str, Any], path: str | Path) -> None:
    """Raise UserError on the first thing in `raw` that the JSON schema does not allow."""
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(raw)
    )
    if error is not None:
        raise UserError(f"{path}: {_describe(error)}")


def _describe(error: jsonschema.ValidationError) -> str:
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
    where = where.lstrip(".")[:120] or "the file"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(error.schema.get("properties", {}))
        unknown = [str(k)[:60] for k in error.instance if k not in known]
        return f"{where}: unknown key {unknown[0]!r}; expected one of {', '.join(known)}"
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [k for k in error.validator_value if k not in error.instance]
        return f"{where}: the key {missing[0]!r} is missing"
    return f"{where} is {_short(error.instance)}; expected {_expected(error)}"


def _expected(error: jsonschema.ValidationError) -> str:
    value = error.validator_value
    words = {
        "type": lambda: " or ".join(value) if isinstance(value, list) else f"{value}",
        "enum": lambda: "one of " + ", ".join(map(str, value)),
        "minimum": lambda: f"at least {value}",
        "maximum": lambda: f"at most {value}",
        "exclusiveMinimum": lambda: f"more than {value}",
        "exclusiveMaximum": lambda: f"less than {value}",
        "minItems": lambda: f"a list of at least {value} item",
        "minLength": lambda: f"at least {value} character",
        "maxLength": lambda: f"at most {value} characters",
        "pattern": lambda: f"text like {value}",
        "anyOf": lambda: "a positive count or a list of whole numbers",
    }
    make = words.get(str(error.validator))
    described = error.schema.get("description") if isinstance(error.schema, dict) else None
    return (make() if make else str(error.message)[:200]) + (f" ({described})" if described else "")


def _short(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


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
    values = {
        f.name: tuple(raw[f.name]) if isinstance(raw[f.name], list) else raw[f.name]
        for f in fields(Study)
    }
    values["seeds"] = seeds
    values["recipe"] = Recipe(**raw["recipe"])
    values["variants"] = _variants(raw, path)
    values["thresholds"] = tuple(sorted({float(t) for t in raw["thresholds"]}))
    study = Study(**values)
    for axis in ("datasets", "orderings", "activations", "depths", "seeds"):
        _refuse_repeats(axis, getattr(study, axis), path)
    _refuse_repeats("arms", (arm.id for arm in study.arms()), path)
    return study


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


def _refuse_repeats(axis: str, values: Iterable[object], path: str | Path) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise UserError(f"{path}: {axis} has {value!r} twice; expected each once")
        seen.add(value)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
