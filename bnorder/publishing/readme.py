"""The blocks of README.md that are made from published results: the answer, costs and spread."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

from bnorder.language import language
from bnorder.language.printing import number, p_value
from bnorder.ordering import Ordering
from bnorder.publishing import confirmation
from bnorder.publishing.published import (
    PUBLISHED,
    published_studies,
    published_study,
    read_manifest,
    read_tables,
)
from bnorder.records import runs_table
from bnorder.report.look import activation_words, dataset_words
from bnorder.statistics.estimates import t_interval, tost_p

MAIN = "article"  # the study that answers, once it is published
AGAIN = "replication"  # the same with other seeds
CHECK = "sanity"  # the study that checks the method
CLAIMS_PAGE = "docs/published.md"
SMALL = "digits"  # the data set that comes with scikit-learn: it shows the machinery
SAMPLED_EVERY = 30  # seconds between Snakemake's readings of a job's processor time
COST_WORDS = """\
Processor time is the workflow's own measurement of the training jobs, scaled to all runs of the
study. Snakemake reads it every half minute and so misses a quarter of a minute of a job on average,
which is added. A job uses one core, so the times on two and on eight cores are computed from it and
from the number of jobs; a busy machine takes longer, and processors differ by more than two times.
Set-up, statistics and report come on top. A column that was not measured says so."""


@dataclass(frozen=True)
class Published:
    """One published study as the pages need it."""

    folder: Path
    manifest: Mapping[str, Any]
    verdicts: Mapping[str, Any]

    @property
    def claims(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.verdicts["verdicts"]
        return found

    def claim(self, name: str) -> Mapping[str, Any] | None:
        return next((c for c in self.claims if c["id"] == name), None)


def read_published(root: Path) -> list[Published]:
    """All published studies: the answer and its replication first, those on the digits last."""
    found = [
        Published(f, read_manifest(f), json.loads((f / "verdicts.json").read_text("utf-8")))
        for f in published_studies(root / PUBLISHED)
    ]

    def place(p: Published) -> tuple[bool, bool, bool, str]:
        name = p.folder.name
        return name != MAIN, name != AGAIN, [*p.manifest["data"]] == [SMALL], name

    return sorted(found, key=place)


def answer(published: Sequence[Published]) -> str:
    """The answer, one figure, the verdicts in brief; the same of every study that is published."""
    if not published:
        return "No results are published here yet.\n"
    main = published[0]
    lines = [*standing(main), "", *_quote(_quoted(main.verdicts["answer"])), ""]
    lines += [
        (
            f"![Test accuracy of every run: a dot a seed, a bar its 95 % interval, by ordering]"
            f"({_link(main)}/answer.png)"
        ),
        "",
        "| | claim | verdict | effect |",
        "| --- | --- | --- | --- |",
        *(_row(claim) for claim in main.claims),
        "",
        (
            "Effects are in the claim's own direction, with 95 % intervals, over seeds; *p* before "
            "Holm's correction. Supported and contradicted are said after it; negligible rests on "
            "TOST as it is, whose 90 % interval lies within the margin. "
            "[How a verdict is reached](docs/verdicts.md)."
        ),
        "",
        *_caveats(main),
        *replicated(published),
        *_check(published),
        *_headlines(published),
        *relu_alone(published),
    ]
    return "\n".join(lines) + "\n"


def replicated(published: Sequence[Published]) -> list[str]:
    """Whether the answer came out again with other seeds, and what all seeds say together."""
    main, study = (next((p for p in published if p.folder.name == n), None) for n in (MAIN, AGAIN))
    if not main or not study:
        return []
    first, again = (p.claim(main.verdicts["headline"]) for p in (main, study))
    if not first or not again or "not tested" in (first["verdict"], again["verdict"]):
        return []
    values = [np.array(claim["parts"][0]["values"]) for claim in (first, again)]
    both = np.concatenate(values)
    tost = p_value(float(tost_p(both, first["margin"])))
    pairs = [(claim, study.claim(claim["id"])) for claim in main.claims]
    verdicts = {
        one["id"]: (one["verdict"], two["verdict"])
        for one, two in pairs
        if two and "not tested" not in (one["verdict"], two["verdict"])
    }
    changed = [f"{name} ({a}, then {b})" for name, (a, b) in verdicts.items() if a != b]
    text = (
        f"`{AGAIN}` is the same study with {again['n']} other seeds, written down before it was "
        f"run. {again['id']} came to {again['short']}, {again['verdict']}; over all {len(both)} "
        f"seeds it is {_estimate(both)}, TOST p {tost}. "
        f"Of {len(verdicts)} claims, {len(verdicts) - len(changed)} got the same verdict again"
        + (f"; not {', '.join(changed)}." if changed else ".")
    )
    return [text, ""]


def _check(published: Sequence[Published]) -> list[str]:
    """What came out where there is no activation to put before or behind, if that is published."""
    study = next((p for p in published if p.folder.name == CHECK), None)
    claim = study.claim(study.verdicts["headline"]) if study else None
    if not study or not claim or claim["verdict"] == "not tested":
        return []
    runs = published_runs(study.folder)
    layers = runs["ordering"].str.split("-")
    runs["left"] = layers.map(lambda names: "-".join(x for x in names if x != "act"))
    each = runs.groupby(["depth", "seed", "left"])["test_accuracy_pp"]
    apart = float((each.max() - each.min()).max())
    same = "the same to the last test image" if apart == 0 else f"within {apart:.2g} pp"
    by_seed = runs.groupby(["seed", "left"])["test_accuracy_pp"].mean().unstack()
    difference = (by_seed["conv-bn"] - by_seed["bn-conv"]).to_numpy()
    text = (
        f"As a check of the method, the study `{CHECK}` has nothing in the activation's place, so "
        f"that some orders become one network: of its {len(runs)} runs, {each.ngroups} networks "
        f"are left, and all runs of each are {same}. Of the two kinds that are left, BN behind "
        f"the convolution minus BN before it is {_estimate(difference)}; the comparison of "
        f"{claim['id']}, which holds a part of that, comes to {claim['short']}, "
        f"{claim['verdict']}."
    )
    return [text, ""]


def _estimate(values: "np.ndarray[Any, Any]") -> str:
    """The mean of percentage points, one a seed, with its 95 % interval."""
    mean, low, high = (number(float(x)) for x in (values.mean(), *t_interval(values)))
    return f"{mean} pp [{low}, {high}]"


def _caveats(main: Published) -> list[str]:
    """What a reader must know before trusting the verdicts, as the report has it."""
    found = [f"- {caveat}" for caveat in main.verdicts["caveats"]]
    return [*found, ""] if found else []


def published_runs(folder: Path) -> "pd.DataFrame":
    """The published runs, a row each."""
    return runs_table(published_study(folder), read_tables(folder))


def _headlines(published: Sequence[Published]) -> list[str]:
    """The headline claim in every published study, beside what the study has."""
    main = published[0]
    name = main.verdicts["headline"]
    claim = main.claim(name)
    sentence = f": {claim['sentence']}" if claim else ""
    return [
        f"The same question in every study that is published ([all their claims]({CLAIMS_PAGE})):",
        "",
        f"| study | data | grid | runs | {name}{sentence} | report |",
        "| --- | --- | --- | ---: | --- | --- |",
        *(_headline_row(p, name) for p in published),
    ]


def _headline_row(p: Published, name: str) -> str:
    claim, runs = p.claim(name), p.manifest["runs"]["published"]
    said = "not tested"
    if claim and claim["verdict"] != "not tested":
        said = f"**{_verdict(claim)}**, {claim['short']}"
    cells = [f"`{p.manifest['study']}`", _data(p), _grid(p), f"{runs:,}", said, _reports(p)]
    return f"| {' | '.join(cells)} |"


def _grid(p: Published) -> str:
    """Orderings, activations, depths and seeds, in words."""
    seeds = p.manifest["seeds"]
    planned, reported = len(seeds["planned"]), len(seeds["reported"])
    n = f"{reported} seeds" if reported == planned else f"{reported} of {planned} seeds"
    study = published_study(p.folder)
    words = language("en")
    depths = f"depth{'s' * (len(study.depths) > 1)} {words.join([str(d) for d in study.depths])}"
    activations = words.join([activation_words(a, words) for a in study.activations])
    cut = "; strides for pooling" if study.recipe.downsampling == "stride" else ""
    return f"{len(study.orderings)} orders; {activations}; {depths}{cut}; {n}"


def relu_alone(published: Sequence[Published]) -> list[str]:
    """The difference of T5 with ReLU alone, as the answer's seeds have it and as others have it."""
    pair = [p for name in (MAIN, AGAIN) for p in published if p.folder.name == name]
    if len(pair) < 2 or any("relu" not in published_study(p.folder).activations for p in pair):
        return []
    said = []
    for p in pair:
        runs = published_runs(p.folder)
        values = bn_first_minus_act_first(runs[runs["activation"] == "relu"])
        said.append(f"{_estimate(values)} in `{p.folder.name}`")
    return ["", f"With ReLU alone the difference of T5 is {' and '.join(said)}."]


