"""A record: what one run left. Written at once or not at all, checked when read, collected."""

import hashlib
import io
import itertools
import json
import math
import tokenize
from ast import AsyncFunctionDef, ClassDef, Expr, FunctionDef, Module, get_docstring, parse, walk
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnorder.errors import UserError
from bnorder.files import replacing, write_atomically
from bnorder.ordering import Ordering
from bnorder.study import Arm, Run, Study

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
CHECKSUM = ', "checksum": "'  # what stands between a record and the digest of it
# The source that decides a run's numbers. The data set answers for itself by its checksum.
NUMERIC_MODULES = ("network.py", "optimiser.py", "ordering.py", "training.py")
PROBE_MODULES = ("probes.py", "probing.py")  # these decide only what probes read


@dataclass(frozen=True)
class Evaluation:
    """The test set, counted after `step` steps, and the training batches since the last time."""

    step: int
    epoch: float
    test_correct: int
    test_loss: float | None  # None: not finite
    train_seen: int
    train_correct: int
    train_loss: float | None  # None: not finite, or no batch seen


@dataclass(frozen=True)
class Cost:
    """Seconds that a run took: its share of the job's, where replicas trained together."""

    wall_seconds: float
    train_seconds: float
    evaluate_seconds: float
    images_per_second: float
    replicas: int
    probe_seconds: float = 0.0  # part of wall_seconds and of no other


@dataclass(frozen=True)
class Probe:
    """One number read inside a network after `step` steps.

    layer: 0 for the whole network, else the number of the layer among those of its kind.
    """

    step: int
    layer: int
    name: str  # the layer's, such as block1_conv; "network" for the whole
    probe: str
    value: float


@dataclass(frozen=True)
class Provenance:
    """What ran a run."""

    python: str
    torch: str
    system: str
    device: str
    threads: int
    kernels: str = "torch"  # or "fused" and the digest of fused.c


@dataclass(frozen=True)
class Record:
    """What one run left: its identity, its curve, its cost and its provenance."""

    run: Run
    config_hash: str
    code_hash: str
    data_sha256: str
    status: str  # finished or diverged
    diverged_step: int | None
    n_train: int
    n_test: int
    steps: int
    parameters: int
    curve: tuple[Evaluation, ...]
    cost: Cost
    provenance: Provenance
    probes: tuple[Probe, ...] = ()  # empty where the study has none

    def as_line(self) -> str:
        """One line of JSON that ends with a checksum of what stands before it."""
        content = {"format": FORMAT, "id": self.run.id, **asdict(replace(self, probes=()))}
        content["probes"] = _as_series(self.probes)
        if self.provenance.kernels == "torch":  # as lines were before there were others
            del content["provenance"]["kernels"]
        body = json.dumps(content)
        return f'{body[:-1]}{CHECKSUM}{_checksum(body)}"}}\n'

    @classmethod
    def from_line(cls, line: str) -> "Record":
        """Parse and check a line; raises ValueError that says what is wrong with it."""
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError("truncated or no JSON") from None
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError(f"no record of format {FORMAT}")
        checksum = content.pop("checksum", None)
        body = line.rpartition(CHECKSUM)[0] + "}"
        if checksum != _checksum(body):
            raise ValueError("altered: its checksum does not match its content")
        content.pop("id")
        run = content.pop("run")
        probes = _from_series(content.pop("probes", []))
        curve = tuple(Evaluation(**e) for e in content.pop("curve"))
        cost, provenance = Cost(**content.pop("cost")), Provenance(**content.pop("provenance"))
        arm = Arm(**run["arm"])
        run = Run(arm, run["seed"])
        return cls(run=run, curve=curve, cost=cost, provenance=provenance, probes=probes, **content)


def _as_series(probes: Iterable[Probe]) -> list[list[Any]]:
    """Neighbours that differ only in step and value as one [layer, name, probe, steps, values]."""
    groups = itertools.groupby(probes, key=lambda p: (p.layer, p.name, p.probe))
    whole = [(key, list(points)) for key, points in groups]
    return [[*key, [p.step for p in ps], [p.value for p in ps]] for key, ps in whole]


