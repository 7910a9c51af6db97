"""What the Snakefile asks before a job runs: which study, with which settings, on what machine."""

import ctypes
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bnorder.claims import Claim, load_claims
from bnorder.errors import LESS_MEMORY, UserError, exit_cleanly
from bnorder.files import write_atomically
from bnorder.ordering import Activation, Ordering
from bnorder.publishing.published import STUDY, published_folder
from bnorder.schema import parse_yaml, unknown_key, write_yaml
from bnorder.study import Study, dataset_slug, load_study, study_schema

# Settings of the workflow itself; every other key of `--config` overrides the study.
SETTINGS = ("study", "allow_missing", "archive", "gpu", "from", "lang")

MADE_BY = ".study_file"  # in results/<study>/: the path of the study's file

DEFAULT_RATE = (100, 1)  # Snakemake's own limit: so many jobs in so many seconds

# One library a row, under the names that Linux and macOS give it; WeasyPrint loads the same ones.
PDF_LIBRARIES = (
    ("libpango-1.0.so.0", "libpango-1.0.dylib", "libpango-1.0.0.dylib"),
    ("libpangoft2-1.0.so.0", "libpangoft2-1.0.dylib", "libpangoft2-1.0.0.dylib"),
    ("libharfbuzz-subset.so.0", "libharfbuzz-subset.dylib", "libharfbuzz-subset.0.dylib"),
)
FULL_BYTES = 256 * 1024
BREW_FOLDERS = ("/opt/homebrew/lib", "/usr/local/lib")

T = TypeVar("T")


def or_exit(action: Callable[[], T]) -> T:
    """What `action` returns; a user's mistake ends the program with its one line and status 2."""
    results: list[T] = []
    exit_cleanly(lambda: results.append(action()))
    return results[0]


def as_config(words: Iterable[str], keys: Sequence[str] | None = None) -> dict[str, str]:
    """A script's KEY=VALUE words as a configuration; keys: those that it takes, if not all.

    Raises UserError for a word without `=` and for another key.
    """
    config = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or (keys is not None and key not in keys):
            expected = " or ".join(f"{name}=VALUE" for name in keys or ("KEY",))
            raise UserError(f"{word[:60]!r} is not understood; expected {expected}")
        config[key] = _as_snakemake_reads(value)
    return config


def _as_snakemake_reads(text: str) -> str:
    """Text without the quotes at its ends and without a comment of YAML; else as it is."""
    text = text.strip("'\"")
    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        return text
    return value if isinstance(value, str) and text else text


def as_make_words(config: Mapping[str, str]) -> str:
    """A script's words as they are typed behind `make`: STUDY=article SEEDS=3."""
    return " ".join(f"{key.upper()}={shlex.quote(value)}" for key, value in config.items())


def configured_study(config: Mapping[str, Any]) -> tuple[Path, dict[str, Any], Study]:
    """The study file, the overrides and the study that a Snakemake configuration asks for.

    Raises UserError for a study that cannot be read or that the schema does not allow.
    """
    source = published_source(config)
    path = source / STUDY if source else study_path(str(config.get("study", "quick")))
    overrides = study_overrides(config)
    _refuse_unknown(overrides)
    study = load_study(path, overrides)
    if source:
        _refuse_other_networks(study, load_study(path))
    else:
        _refuse_borrowed_name(study, path)
    return path, overrides, study


def _refuse_borrowed_name(study: Study, path: Path) -> None:
    """Raise UserError for a study that would overwrite the results of another of its name.

    A file that was moved or renamed is no other one: at its old place there is none any more.
    """
    name, results = study.name.partition("+")[0], Path("results", study.name)
    own = study_path(name)
    for other in (own, _study_file_of(results)):
        if other and other.exists() and not other.samefile(path):
            way_out = "" if other == own else f", or {results}/ deleted"
            raise UserError(
                f"{path}: name is {name!r}, that of {other}, whose results it would overwrite; "
                f"expected a name of its own{way_out}"
            )


def remember_study_file(results: Path, path: Path) -> None:
    """Note in `results` the study's file that they are made by, lest another one overwrites them.

    To be called once the study is held (`hold_study`).
    """
    write_atomically(results / MADE_BY, f"{path.absolute()}\n".encode(errors="surrogateescape"))


def date_back(*folders: Path) -> None:
    """Give what a wrong clock dated into the future the time of now, in these folders.

    Snakemake takes no output that is older than its input, be it a data set of another study.
    """
    now = time.time()
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and path.stat().st_mtime > now:
            os.utime(path, (now, now))


def _study_file_of(results: Path) -> Path | None:
    """The study's file that `results` were made by; None where that is not known."""
    try:
        path = (results / MADE_BY).read_bytes().decode(errors="surrogateescape").strip()
    except OSError:
        return None
    return study_path(path) if _is_path(path) else None


