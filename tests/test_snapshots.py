"""The generated prose, word for word: on made-up data of every sort, and on whole pages.

`make snapshots` writes tests/snapshots/ anew; read the difference before you commit it.
"""

import os
import re
import textwrap
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from report_study import report_of

from bnorder.ordering import Ordering
from bnorder.statistics.analysis import analyse, document, load_inputs
from bnorder.statistics.calibration import simulated_runs
from bnorder.study import Arm, load_study
from bnorder.summary import WIDTH, summary

SNAPSHOTS = Path(__file__).parent / "snapshots"
STUDY = REPOSITORY / "studies" / "article.yaml"
RENEW = "BNORDER_RENEW_SNAPSHOTS"


def compare(name: str, text: str) -> None:
    """Hold a text to its snapshot, or write the snapshot where RENEW is set."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.getenv(RENEW):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"make snapshots renews {path.name}"


# Verdicts on made-up data


def as_claimed(arm: Arm) -> float:
    """An effect in percentage points that makes the article's claims right."""
    effect = {"bn-act-conv": 0.5, "act-bn-conv": 0.5, "conv-bn-act": 0.2}.get(arm.ordering, -0.4)
    if arm.ordering == "conv-act":
        return -1.5
    lean = {"bn_first": 1, "act_first": -1}[Ordering(arm.ordering).bn_class]
    leaning = 0.08 if arm.depth == 5 else -0.06
    if arm.ordering == "act-bn-conv" and arm.activation != "relu":
        effect += 0.4
    return effect + lean * leaning


EFFECTS: dict[str, Callable[[Arm], float]] = {
    "supportive": as_claimed,
    "contrary": lambda arm: -2 - as_claimed(arm),
    "mixed": lambda arm: as_claimed(arm) if arm.activation == "relu" else -as_claimed(arm),
    "null": lambda arm: 0.0,
    "missing": as_claimed,
    "diverged": as_claimed,
}


def made_up(case: str) -> pd.DataFrame:
    """The runs of the article's study, drawn around the case's effects."""
    study = load_study(STUDY)
    axes: dict[str, tuple[str | int, ...]] = {
        "dataset": study.datasets,
        "ordering": study.orderings,
        "activation": study.activations,
        "depth": study.depths,
    }
    rng = np.random.default_rng(5)
    runs = simulated_runs(axes, rng, seeds=len(study.seeds), effect=EFFECTS[case])
    if case == "missing":
        gone = (runs.ordering == "act-bn-conv") & (runs.activation == "relu") & (runs.seed > 6)
        return runs[~gone]
    if case == "diverged":
        lost = (runs.ordering == "conv-act") & (runs.depth == 5) & (runs.seed < 3)
        runs.loc[lost, ["status", "diverged_step", "test_accuracy_pp"]] = ["diverged", 120.0, 9.8]
        runs.loc[lost, "test_correct"] = 980
        runs.loc[lost, "test_error_area"] = 90.0
        runs.loc[lost, [c for c in runs if c.startswith("steps_to_")]] = np.nan
    return runs


@pytest.mark.parametrize("case", EFFECTS)
def test_verdicts_read_as_they_did(case: str, tmp_path: Path) -> None:
    made_up(case).to_parquet(tmp_path / "runs.parquet")
    inputs = load_inputs(tmp_path / "runs.parquet", study=STUDY)
    verdicts = analyse(inputs, tmp_path / "analysis", resamples=100, explore=False)
    found = document(inputs, verdicts)
    lines = said(found, [v["id"] for v in found["verdicts"]])  # type: ignore[attr-defined]
    chinese = found["translations"]["zh"]  # type: ignore[index]
    compare(f"verdicts-{case}.zh", "\n".join(said(chinese, [v.claim.id for v in verdicts])))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").touch()
    terminal = summary(tmp_path)
    assert max(map(len, terminal.replace(str(tmp_path), "").splitlines())) <= WIDTH
    lines += ["# In the terminal", "", *terminal.replace(f"{tmp_path}/", "results/").splitlines()]
    compare(f"verdicts-{case}", "\n".join(lines) + "\n")


def said(found: Any, claims: list[str]) -> list[str]:
    """The sentences of a verdicts.json, or of one of its translations."""
    lines = ["# Answer", "", *paragraphs(found["answer"]), "# Caveats", ""]
    lines += paragraphs(found["caveats"])
    for claim, verdict in zip(claims, found["verdicts"], strict=True):
        lines += [f"# {claim} {verdict['sentence']}", "", *paragraphs([verdict["text"]])]
    return lines


def paragraphs(texts: object) -> list[str]:
    """Each text wrapped, an empty line after it."""
    assert isinstance(texts, list)
    return [line for text in texts for line in (*textwrap.wrap(text, 98), "")]


def test_each_sort_of_data_gets_the_verdicts_that_it_was_made_for() -> None:
    """So that the snapshots show what their names say."""
    words = {
        case: (SNAPSHOTS / f"verdicts-{case}.txt").read_text(encoding="utf-8") for case in EFFECTS
    }
    counts = {case: [text.count(f"\n{w}") for w in OPENINGS] for case, text in words.items()}
    supported, contradicted, negligible, _, untested = range(len(OPENINGS))
    assert counts["supportive"][supported] >= 10 and not counts["supportive"][contradicted]
    assert counts["contrary"][contradicted] >= 6
    assert counts["mixed"][supported] and counts["mixed"][contradicted]
    assert counts["null"][negligible] >= 6
    assert counts["missing"][untested] > counts["supportive"][untested]
    assert "runs that it needs are" in words["missing"]
    assert "diverged" in words["diverged"]


OPENINGS = ("Supported", "Contradicted", "Negligible", "Inconclusive", "Not tested")


# Whole pages


class Prose(HTMLParser):
    """What a page says outside its tables: headings, paragraphs, lists, captions, alternatives."""

    BLOCKS = frozenset({"h1", "h2", "h3", "h4", "p", "li", "dd", "summary", "caption"})
    SKIPPED = frozenset({"svg", "script", "style", "table", "nav", "pre"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self.skipping: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        label = dict(attrs).get("aria-label")
        if tag == "svg" and dict(attrs).get("role") == "img" and label and not self.skipping:
            self.blocks.append(f"[{label}]")
        if tag in self.SKIPPED:
            self.skipping.append(tag)
        elif tag in self.BLOCKS and not self.skipping:
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        if self.skipping and self.skipping[-1] == tag:
            self.skipping.pop()

    def handle_data(self, data: str) -> None:
        if not self.skipping and self.blocks:
            self.blocks[-1] += data


@pytest.mark.parametrize("name", ["full", "poor", "wide", "full.zh"])
def test_pages_read_as_they_did(name: str) -> None:
    page = report_of(name).read_text(encoding="utf-8")
    page = re.sub(r"<code>[0-9a-f]{12}</code>", "HASH", page)  # of the whole study file
    blocks = [" ".join(block.split()) for block in Prose(page).blocks]
    compare(f"page-{name}", "\n".join(paragraphs([b for b in blocks if b])))