def _from_series(series: Iterable[Sequence[Any]]) -> tuple[Probe, ...]:
    return tuple(
        Probe(step, layer, name, probe, value)
        for layer, name, probe, steps, values in series
        for step, value in zip(steps, values, strict=True)
    )


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    write_atomically(path, text.encode("utf-8"))


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write one line a record, all at once or nothing."""
    write_text(path, "".join(record.as_line() for record in records))


@cache
def code_hash(probes: bool = False) -> str:
    """Digest of the source that decides a run's numbers; comments and docstrings do not count.

    Read once in a process: a plan of 10,000 jobs asks for it as often.

    probes: with the source that decides what probes read, so that switching them on, or changing
    one, trains the runs of such a study anew and leaves every other study alone.
    """
    folder = Path(__file__).parent
    modules = NUMERIC_MODULES + (PROBE_MODULES if probes else ())
    return source_hash([folder / module for module in modules])


def source_hash(paths: Sequence[Path]) -> str:
    """Digest of files; of Python files without comments, docstrings and blank lines."""
    digest = hashlib.sha256()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        digest.update((_bare_source(text) if path.suffix == ".py" else text).encode())
    return digest.hexdigest()[:16]


def _bare_source(source: str) -> str:
    lines = source.splitlines()
    for node in walk(parse(source)):
        if isinstance(node, (Module, ClassDef, FunctionDef, AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if get_docstring(node) is not None and isinstance(first, Expr):
                for number in range(first.lineno - 1, first.end_lineno or first.lineno):
                    lines[number] = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def collect(study: Study, folder: Path, current_code: str | None = None) -> list[Record]:
    """All records of a study's runs in the study's order; what is wrong with one is refused.

    Raises UserError naming the file and line of a record that is damaged, stands twice, belongs
    to no run of the study, or comes from another configuration, other code or other data.
    """
    current_code = current_code or code_hash(study.probes)
    arms = {arm: study.config_hash(arm) for arm in study.arms()}
    expected = {run.id: arms[run.arm] for run in study.runs()}
    found: dict[str, Record] = {}
    data: dict[str, str] = {}
    for job in study.jobs():
        path = folder / f"{job.name}.jsonl"
        for number, line in enumerate(_lines(path), start=1):
            where = f"{path}, line {number}"
            try:
                record = Record.from_line(line)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(_redo(where, path, f"a damaged record ({error})")) from None
            problem = record_problem(record, expected, found, current_code, data)
            if problem:
                raise UserError(_redo(where, path, problem))
            found[record.run.id] = record
        absent = [run.id for run in job.runs if run.id not in found]
        if absent and path.exists():
            problem = f"{len(absent)} of its {len(job.runs)} records are missing"
            raise UserError(_redo(str(path), path, problem))
    return [found[run_id] for run_id in expected if run_id in found]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(_redo(str(path), path, f"unreadable records ({error})")) from None


def _redo(where: str, path: Path, problem: str) -> str:
    return f"{where}: {problem}; delete {path.name}, and the next run trains it again"


def record_problem(
    record: Record,
    expected: dict[str, str],
    found: dict[str, Record],
    current_code: str,
    data: dict[str, str],
) -> str | None:
    """Why a record is not the study's, in words; None where it is.

    expected: run id -> configuration hash; found: the records before it, by run id; data: data
    set -> checksum, filled in by the first record of each data set.
    """
    run = record.run
    if run.id not in expected:
        return f"a foreign record: {run.id} is no run of this study"
    if run.id in found:
        return f"a second record of {run.id}"
    if record.config_hash != expected[run.id]:
        return f"{run.id} was trained with another configuration"
    if record.code_hash != current_code:
        return f"{run.id} was trained by other code ({record.code_hash}, now {current_code})"
    if data.setdefault(run.arm.dataset, record.data_sha256) != record.data_sha256:
        return f"{run.id} was trained on other data than the runs before it"
    return None


def runs_table(study: Study, records: Sequence[Record]) -> "pd.DataFrame":
    """One row a run: its arm, its final epoch, its convergence, its cost, its provenance."""
    import pandas as pd

    return pd.DataFrame([_run_row(study, record) for record in records])


def _run_row(study: Study, record: Record) -> dict[str, Any]:
    last = record.curve[-1]
    row = _identity(record) | {
        "status": record.status,
        "diverged_step": _number(record.diverged_step),
        "n_train": record.n_train,
        "n_test": record.n_test,
        "test_correct": last.test_correct,
        "test_accuracy_pp": 100 * last.test_correct / record.n_test,
        "test_loss": _number(last.test_loss),
        "train_accuracy_pp": _train_accuracy_pp(last),
        "train_loss": _number(last.train_loss),
        "test_error_area": _test_error_area(record),
        "steps": record.steps,
        "parameters": record.parameters,
    }
    for threshold in study.thresholds:
        row[f"steps_to_{threshold:.15g}"] = _steps_to(record, threshold)
    if study.probes:
        row |= _probe_measures(record)
    hashes = {k: getattr(record, k) for k in ("config_hash", "code_hash", "data_sha256")}
    return row | vars(record.cost) | vars(record.provenance) | hashes


def _probe_measures(record: Record) -> dict[str, float]:
    """What claims are judged by, one number a run; NaN where a probe does not apply.

    BN's inputs: the mean over the BN layers at the run's end, where running averages count.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for probe in record.probes:
        found.setdefault((probe.probe, probe.step), []).append(probe.value)
    measures = {f"gradient_slope@{step}": ("gradient_slope", step) for step in (0, 100)}
    for name in ("bn_input_mean_cv", "bn_input_variance_cv", "running_loss_pp"):
        measures[name] = (name, record.steps)
    values = {measure: found.get(key, [math.nan]) for measure, key in measures.items()}
    return {measure: math.fsum(numbers) / len(numbers) for measure, numbers in values.items()}


