"""The pages of the documentation that are made and not written: from published results and schema.

README.md has blocks between markers, which readme.py writes; published.md, speed.md, study.md,
compare.md and checklist.md in docs/ are whole.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bnorder.errors import UserError
from bnorder.language.printing import number
from bnorder.publishing.readme import (
    ELSEWHERE,
    Published,
    answer,
    costs,
    data_words,
    publication,
    read_published,
    spread,
    standing,
    tested,
    verdict_words,
)
from bnorder.publishing.speed import speed_page
from bnorder.study import study_schema

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
the words are ours. No source that was read whole tests significance; of the others only the
abstract, or somebody's account, was read. "Before" is BN before the activation.
"""
BELIEF_WORDS = """\
What people ask for before they would believe an answer: both orders tried and reported, many
realisations, examples where the other side wins. Confounds that they name: convolution bias,
running statistics and momentum, dropout's place, folding BN into the convolution for inference
(Conv-ReLU-BN cannot be folded into the convolution before it). Confounds that they rarely name: a
learning rate for each order, batch size, initialisation, and which layer meets the pixels and the
classifier. The study `controls` varies those."""
PUBLISHED_WORDS = """\
Each study has the claims judged over the data, activations, depths and seeds that it has. A dash:
it cannot test the claim. An asterisk: shown, and too small to matter. What the claims say stands in
[README](../README.md), how a verdict is reached in [verdicts.md](verdicts.md).
"""
CHECKLIST_WORDS = """\
The questions that the NeurIPS paper checklist and the ML Reproducibility Challenge ask, in our own
words, each with an answer and where to check it.
"""


def pages(root: Path) -> dict[Path, str]:
    """Every page that is made, whole or in part, as it should be."""
    published = read_published(root)
    readme = root / "README.md"
    made = {readme: readme.read_text(encoding="utf-8")}
    for name, text in (
        ("answer", answer(published)),
        ("cost", costs(published)),
        ("spread", spread(root, published)),
    ):
        made[readme] = replace_block(made[readme], name, text)
    made[root / "docs" / "published.md"] = published_page(published)
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


# docs/published.md


def published_page(published: Sequence[Published]) -> str:
    """Every claim in every published study, and where its files are."""
    claims = dict.fromkeys(claim["id"] for p in published for claim in p.claims)
    lines = [
        "# Every claim in every published study\n",
        MADE,
        PUBLISHED_WORDS,
        f"| | {' | '.join(f'`{p.folder.name}`' for p in published)} |",
        f"| --- |{' --- |' * len(published)}",
        *(f"| {name} | {' | '.join(_verdict(p, name) for p in published)} |" for name in claims),
        "\n## The studies\n",
        *(publication(p) for p in published),
    ]
    return "\n".join(lines) + "\n"


def _verdict(p: Published, name: str) -> str:
    claim = p.claim(name)
    if claim is None or claim["verdict"] == "not tested":
        return "–"
    return f"{claim['verdict']}{'*' if claim['too_small'] else ''}"


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
        *(_ours(published) if published else ["No results are published here yet."]),
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


def _ours(published: Sequence[Published]) -> list[str]:
    """The claims on accuracy in the main study, and in the same study of other images."""
    main = published[0]
    headline = main.claim(main.verdicts["headline"])
    others = [p for p in published if p.folder.name == ELSEWHERE]
    heads = [f"`{p.folder.name}`, {data_words(p)}" for p in others]
    lines = [*standing(main), ""]
    if headline:
        lines += [f"> {headline['sentence']} {headline['text']}", ""]
    lines += [
        "| claim | comparison | verdict | effect |" + "".join(f" {head} |" for head in heads),
        "| --- | --- | --- | --- |" + " --- |" * len(others),
    ]
    for claim in main.claims:
        elsewhere = [tested(p, claim["id"]) for p in others]
        answered = tested(main, claim["id"]) or any(elsewhere)
        if claim["measure"] != "test_accuracy_pp" or not answered:
            continue
        cells = [f"{claim['id']} {claim['sentence']}", claim["contrast"], verdict_words(claim)]
        cells.append(claim["short"] if tested(main, claim["id"]) else "")
        cells += [f"{verdict_words(c)}, {c['short']}" if c else "" for c in elsewhere]
        lines.append("| " + " | ".join(cells) + " |")
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
    leans, whole = str(other.get("leans", "none")), other["read"] == "seen"
    beside = "ours is open" if ours == "open" else BESIDE.get((ours, leans), "not comparable")
    beside = {"mixed": "it depends there", "none": "another question"}.get(leans, beside)
    cells = [
        other["source"] + ("" if whole else f" ({other['read']})"),
        other["setup"],
        str(other.get("runs", "not said" if whole else "not seen")),
        "yes" if other.get("tested") else "no" if whole else "not seen",
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
