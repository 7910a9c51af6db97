"""The data dictionary: every results table, what a row of it is, and every column with its unit.

docs/data-dictionary.md and the captions under workflow/report/tables/ are written from here
(`make dictionary`); tests/test_dictionary.py holds it to the tables that the workflow writes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bnorder.files import write_atomically

KINDS = {"text": "text", "whole": "whole number", "number": "number"}


@dataclass(frozen=True)
class Column:
    """A column: `name` may hold a part in braces that stands for a value, as in `steps_to_{x}`."""

    name: str
    kind: str  # one of KINDS
    unit: str  # empty for text, counts and pure numbers
    meaning: str
    optional: bool = False  # some studies lack it

    def matches(self, column: str) -> bool:
        pattern = re.sub(r"\\\{\w+\\\}", r"[0-9.]+", re.escape(self.name))
        return re.fullmatch(pattern, column) is not None


@dataclass(frozen=True)
class Table:
    """A results table, as .csv and as .parquet in results/<study>/<folder>/."""

    folder: str
    name: str
    row: str  # what one row is
    about: str
    columns: tuple[Column, ...]

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    def unknown(self, columns: Iterable[str]) -> list[str]:
        """The columns that the dictionary lacks."""
        return [c for c in columns if not any(known.matches(c) for known in self.columns)]

    def absent(self, columns: Iterable[str]) -> list[str]:
        """What the dictionary promises and the columns lack."""
        there = set(columns)
        return [c.name for c in self.columns if not c.optional and c.name not in there]


def _columns(
    kind: str, unit: str, meanings: Mapping[str, str], *, optional: bool = False
) -> list[Column]:
    return [Column(name, kind, unit, meaning, optional) for name, meaning in meanings.items()]


# What a column means wherever it stands; a table names those that mean something else in it.
_KNOWN = {
    column.name: column
    for column in [
        *_columns(
            "text",
            "",
            {
                "run": "the run's name: its arm and its seed",
                "arm": "the arm's name",
                "dataset": "data set",
                "ordering": "the block's layers in their order, joined by dashes",
                "bn_class": "class of the ordering: bn_first, act_first, or none without both",
                "cut": "where the cycle is cut: conv_first, conv_middle, conv_last, or none",
                "activation": "activation, with its parameter where it has one",
                "variant": "named set of overrides of the recipe; base overrides nothing",
                "status": "finished, or diverged where the loss stopped being finite",
                "device": "what trained the run",
                "kernels": "PyTorch's own kernels, or fused ones and the digest of their source",
                "torch": "version of PyTorch",
                "python": "version of Python",
                "system": "operating system and processor",
                "config_hash": "digest of the arm's part of the study",
                "code_hash": "digest of the source that decides the run's numbers",
                "data_sha256": "checksum of the data set",
                "measure": "the column of runs that was compared",
                "unit": "unit of the measure: pp for percentage points, else empty",
                "claim": "the claim's identifier",
                "first": "ordering",
                "second": "ordering that it is compared with",
                "effect": "class, cut, class x cut, or class at a cut",
                "contrast": "what is subtracted from what",
                "layer_name": "name of the layer, such as block1_conv; network for the whole",
                "probe": "what was read; bnorder/probes.py defines each",
                "verdict": "the claim's verdict under this variant",
            },
        ),
        *_columns(
            "whole",
            "",
            {
                "depth": "number of blocks",
                "seed": "seed: the order of the data and, where shapes agree, the first weights",
                "n_train": "number of training images",
                "n_test": "number of test images",
                "test_correct": "test images that were classified correctly",
                "parameters": "number of trained parameters",
                "replicas": "seeds that trained together as one network",
                "threads": "threads of the process",
                "part": "number of the claim's part, from 0",
                "layer": "number of the layer among those of its kind; 0: the whole network",
                "runs": "runs of the arm that are there",
                "n": "seeds that count",
                "diverged": "runs that diverged",
                "arms": "arms that are compared in pairs",
                "reached": "runs that reached the threshold",
                "at_risk": "runs that had not reached the threshold before this step",
                "events": "runs that reached it at this step",
            },
        ),
        *_columns(
            "number",
            "pp",
            {
                "test_accuracy_pp": "test accuracy, 100 × test_correct / n_test",
                "train_accuracy_pp": "accuracy on the training batches since the last evaluation",
                "test_error_area": "test error averaged over the training steps (trapezoid rule)",
                "threshold": "test accuracy to be reached",
            },
        ),
        *_columns(
            "number",
            "s",
            {
                "wall_seconds": "time that the run took; its share, where seeds trained together",
                "train_seconds": "part of wall_seconds in training steps",
                "evaluate_seconds": "part of wall_seconds in evaluations",
                "probe_seconds": "part of wall_seconds in probes",
            },
        ),
        *_columns(
            "number",
            "steps",
            {
                "step": "training steps done",
                "diverged_step": "step at which the loss was no longer finite; empty: it stayed so",
                "steps": "training steps of the recipe",
                "median_steps": "Kaplan-Meier median of the steps to the threshold",
            },
        ),
        *_columns(
            "number",
            "",
            {
                "epoch": "step divided by the steps of an epoch",
                "test_loss": "mean cross-entropy on the test set, in nats; empty: not finite",
                "train_loss": "mean cross-entropy on the training batches since the last "
                "evaluation, in nats; empty: not finite, or none seen",
                "images_per_second": "training images in a second of training",
                "p": "two-sided sign-flip p-value, not adjusted",
                "p_holm": "p after Holm's method within the same arm family",
                "share": "share of the sum of squares between the orderings' means, 0 to 1",
                "share_not_reached": "Kaplan-Meier share that has not reached the threshold",
                "statistic": "log-rank statistic",
                "value": "the number that was read; three significant digits of it are published",
            },
        ),
        *_columns(
            "number",
            "steps",
            {"steps_to_{threshold}": "first evaluated step that reaches it; empty: never"},
            optional=True,
        ),
        *_columns(
            "number",
            "",
            {
                "gradient_slope@{step}": "absolute slope of the log gradient norm over the layers",
                "bn_input_mean_cv": "variation of the batch mean at BN's inputs at the run's end",
                "bn_input_variance_cv": "variation of the batch variance there",
            },
            optional=True,
        ),
        *_columns(
            "number",
            "pp",
            {"running_loss_pp": "test accuracy lost by BN's running averages"},
            optional=True,
        ),
    ]
}
_AXES = "dataset ordering bn_class cut activation depth variant"
_RUN = f"run {_AXES} seed"
_CELL = "dataset activation depth variant"
_TEST = "n_test test_correct test_accuracy_pp test_loss train_accuracy_pp train_loss"
_OF_MEASURE = "in the measure's unit"


def _table(path: str, row: str, about: str, names: str, *own: Column) -> Table:
    """names: columns with their usual meaning; own: those that mean something else here."""
    folder, _, name = path.partition("/")
    special = {column.name: column for column in own}
    listed = [special.pop(n) if n in special else _KNOWN[n] for n in names.split()]
    return Table(folder, name, row, about, (*listed, *special.values()))


def _own(name: str, meaning: str, unit: str = "", kind: str = "number") -> Column:
    return Column(name, kind, unit, meaning)


def _estimate(what: str, unit: str = "") -> tuple[Column, ...]:
    """mean, ci_low and ci_high of something."""
    return (
        _own("mean", f"mean over seeds of {what}", unit),
        _own("ci_low", "lower end of its 95 % t-interval", unit),
        _own("ci_high", "upper end of its 95 % t-interval", unit),
    )


def _story(name: str, what: str, unit: str = "") -> tuple[Column, ...]:
    """A part of why's rows: a mean over seeds, its interval, p and the answer."""
    return (
        _own(name, f"mean over seeds of {what}", unit),
        _own(f"{name}_low", "lower end of its 95 % t-interval", unit),
        _own(f"{name}_high", "upper end of its 95 % t-interval", unit),
        _own(f"{name}_p", "its two-sided sign-flip p-value, not adjusted"),
        _own(f"{name}_word", "yes as the claim has it, no the opposite, or open", kind="text"),
    )