def bn_first_minus_act_first(runs: "pd.DataFrame") -> "np.ndarray[Any, Any]":
    """BN first minus activation first in test accuracy, percentage points, one value a seed.

    Averaged over all else that the runs differ in.
    """
    classes = runs["ordering"].map(lambda name: Ordering(name).bn_class).rename("bn_class")
    by_seed = runs.groupby([runs["seed"], classes])["test_accuracy_pp"].mean().unstack()
    return (by_seed["bn_first"] - by_seed["act_first"]).to_numpy()


def _data(p: Published) -> str:
    return " and ".join(dataset_words(d, language("en")) for d in p.manifest["data"])


def _quoted(answer: Sequence[str]) -> list[str]:
    """Sentences as paragraphs of one quotation."""
    return "\n\n".join(answer).splitlines()


def _quote(lines: Sequence[str]) -> list[str]:
    return [f"> {line}".rstrip() for line in lines]


def standing(main: Published) -> list[str]:
    """Which study speaks, of how much of it, and what it cannot say."""
    runs, seeds = main.manifest["runs"], main.manifest["seeds"]
    text = f"**The answer of the study `{main.manifest['study']}`** on {_data(main)}: "
    text += f"{runs['reported']:,} runs, {len(seeds['reported'])} seeds."
    if not main.manifest["complete"]:
        text += (
            f" **It is not finished:** {runs['published']:,} of {runs['planned']:,} runs are "
            f"there, and {len(seeds['reported'])} of {len(seeds['planned'])} seeds are whole."
        )
    if main.manifest["study"] != MAIN:
        text += " **It shows the machinery; the article's study on MNIST is not published yet.**"
    return [text]