def _refuse_other_networks(study: Study, published: Study) -> None:
    """Raise UserError where published records are asked to stand for runs of another recipe."""
    theirs = {arm.id: published.config_hash(arm) for arm in published.arms()}
    for arm in study.arms():
        if theirs.get(arm.id) not in (None, study.config_hash(arm)):
            raise UserError(
                f"{study.name}: {arm.id} is published with another recipe or network; expected "
                "FROM=published without what changes it (the same command without FROM trains it)"
            )


def _refuse_unknown(overrides: Iterable[object]) -> None:
    keys = study_schema()["properties"]
    recipe = keys["recipe"]["properties"]
    unknown = next((str(key) for key in overrides if key not in (keys | recipe)), None)
    if unknown is not None:
        raise UserError(
            f"{unknown_key(unknown, [*SETTINGS, *keys, *recipe])}; "
            f"expected a setting ({', '.join(SETTINGS)}), a key of a study "
            f"({', '.join(key for key in keys if key != 'name')}) or of its recipe "
            f"({', '.join(recipe)})"
        )


def published_source(config: Mapping[str, Any]) -> Path | None:
    """The folder of published results that take the place of training; None without `from`.

    Raises UserError where the study is not published.
    """
    return published_results(config) if config.get("from") else None


def published_results(config: Mapping[str, Any]) -> Path:
    """Where a study's published results lie: below `from`, or among those of this project.

    Raises UserError where it is not published.
    """
    study = str(config.get("study", "quick"))
    name = load_study(study_path(study)).name if _is_path(study) else study
    return published_folder(str(config.get("from") or "published"), name)


def results_folder(config: Mapping[str, Any], study: Study) -> Path:
    """Where a study's results lie; those made from published records lie apart."""
    return Path("results", study.name + ("+published" if config.get("from") else ""))


def check_claims(path: str) -> None:
    """Raise UserError where a claims file, or an ordering or activation it names, is no such thing.

    A well-formed arm that the study lacks is fine: its claim is then not tested, and says so.
    """
    for claim in load_claims(path).claims:
        try:
            _check_arms(claim)
        except UserError as error:
            raise UserError(f"{path}: claim {claim.id}: {error}") from None


def _check_arms(claim: Claim) -> None:
    for term in (term for part in claim.parts for term in part.terms):
        for ordering in term.select.get("ordering", ()):
            Ordering(str(ordering))
        for activation in term.select.get("activation", ()):
            Activation(str(activation))


def check_folders(datasets: Iterable[str], caches: Path = Path("results", "data")) -> None:
    """Raise UserError where a folder of images is not there, unless its data set is cached."""
    for dataset in datasets:
        kind, _, path = dataset.partition(":")
        cached = (caches / f"{dataset_slug(dataset)}.pt").exists()
        if kind == "folder" and not cached and not os.path.isdir(os.path.expanduser(path)):
            raise UserError(
                f"data set {dataset}: no such folder; expected one folder of images a class"
            )


def study_path(study: str) -> Path:
    """`article` is studies/article.yaml; anything with a slash or `.yaml` is a path.

    A file has one spelling, relative where it can be, lest another one looks like a change.
    """
    if not _is_path(study):
        return Path("studies", f"{study}.yaml")
    path = Path(study).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _is_path(study: str) -> bool:
    return "/" in study or study.endswith((".yaml", ".yml"))


def study_overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """The study's keys in a Snakemake configuration, as the types that the schema names.

    Snakemake leaves `depths=[2,5]` as strings and `depths=2` as a number; both are lists here.
    Raises UserError for text that its YAML took for something else.
    """
    keys = study_schema()["properties"]
    types = keys["recipe"]["properties"] | keys
    given = {key: value for key, value in config.items() if key not in SETTINGS}
    for key, value in given.items():
        if types.get(key, {}).get("type") == "string" and isinstance(value, (dict, list)):
            raise UserError(
                f"{key} is {str(value)[:60]}, as Snakemake reads it; expected text without a colon "
                f"or brackets: leave them out, or set {key} in a study's file, in quotes"
            )
    return {
        key: _typed(value, types.get(key, {}))
        for key, value in sorted(given.items(), key=lambda item: str(item[0]))
    }


def set_options(overrides: Mapping[str, Any]) -> list[str]:
    """The overrides as options of scripts/study.py; YAML, since JSON's 1e-05 is text to YAML."""
    return [f"--set={key}={_one_line_yaml(value)}" for key, value in overrides.items()]


