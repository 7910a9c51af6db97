"""The pages of the documentation that are made and not written: from published results and schema.

README.md has blocks between markers; speed.md, study.md, compare.md and checklist.md in docs/ are
whole.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    import pandas as pd

from bnorder.errors import UserError
from bnorder.language import language
from bnorder.language.printing import number, p_value
from bnorder.publishing import confirmation
from bnorder.publishing.published import (
    PUBLISHED,
    published_studies,
    published_study,
    read_manifest,
    read_tables,
)
from bnorder.publishing.speed import speed_page
from bnorder.report.look import activation_words, dataset_words
from bnorder.statistics.estimates import t_interval, tost_p
from bnorder.study import study_schema

MAIN = "article"  # the study that answers, once it is published
AGAIN = "replication"  # the same with other seeds
CHECK = "sanity"  # the study that checks the method
SMALL = "digits"  # the data set that comes with scikit-learn: it shows the machinery
MADE = "<!-- Made by `make pages`, from bnorder/publishing/pages.py and what it reads. -->\n"
STUDY_WORDS = """\
A study is one YAML file in `studies/`. A key without a default must be given. On the command line
keys are in capitals: `make report STUDY=quick SEEDS=3`. [The
schema](../workflow/schemas/study.schema.yaml) is what checks them.
"""
RECIPE_WORDS = """
## `recipe`

Everything about training that is not on the grid. A recipe's key may be given bare on the command
line: `make report EPOCHS=1`.
"""
COMPARE_WORDS = """\
Facts and figures of others are from the sources themselves, or from the abstract where it says so;
the words are ours. No source that was found tests significance, and none is seeded, tested and on
MNIST. "Before" is BN before the activation.
"""
BELIEF_WORDS = """\
What people ask for before they would believe an answer: both orders tried and reported, many
realisations, examples where the other side wins. Confounds that they name: convolution bias,
running statistics and momentum, dropout's place, folding BN into the convolution for inference
(Conv-ReLU-BN cannot be folded into the convolution before it). Confounds that they rarely name: a
learning rate for each order, batch size, initialisation, and which layer meets the pixels and the
classifier. The study `controls` varies those."""
MATRIX_WORDS = (
    "The same claims in every study that is published, each over the activations, depths and seeds "
    "that it has (* and too small to matter; – it cannot test the claim):"
)
CHECKLIST_WORDS = """\
The questions that the NeurIPS paper checklist and the ML Reproducibility Challenge ask, in our own
words, each with an answer and where to check it.
"""


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


def pages(root: Path) -> dict[Path, str]:
    """Every page that is made, whole or in part, as it should be."""
    published = read_published(root)
    readme = root / "README.md"
    made = {readme: readme.read_text(encoding="utf-8")}
    for name, text in (
        ("answer", answer(published)),
        ("cost", costs(published)),
        ("spread", spread(root)),
    ):
        made[readme] = replace_block(made[readme], name, text)
    made[root / "docs" / "speed.md"] = speed_page(root)
    made[root / "docs" / "study.md"] = study_keys()
    made[root / "docs" / "compare.md"] = compare(root, published)
    made[root / "docs" / "checklist.md"] = checklist(root, published)
    return made


def replace_block(text: str, name: str, content: str) -> str:
    """`text` with what stands between a block's markers replaced; raises UserError without them."""
    start, end = f"<!-- {name}: made by `make pages` -->", f"<!-- end of {name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise UserError(f"README.md: expected the markers {start} and {end} once each")
    return text[: text.index(start)] + f"{start}\n{content}{text[text.index(end) :]}"


# README