def _row(claim: Mapping[str, Any]) -> str:
    effect = claim["short"] if claim["verdict"] != "not tested" else ""
    cells = [claim["id"], claim["sentence"], f"**{_verdict(claim)}**", effect]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _verdict(claim: Mapping[str, Any]) -> str:
    return f"{claim['verdict']}{', and too small to matter' if claim['too_small'] else ''}"


def _reports(p: Published) -> str:
    return f"[HTML]({_link(p)}/report.html), [PDF]({_link(p)}/report.pdf)"


def publication(p: Published) -> str:
    """One study's entry in the list of docs/published.md: what it asks, and its files."""
    runs, link = p.manifest["runs"]["published"], f"../{_link(p)}"
    files = (
        ("HTML", "report.html"),
        ("PDF", "report.pdf"),
        ("records and verdicts", ""),
        ("what made them", "manifest.json"),
    )
    links = ", ".join(f"[{words}]({link}/{name})" for words, name in files)
    title = published_study(p.folder).title
    about = f"{_data(p)}; {_grid(p)}; {runs:,} runs"
    return f"- `{p.manifest['study']}`: {title} ({about}): {links}."


def _link(p: Published) -> str:
    return f"report/published/{p.folder.name}"


def costs(published: Sequence[Published]) -> str:
    """What each published study costs to reproduce, from the processor time that was measured."""
    rows = [_cost_row(p) for p in published]
    lines = [
        "| study | runs | processor time | two cores | eight cores | one GPU | trained on |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *rows,
        "",
        COST_WORDS,
    ]
    return "\n".join(lines) + "\n"


def _cost_row(p: Published) -> str:
    cost, runs = p.manifest["cost"], p.manifest["runs"]["planned"]
    cells = ["not measured"] * 4
    if cost["measured_runs"]:
        jobs, scale = p.manifest["jobs"], runs / cost["measured_runs"]
        seconds = cost["measured_processor_seconds"] * scale + SAMPLED_EVERY / 2 * jobs
        seconds = min(seconds, cost["measured_job_seconds"] * scale)
        rounds = [math.ceil(jobs / cores) for cores in (2, 8)]
        cells[:3] = [_duration(seconds), *(_duration(seconds * n / jobs) for n in rounds)]
    on_gpu = [m for m in p.manifest["trained_with"] if confirmation.is_gpu(m["device"])]
    if on_gpu:
        trained = sum(m["runs"] for m in on_gpu)
        cells[3] = _duration(sum(m["run_seconds"] for m in on_gpu) * runs / trained)
    cells = [f"`{p.manifest['study']}`", f"{runs:,}", *cells, _trained_on(p)]
    return f"| {' | '.join(cells)} |"


def _trained_on(p: Published) -> str:
    """The processors that trained it, and how many of its runs were measured, where not all."""
    measured, runs = p.manifest["cost"]["measured_runs"], p.manifest["runs"]["planned"]
    devices = ", ".join(dict.fromkeys(made["device"] for made in p.manifest["trained_with"]))
    return devices if measured == runs else f"{devices}; {measured:,} runs measured"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


CONDITION_WORDS = {
    "again": "as it was, on the same kind of processor",
    "other_machine": "as it was, on a processor not known to be of the same kind",
    "other_threads": "with another number of threads",
    "alone": "one seed alone instead of several as one network",
    "packed": "several seeds as one network instead of one alone",
    "other_device": "on another kind of device",
}


def spread(root: Path) -> str:
    """How far runs that were trained again are off, by what was changed."""
    lines = [
        "| study | trained again | runs | identical to the last bit | largest difference | mean |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for path in sorted((root / confirmation.FOLDER).glob("*.csv")):
        rows = confirmation.read(path)
        for condition, words in CONDITION_WORDS.items():
            found = [row for row in rows if row.condition == condition]
            if found:
                lines.append(f"| `{path.stem}` | {words} | {_spread_cells(found)} |")
    if len(lines) == 2:
        return "No published run has been trained again yet.\n"
    lines += ["", "Differences are in percentage points of test accuracy after the last epoch."]
    return "\n".join(lines) + "\n"


def _spread_cells(rows: Sequence[confirmation.Comparison]) -> str:
    off = [100 * abs(row.correct_again - row.correct) / row.n_test for row in rows]
    same = sum(row.same_curve for row in rows)
    return f"{len(rows)} | {same} | {max(off):.2f} | {sum(off) / len(off):.3f}"