def probes_table(records: Sequence[Record]) -> "pd.DataFrame":
    """One row a number that a probe read; `layer` counts the layers of a kind, 0 is the network."""
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    for record in records:
        identity = _identity(record)
        for p in record.probes:
            row = {"step": p.step, "layer": p.layer, "layer_name": p.name, "probe": p.probe}
            for key, value in (identity | row | {"value": p.value}).items():
                columns.setdefault(key, []).append(value)
    return pd.DataFrame(columns)


def curves_table(records: Sequence[Record]) -> "pd.DataFrame":
    """One row an evaluation of a run."""
    import pandas as pd

    identities = pd.DataFrame([_identity(record) for record in records])
    table = identities.loc[identities.index.repeat([len(record.curve) for record in records])]
    points = [point for record in records for point in record.curve]
    table["step"] = [point.step for point in points]
    table["epoch"] = [point.epoch for point in points]
    table["n_test"] = [record.n_test for record in records for _ in record.curve]
    table["test_correct"] = [point.test_correct for point in points]
    table["test_accuracy_pp"] = 100 * table["test_correct"] / table["n_test"]
    table["test_loss"] = [_number(point.test_loss) for point in points]
    table["train_accuracy_pp"] = [_train_accuracy_pp(point) for point in points]
    table["train_loss"] = [_number(point.train_loss) for point in points]
    return table.reset_index(drop=True)


def _identity(record: Record) -> dict[str, Any]:
    arm, ordering = record.run.arm, Ordering(record.run.arm.ordering)
    return {
        "run": record.run.id,
        "dataset": arm.dataset,
        "ordering": arm.ordering,
        "bn_class": ordering.bn_class,
        "cut": ordering.cut,
        "activation": arm.activation,
        "depth": arm.depth,
        "variant": arm.variant,
        "seed": record.run.seed,
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _train_accuracy_pp(point: Evaluation) -> float:
    return 100 * point.train_correct / point.train_seen if point.train_seen else math.nan


def _test_error_area(record: Record) -> float:
    """Mean test error over the training steps, in percentage points, by the trapezoid rule.

    A diverged run stays where it was last counted until the run's end.
    """
    points = [(p.step, 100 * (1 - p.test_correct / record.n_test)) for p in record.curve]
    points.append((record.steps, points[-1][1]))
    pairs = itertools.pairwise(points)
    return sum((s1 - s0) * (e0 + e1) / 2 for (s0, e0), (s1, e1) in pairs) / record.steps


def _steps_to(record: Record, threshold: float) -> float:
    """First evaluated step whose count reaches `threshold` percent; NaN: never."""
    needed = math.ceil(threshold * record.n_test / 100 - 1e-9)
    return next((float(p.step) for p in record.curve if p.test_correct >= needed), math.nan)


def write_tables(study: Study, records: Sequence[Record], folder: Path) -> None:
    """Write runs, curves and (where there are any) probes, and which runs are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"runs": runs_table(study, records), "curves": curves_table(records)}
    if study.probes:
        tables["probes"] = probes_table(records)
    for name in ("probes", "selection"):  # of what the study was before
        for suffix in (".parquet", ".csv"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    for name, table in tables.items():
        _write_table(table, folder / name)
    missing = missing_runs(study, records)
    summary = {"expected": len(study.runs()), "present": len(records), "missing": missing}
    write_text(folder / "missing.json", json.dumps(summary, indent=1) + "\n")


def write_selection(study: Study, records: Sequence[Record], folder: Path) -> None:
    """Write the runs on which a study's selection is made, counted on the held-out images."""
    _write_table(runs_table(study, records), folder / "selection")


def _write_table(table: "pd.DataFrame", stem: Path) -> None:
    """As Parquet and as CSV; pyarrow writes both, much faster than pandas' own CSV."""
    from pyarrow import Table, csv  # type: ignore[import-untyped]

    with replacing(stem.with_suffix(".parquet")) as partial:
        table.to_parquet(partial, index=False)
    with replacing(stem.with_suffix(".csv")) as partial:
        whole = Table.from_pandas(table, preserve_index=False)
        csv.write_csv(whole, partial, csv.WriteOptions(quoting_style="needed"))


def missing_runs(study: Study, records: Sequence[Record]) -> list[str]:
    present = {record.run.id for record in records}
    return [run.id for run in study.runs() if run.id not in present]