def answer(published: Sequence[Published]) -> str:
    """The answer, one figure, the verdicts in brief; the same of every study that is published."""
    if not published:
        return "No results are published here yet.\n"
    main = published[0]
    lines = [*_standing(main), "", *_quote(_quoted(main.verdicts["answer"])), ""]
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
        *_matrix(published),
        "",
        "All that is published:",
        "",
        *(f"- {_publication(p)}" for p in published),
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
    mean, low, high = (number(float(x)) for x in (both.mean(), *t_interval(both)))
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
        f"seeds it is {mean} pp [{low}, {high}], TOST p {tost}. "
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
    runs = _without_activation(study.folder)
    each = runs.groupby(["depth", "seed", "left"])["test_accuracy_pp"]
    apart = float((each.max() - each.min()).max())
    same = "the same to the last test image" if apart == 0 else f"within {apart:.2g} pp"
    by_seed = runs.groupby(["seed", "left"])["test_accuracy_pp"].mean().unstack()
    difference = (by_seed["conv-bn"] - by_seed["bn-conv"]).to_numpy()
    mean, low, high = (number(float(x)) for x in (difference.mean(), *t_interval(difference)))
    text = (
        f"As a check of the method, the study `{CHECK}` has nothing in the activation's place, so "
        f"that some orders become one network: of its {len(runs)} runs, {each.ngroups} networks "
        f"are left, and all runs of each are {same}. Of the two kinds that are left, BN behind "
        f"the convolution minus BN before it is {mean} pp [{low}, {high}]; the comparison of "
        f"{claim['id']}, which holds a part of that, comes to {claim['short']}, "
        f"{claim['verdict']}."
    )
    return [text, ""]


def _caveats(main: Published) -> list[str]:
    """What a reader must know before trusting the verdicts, as the report has it."""
    found = [f"- {caveat}" for caveat in main.verdicts["caveats"]]
    return [*found, ""] if found else []


def _without_activation(folder: Path) -> "pd.DataFrame":
    """Depth, seed, the layers that are `left` of the order, and the accuracy; one row a run."""
    import pandas as pd

    return pd.DataFrame(
        {
            "depth": record.run.arm.depth,
            "seed": record.run.seed,
            "left": "-".join(x for x in record.run.arm.ordering.split("-") if x != "act"),
            "test_accuracy_pp": 100 * record.curve[-1].test_correct / record.n_test,
        }
        for record in read_tables(folder)
    )


def _matrix(published: Sequence[Published]) -> list[str]:
    """Every claim in every published study; a dash where a study cannot test it."""
    claims = dict.fromkeys(claim["id"] for p in published for claim in p.claims)
    return [
        MATRIX_WORDS,
        "",
        f"| | {' | '.join(_column(p) for p in published)} |",
        f"| --- |{' --- |' * len(published)}",
        *(f"| {name} | {' | '.join(_verdict(p, name) for p in published)} |" for name in claims),
    ]


def _column(p: Published) -> str:
    seeds = p.manifest["seeds"]
    planned, reported = len(seeds["planned"]), len(seeds["reported"])
    n = f"{reported} seeds" if reported == planned else f"{reported} of {planned} seeds"
    study = published_study(p.folder)
    words = language("en")
    depths = f"depth{'s' * (len(study.depths) > 1)} {words.join([str(d) for d in study.depths])}"
    activations = words.join([activation_words(a, words) for a in study.activations])
    return f"`{p.manifest['study']}`<br>{_data(p)}; {activations}; {depths}; {n}"


def _data(p: Published) -> str:
    return " and ".join(dataset_words(d, language("en")) for d in p.manifest["data"])


def _verdict(p: Published, name: str) -> str:
    """A claim's verdict in one study, with the effect where it is the headline."""
    claim = p.claim(name)
    if claim is None or claim["verdict"] == "not tested":
        return "–"
    effect = f"<br>{claim['short']}" if name == p.verdicts["headline"] else ""
    return f"{claim['verdict']}{'*' if claim['too_small'] else ''}{effect}"


def _quoted(answer: Sequence[str]) -> list[str]:
    """Sentences as paragraphs of one quotation."""
    return "\n\n".join(answer).splitlines()


def _quote(lines: Sequence[str]) -> list[str]:
    return [f"> {line}".rstrip() for line in lines]


def _standing(main: Published) -> list[str]:
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
    verdict = claim["verdict"] + (", and too small to matter" if claim["too_small"] else "")
    effect = claim["short"] if claim["verdict"] != "not tested" else ""
    cells = [claim["id"], claim["sentence"], f"**{verdict}**", effect]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _publication(p: Published) -> str:
    parts = [f"[{n}]({_link(p)}/{f})" for n, f in (("HTML", "report.html"), ("PDF", "report.pdf"))]
    more = [
        f"[{n}]({_link(p)}/{f})"
        for n, f in (("records and verdicts", ""), ("what made them", "manifest.json"))
    ]
    runs, seeds = p.manifest["runs"]["published"], len(p.manifest["seeds"]["reported"])
    about = f"`{p.manifest['study']}` ({_data(p)}, {runs:,} runs, {seeds} whole seeds)"
    return f"{about}: {', '.join(parts + more)}."