def _one_line_yaml(value: Any) -> str:
    text = write_yaml(value, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()


def setting(config: Mapping[str, Any], name: str, default: int = 0) -> int:
    """A whole-number or true/false setting of the workflow; raises UserError for another value."""
    value = _typed(_typed(config.get(name, default), {"type": "boolean"}), {"type": "integer"})
    if not isinstance(value, int) or value < 0:
        raise UserError(f"{name} is {value!r}; expected 0, 1 (or true, false) or a count")
    return int(value)


def figure_labels(wildcards: Any, output: Any) -> dict[str, str]:
    """How a figure is called in Snakemake's own report: by its title."""
    caption = Path(output.figures, f"{wildcards.figure}.rst").read_text(encoding="utf-8")
    return {"Figure": caption.splitlines()[0].strip("*").replace("\\", "")}


def chosen(config: Mapping[str, Any], name: str, of: Sequence[str]) -> str:
    """A setting of the workflow that is one of a few words, by default the first of them."""
    value = str(config.get(name, of[0]))
    if value not in of:
        raise UserError(f"{name} is {value[:60]!r}; expected one of {', '.join(of)}")
    return value


def _typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """`value`, or what its text means where the schema wants a number, a list or a mapping."""
    kind = schema.get("type")
    if "anyOf" in schema:  # a count or a list
        listed = isinstance(value, list) or (isinstance(value, str) and "," in value)
        return _typed(value, schema["anyOf"][1 if listed else 0])
    if kind == "array":
        if isinstance(value, str):
            value = [item.strip() for item in value.strip("[] ").split(",")]
        items = value if isinstance(value, list) else [value]
        return [_typed(item, schema["items"]) for item in items if item != ""]
    if kind in ("object", ["object", "null"]) and isinstance(value, (str, dict)):
        return _typed_mapping(value, schema)
    if kind == "string" and isinstance(value, (int, float)):
        return str(value)
    return _scalar(value) if isinstance(value, str) and kind != "string" else value


def _typed_mapping(value: str | dict[str, Any], schema: Mapping[str, Any]) -> Any:
    parsed = parse_yaml(value, "--config") if isinstance(value, str) else value
    if not isinstance(parsed, dict):
        return parsed
    keys = schema.get("properties") or study_schema()["properties"]["recipe"]["properties"]
    return {
        key: _typed_mapping(item, {}) if isinstance(item, dict) else _typed(item, keys.get(key, {}))
        for key, item in parsed.items()
    }


def _scalar(text: str) -> Any:
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def full_disk(folder: Path) -> list[str]:
    """The line that says it where less than 256 KiB, or no more files, fit below `folder`."""
    if not folder.exists():
        return []
    left = os.statvfs(folder)
    if left.f_bavail * left.f_frsize >= FULL_BYTES and (left.f_favail or not left.f_files):
        return []
    return [f"error: {folder}: its disk is full; free some space, then run the same command again"]


def memory_kills(counters: Path = Path("/proc/vmstat")) -> int:
    """How many processes the kernel has ended for want of memory; 0 where it does not count."""
    try:
        lines = counters.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def short_of_memory(kills_before: int, kills_now: int) -> list[str]:
    """The line that says it where the kernel ended processes while the workflow ran.

    A process that is ended so leaves no word of its own. It may be another program's: the kernel
    counts for the whole machine, so this is no error of ours.
    """
    if kills_now <= kills_before:
        return []
    said = "Perhaps out of memory: the kernel ended a process of this machine meanwhile; if it was"
    return [f"{said} one of these jobs, {LESS_MEMORY}."]


def missing_pdf_libraries() -> list[str]:
    """Native libraries that the PDF needs and the dynamic linker does not find here."""
    return [names[0].split(".so")[0] for names in PDF_LIBRARIES if not _loads(names)]


def _loads(names: Iterable[str]) -> bool:
    folders = ("", *(f"{folder}/" for folder in BREW_FOLDERS if sys.platform == "darwin"))
    for name in (f"{folder}{name}" for folder in folders for name in names):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def require_pdf_libraries() -> None:
    """Raise UserError with the command that installs them when the PDF's libraries are missing."""
    missing = missing_pdf_libraries()
    if missing:
        raise UserError(
            f"the PDF report needs {', '.join(missing)}, not found on this machine; install with "
            f"`{_install_command()}`, then rerun"
        )


def _install_command() -> str:
    if os.environ.get("CONDA_PREFIX"):
        return "conda install -c conda-forge pango harfbuzz"
    if sys.platform == "darwin":
        return "brew install pango"
    return "sudo apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"


def lift_default_rate_limit(workflow: Any) -> None:
    """Take away Snakemake's limit of 100 jobs a second, where nobody asked for one.

    Under a limit its scheduler (9.27) sets a timer whenever it wakes, and wakes for each job that
    ends: after n jobs it looks n times a second at all that wait, and takes time from the training.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == DEFAULT_RATE:
        workflow.scheduler.job_rate_limiter = None