def _band(measure: str, words: str, unit: str = "") -> tuple[Column, ...]:
    return (
        _own(f"{measure}_mean", f"{words}, mean over the runs still training", unit),
        _own(f"{measure}_low", "lower end of its 95 % t-interval", unit),
        _own(f"{measure}_high", "upper end of its 95 % t-interval", unit),
    )


_EITHER = "activation, or all for the mean over activations"
TABLES = (
    _table(
        "tables/runs",
        "a run",
        "Its arm, its final epoch, its convergence, its cost and its provenance.",
        f"{_RUN} status diverged_step n_train {_TEST} test_error_area steps parameters "
        "steps_to_{threshold} gradient_slope@{step} bn_input_mean_cv bn_input_variance_cv "
        "running_loss_pp wall_seconds train_seconds evaluate_seconds images_per_second "
        "replicas probe_seconds python torch system device threads kernels "
        "config_hash code_hash data_sha256",
    ),
    _table(
        "tables/curves",
        "an evaluation of a run",
        "The learning curves.",
        f"{_RUN} step epoch {_TEST}",
    ),
    _table(
        "tables/probes",
        "a number that a probe read",
        "What was measured inside the networks; only where the study switches probes on.",
        f"{_RUN} step layer layer_name probe value",
    ),
    _table(
        "tables/selection",
        "a run on which a selection is made",
        "As runs, of the selection's seeds and counted on the held-out images; only where the "
        "study has a selection.",
        f"{_RUN} status diverged_step n_train {_TEST} test_error_area steps parameters "
        "steps_to_{threshold} wall_seconds train_seconds evaluate_seconds images_per_second "
        "replicas probe_seconds python torch system device threads kernels "
        "config_hash code_hash data_sha256",
    ),
    _table(
        "analysis/paired",
        "a claim's part and a seed",
        "The contrasts that the verdicts rest on: one number a seed.",
        "claim part part_name seed value measure unit",
        _own("part_name", "name of the part; empty where the claim has one", kind="text"),
        _own("value", "the contrast within this seed, in `unit`"),
    ),
    _table(
        "analysis/arms",
        "an arm",
        "Final test accuracy of every arm with its interval, and its divergences.",
        f"{_AXES} runs arm n",
        *_estimate("the final test accuracy", "pp"),
        _own("sd", "standard deviation over seeds of the final test accuracy", "pp"),
        _own("min", "lowest final test accuracy", "pp"),
        _own("max", "highest final test accuracy", "pp"),
        _own("loss_mean", "mean over seeds of the final test loss, in nats"),
        _own("area_mean", "mean over seeds of test_error_area", "pp"),
        _own("below_best", "how far its mean lies below that of the best order of its panel", "pp"),
        _KNOWN["diverged"],
        _own("diverged_share", "share of the runs that diverged, 0 to 1"),
        _own("diverged_low", "lower end of its exact (Clopper-Pearson) 95 % interval"),
        _own("diverged_high", "upper end of its exact (Clopper-Pearson) 95 % interval"),
    ),
    _table(
        "analysis/bands",
        "an arm and a step",
        "Learning curves as mean and 95 % t-interval over the seeds.",
        "dataset ordering activation depth variant step n epoch bn_class cut",
        _own("n", "runs still training", kind="whole"),
        *_band("test_accuracy_pp", "test accuracy", "pp"),
        *_band("test_loss", "test loss in nats"),
        *_band("train_loss", "training loss in nats"),
    ),
    _table(
        "analysis/pairwise",
        "two orderings in the same arm family",
        "Exploration: every two orderings that share all else, by final test accuracy.",
        f"{_CELL} first second n p p_holm",
        *_estimate("first − second within the seed", "pp"),
    ),
    _table(
        "analysis/class_cut",
        "an effect in a slice of the grid",
        "Exploration: effects of class, of cut and of both, where both classes stand at the "
        "same two cuts or more.",
        f"{_CELL} measure unit effect contrast n p",
        _own("activation", _EITHER, kind="text"),
        _own("depth", "number of blocks, or all for the mean over depths", kind="text"),
        *_estimate(f"the contrast within the seed, {_OF_MEASURE}"),
    ),
    _table(
        "analysis/class_cut_shares",
        "an effect in a slice of the grid",
        "Exploration: how much of the differences between orderings is class, and how much cut.",
        f"{_CELL} measure unit effect share",
        _own("activation", _EITHER, kind="text"),
        _own("depth", "number of blocks, or all for the mean over depths", kind="text"),
    ),
    _table(
        "analysis/class_effect_seeds",
        "a seed in a slice of the grid",
        "Exploration: the class effect on final test accuracy, seed by seed.",
        f"{_CELL} seed value",
        _own("activation", _EITHER, kind="text"),
        _own("depth", "number of blocks, or all for the mean over depths", kind="text"),
        _own("value", "BN first − activation first within the seed, over all cuts", "pp"),
    ),
    _table(
        "analysis/correlation",
        "a data set, variant and measure",
        "Exploration: whether pairing by seed pays.",
        "dataset variant measure arms n",
        _own("mean_correlation", "mean over pairs of arms of their correlation over seeds"),
        _own("sd_paired", f"standard deviation of a paired difference, {_OF_MEASURE}"),
        _own("sd_unpaired", f"standard deviation of an unpaired difference, {_OF_MEASURE}"),
        _own("ratio", "variance of a paired difference over that of an unpaired one"),
        _own("worth", "unpaired seeds that one paired seed replaces, 1 / ratio"),
    ),
    _table(
        "analysis/by_variant",
        "a claim's part under a variant",
        "Exploration: every claim judged again under each variant, where a study has several.",
        "variant claim part verdict p",
        _own("part", "name of the claim's part; empty where it has one", kind="text"),
        *_estimate(f"the contrast within the seed, {_OF_MEASURE}"),
    ),
    _table(
        "analysis/choices",
        "an ordering and a variant among which it chooses",
        "Accuracy on held-out images, and which variant each ordering takes by it.",
        "dataset ordering variant runs",
        _own("selection", "name of the variant that the choice makes", kind="text"),
        _own("runs", "runs that decide", kind="whole"),
        _own("mean", "mean accuracy on the held-out images", "pp"),
        _own("chosen", "whether the ordering takes it: True or False", kind="text"),
    ),
    _table(
        "analysis/controls",
        "an effect under a variant",
        "Exploration: effects of class and of cut on test accuracy under each variant, averaged "
        "over activations and depths, and how they differ from those under base.",
        "dataset variant effect contrast n p",
        _own("n", "seeds that count; 0 where a run is missing", kind="whole"),
        *_estimate("the contrast within the seed", "pp"),
        _own("change", "mean over seeds of the contrast − that under base", "pp"),
        _own("change_low", "lower end of its 95 % t-interval", "pp"),
        _own("change_high", "upper end of its 95 % t-interval", "pp"),
        _own("change_p", "its two-sided sign-flip p-value, not adjusted"),
        _own("change_p_holm", "that after Holm's method over the variants"),
    ),
    _table(
        "analysis/controls_verdicts",
        "a claim and a variant",
        "Exploration: whether a claim that base can test has another verdict under the variant.",
        "claim variant verdict",
        _own("base_verdict", "the claim's verdict under base", kind="text"),
        _own("changed", "whether the two differ: True or False", kind="text"),
    ),
    _table(
        "analysis/controls_summary",
        "a variant",
        "Exploration: how many verdicts change under each variant.",
        "variant",
        _own("tested", "claims that base and the variant can test", kind="whole"),
        _own("changed", "those whose verdict differs", kind="whole"),
    ),
    _table(
        "analysis/probe_steps",
        "an arm, a probe and a step",
        "Exploration: what the claims' probes read over the training, averaged over layers; base "
        "recipe.",
        "dataset ordering activation depth probe step n",
        *_estimate("the reading, its geometric mean where it spans powers of ten"),
    ),
    _table(
        "analysis/probe_layers",
        "an arm, a probe, a moment and a layer",
        "Exploration: what the claims' probes read layer by layer; base recipe.",
        "dataset ordering activation depth probe step layer n",
        _own("moment", "start, early (after 100 steps) or end", kind="text"),
        *_estimate("the reading, its geometric mean where it spans powers of ten"),
    ),
    _table(
        "analysis/why",
        "a claim's part and a moment",
        "Exploration: whether the arms that a claim calls worse have the worse probe, and the "
        "lower accuracy, and whether the two go together.",
        "claim part probe n arms",
        _own("part", "name of the claim's part; empty where it has one", kind="text"),
        _own(
            "moment", "when the probe was read: start, early (after 100 steps) or end", kind="text"
        ),
        _own("arms", "arms of the contrast", kind="whole"),
        *_story("premise", "the probe, worse − better arms as the claim has them"),
        *_story("consequence", "test accuracy, better − worse arms as the claim has them", "pp"),
        *_story(
            "correlation", "rank correlation of probe and accuracy within a seed, among orders"
        ),
    ),
    _table(
        "analysis/survival",
        "an arm, a threshold and a step",
        "Exploration: Kaplan-Meier curves of the steps to each threshold; a run that never gets "
        "there is censored at the end of its arm's training.",
        "dataset ordering activation depth variant threshold step at_risk events share_not_reached",
    ),
    _table(
        "analysis/survival_summary",
        "an arm and a threshold",
        "Exploration: how many runs reach each threshold, and the median step.",
        "dataset ordering activation depth variant threshold n reached median_steps",
        _own("n", "runs of the arm", kind="whole"),
    ),
    _table(
        "analysis/logrank",
        "two orderings, an arm family and a threshold",
        "Exploration: log-rank tests of the steps to each threshold.",
        f"{_CELL} threshold first second statistic p_holm",
        _own("p", "log-rank p-value, not adjusted"),
    ),
)