def _link(p: Published) -> str:
    return f"report/published/{p.folder.name}"


def costs(published: Sequence[Published]) -> str:
    """What each published study costs to reproduce, from the processor time that was measured."""
    rows = [_cost_row(p) for p in published]
    lines = [
        "| study | runs | processor time | two cores | eight cores | one GPU |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        "Processor time is the workflow's own measurement of the training jobs, scaled to all "
        "runs of the study; Snakemake takes it every half minute, so a job may count up to half a "
        "minute too little. A job uses one core, so the times on two and on eight cores are "
        "computed from it and from the number of jobs. Set-up, statistics and report come on "
        "top. A column that was not measured says so. "
        + " ".join(_machine(p) for p in published if p.manifest["cost"]["measured_runs"]),
    ]
    return "\n".join(lines) + "\n"


def _cost_row(p: Published) -> str:
    cost, runs = p.manifest["cost"], p.manifest["runs"]["planned"]
    cells = ["not measured"] * 4
    if cost["measured_runs"]:
        seconds = cost["measured_processor_seconds"] * runs / cost["measured_runs"]
        jobs = p.manifest["jobs"]
        rounds = [math.ceil(jobs / cores) for cores in (2, 8)]
        cells[:3] = [_duration(seconds), *(_duration(seconds * n / jobs) for n in rounds)]
    on_gpu = [m for m in p.manifest["trained_with"] if confirmation.is_gpu(m["device"])]
    if on_gpu:
        trained = sum(m["runs"] for m in on_gpu)
        cells[3] = _duration(sum(m["run_seconds"] for m in on_gpu) * runs / trained)
    return f"| `{p.manifest['study']}` | {runs:,} | " + " | ".join(cells) + " |"


def _machine(p: Published) -> str:
    devices = dict.fromkeys(made["device"] for made in p.manifest["trained_with"])
    runs = p.manifest["cost"]["measured_runs"]
    return f"`{p.manifest['study']}`: {runs:,} runs measured on {' and '.join(devices)}."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