def tables(folder: str) -> list[Table]:
    """The tables of a folder: `tables` or `analysis`."""
    return [table for table in TABLES if table.folder == folder]


def as_markdown() -> str:
    """docs/data-dictionary.md."""
    lines = [
        "# Data dictionary",
        "",
        "Every results table of a study, in `results/<study>/`, as `.csv` and as `.parquet` with",
        "the same columns. An empty cell is a number that is not there: not measured, not finite",
        "or never reached. *pp*: percentage points. What stands in braces is a value; a column in",
        "brackets is there where the study has such thresholds or probes. `make dictionary` writes",
        "this page from `bnorder/dictionary.py`.",
    ]
    for table in TABLES:
        lines += ["", f"## `{table.path}`", "", f"One row: {table.row}. {table.about}", ""]
        lines += ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {_shown(c)} | {KINDS[c.kind]} | {c.unit} | {c.meaning} |" for c in table.columns
        ]
    return "\n".join(lines) + "\n"


def _shown(column: Column) -> str:
    return f"(`{column.name}`)" if column.optional else f"`{column.name}`"


def caption(table: Table) -> str:
    """What `snakemake --report` says of a table, in reStructuredText."""
    names = ", ".join(f"``{c.name}``" for c in table.columns)
    return (
        f"{table.about} One row: {table.row}.\n\nColumns: {names}; "
        "docs/data-dictionary.md says what each means.\n"
    )


def write(repository: Path) -> list[Path]:
    """Write the page and the captions; return their paths."""
    files = {repository / "docs" / "data-dictionary.md": as_markdown()}
    folder = repository / "workflow" / "report" / "tables"
    files |= {folder / f"{table.name}.rst": caption(table) for table in TABLES}
    for path, text in files.items():
        write_atomically(path, text.encode("utf-8"))
    return list(files)