CONDITION_WORDS = {
    "again": "as it was, on the same kind of processor",
    "other_machine": "on another kind of processor, else as it was",
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


# docs/study.md


def study_keys() -> str:
    """Every key of a study with its default, from the schema."""
    schema = study_schema()
    keys = schema["properties"]
    lines = [
        "# Every key of a study\n",
        MADE,
        STUDY_WORDS,
        *_table(keys, set(schema["required"])),
        RECIPE_WORDS,
        *_table(keys["recipe"]["properties"], set()),
    ]
    selection = keys.get("selection", {}).get("properties")
    if selection:
        lines += [
            f"\n## `selection`\n\n{keys['selection']['description']}\n",
            *_table(selection, set(selection)),
        ]
    return "\n".join(lines) + "\n"


def _table(keys: Mapping[str, Any], required: set[str]) -> list[str]:
    rows = ["| key | what it says | values | default |", "| --- | --- | --- | --- |"]
    for name, rules in keys.items():
        default = "needed" if name in required else f"`{json.dumps(rules.get('default'))}`"
        if "default" not in rules and name not in required:
            default = "none"
        text = str(rules.get("description", "")).replace("|", "\\|")
        rows.append(f"| `{name}` | {text} | {_values(rules)} | {default} |")
    return rows


def _values(rules: Mapping[str, Any]) -> str:
    if "enum" in rules:
        return ", ".join(f"`{value}`" for value in rules["enum"])
    if "anyOf" in rules:
        return " or ".join(_values(option) for option in rules["anyOf"])
    kind = rules.get("type", "")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array":
        return f"list of {_values(rules['items'])}"
    low, above = rules.get("minimum"), rules.get("exclusiveMinimum")
    high, below = rules.get("maximum"), rules.get("exclusiveMaximum")
    words = {
        "integer": "whole number",
        "string": "text",
        "object": "mapping",
        "boolean": "true or false",
    }
    bounds = [
        *([f"≥ {low:g}"] if low is not None else []),
        *([f"> {above:g}"] if above is not None else []),
        *([f"≤ {high:,g}" if high < 1e5 else ""] if high is not None else []),
        *([f"< {below:g}"] if below is not None else []),
    ]
    return " ".join([words.get(kind, kind), ", ".join(b for b in bounds if b)]).strip()


# docs/compare.md


def compare(root: Path, published: Sequence[Published]) -> str:
    """The published answer beside what others found."""
    text = (root / "report" / "references.yaml").read_text(encoding="utf-8")
    cited = yaml.safe_load(text)
    others = [*cited["others"], *cited["more_others"]]
    lines = [
        "# What others found, and whether it agrees\n",
        MADE,
        COMPARE_WORDS,
        "## Ours\n",
        *(_ours(published[0]) if published else ["No results are published here yet."]),
        "\n## Theirs\n",
        "| source | set-up | runs | tested? | figures | leans to | beside ours |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    ours = _lean(published[0]) if published else "open"
    lines += [_other(other, ours) for other in others]
    lines += ["\n## Why they may differ\n"]
    lines += [f"- **{o['source']}:** {o['why']}" for o in others if o.get("why")]
    lines += [
        "",
        BELIEF_WORDS,
    ]
    return "\n".join(lines) + "\n"


def _ours(main: Published) -> list[str]:
    headline = main.claim(main.verdicts["headline"])
    lines = [*_standing(main), ""]
    if headline:
        lines += [f"> {headline['sentence']} {headline['text']}", ""]
    lines += [
        "| comparison | verdict | effect |",
        "| --- | --- | --- |",
        *(
            f"| {claim['contrast']} | {claim['verdict']} | {claim['short']} |"
            for claim in main.claims
            if claim["verdict"] != "not tested" and claim["measure"] == "test_accuracy_pp"
        ),
    ]
    return lines


def _lean(main: Published) -> str:
    """To which order the headline's estimate leans: before, after, little or open."""
    claim = main.claim(main.verdicts["headline"])
    if not claim or claim["verdict"] in ("not tested", "inconclusive"):
        return "open"
    if claim["verdict"] == "negligible" or claim["too_small"]:
        return "little"
    return "before" if claim["verdict"] == "supported" else "after"


BESIDE = {
    ("before", "before"): "agrees",
    ("after", "after"): "agrees",
    ("little", "little"): "agrees",
    ("before", "after"): "differs",
    ("after", "before"): "differs",
    ("before", "little"): "ours is clearer",
    ("after", "little"): "ours is clearer",
    ("little", "before"): "ours is smaller",
    ("little", "after"): "ours is smaller",
}


def _other(other: Mapping[str, Any], ours: str) -> str:
    leans = str(other.get("leans", "none"))
    beside = "ours is open" if ours == "open" else BESIDE.get((ours, leans), "not comparable")
    beside = {"mixed": "it depends there", "none": "another question"}.get(leans, beside)
    cells = [
        other["source"] + ("" if other["read"] == "seen" else f" ({other['read']})"),
        other["setup"],
        str(other.get("runs", "not said")),
        "yes" if other.get("tested") else "no",
        other.get("figures", other["conclusion"]),
        leans,
        beside,
    ]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


# docs/checklist.md


def checklist(root: Path, published: Sequence[Published]) -> str:
    """The reproducibility checklist, answered; each answer links to where it can be checked."""
    items = yaml.safe_load((root / "docs" / "checklist.yaml").read_text(encoding="utf-8"))
    values = _checklist_values(published)
    lines = [
        "# Reproducibility checklist\n",
        MADE,
        CHECKLIST_WORDS,
        "| question | answer | where to check |",
        "| --- | --- | --- |",
    ]
    for item in items:
        links = ", ".join(f"[{path}](../{path})" for path in item["evidence"])
        text = re.sub(r"\{(\w+)\}", lambda m: values[m[1]], item["answer"])
        lines.append(f"| {item['question']} | {text} | {links} |")
    return "\n".join(lines) + "\n"


def _checklist_values(published: Sequence[Published]) -> dict[str, str]:
    """Numbers that the answers quote, from the published results."""
    if not published:
        return dict.fromkeys(("study", "seeds", "runs", "hours", "devices", "torch"), "(none yet)")
    main = published[0].manifest
    cost, machines = main["cost"], main["trained_with"]
    hours = number(cost["run_seconds"] / 3600)
    return {
        "study": f"`{main['study']}`",
        "seeds": str(len(main["seeds"]["reported"])),
        "runs": f"{main['runs']['published']:,}",
        "hours": hours,
        "devices": ", ".join(sorted({m["device"] for m in machines})),
        "torch": ", ".join(sorted({m["torch"] for m in machines})),
    }
