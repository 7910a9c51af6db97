"""The report's HTML: complete, true to the results, safe, and whole when parts are missing."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from report_study import FULL, POOR, make_study, rendered, rendered_study

from bnorder import __version__
from bnorder.errors import UserError
from bnorder.files import write_atomically
from bnorder.language.printing import Num, p_text, signed, whole
from bnorder.report import view
from bnorder.report.document import contents, document, render, said
from bnorder.report.figures import draw_all
from bnorder.report.results import load_results
from bnorder.report.tracing import as_markup
from bnorder.report.view import statements
from bnorder.study import load_study

REPOSITORY = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """What the tests look for in a page: its elements, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture
def full() -> Path:
    return rendered_study("full")


@pytest.fixture
def poor() -> Path:
    return rendered_study("poor")


@pytest.fixture
def wide() -> Path:
    return rendered_study("wide")


def html(folder: Path) -> str:
    return (folder / "report" / "report.html").read_text(encoding="utf-8")


def test_grid_that_no_page_can_hold_is_shown_in_part_and_says_so(tmp_path: Path) -> None:
    activations = ["relu", "elu", "gelu", "silu", "tanh", "sigmoid"]
    vast = POOR | {"depths": list(range(1, 51)), "activations": activations}
    folder = make_study(tmp_path, vast, drop=view.MOST_MISSING + 1, explore=False)
    study = load_study(folder / "study.yaml")
    results = load_results(study, folder / "study.yaml", folder / "tables", folder / "analysis")
    page = Page(document(results, draw_all(results), "html"))
    assert "The figures show ReLU, ELU, GELU, SiLU," in page.words
    assert "at the depths 1, 8, 15, 22," in page.words
    assert page.words.count("More missing runs are listed in tables/missing.json") == 1


def test_table_of_arms_ends_somewhere_and_says_where_the_rest_stands(full: Path) -> None:
    study = load_study(full / "study.yaml")
    results = load_results(study, full / "study.yaml", full / "tables", full / "analysis")
    few = results.table("arms")
    times = view.MOST_ARMS // len(few) + 1
    many = few.pick(np.tile(np.arange(len(few)), times))
    more = replace(results, analysis={**results.analysis, "arms": many})
    for shown, notes in ((results, 0), (more, 1)):
        page = Page(document(shown, [], "html"))
        assert page.words.count("More arms stand in analysis/arms.csv") == notes
    assert len(page.all("tr")) < view.MOST_ARMS + 200


def test_a_figures_large_table_stands_beside_the_page(
    full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(full / "study.yaml")
    results = load_results(study, full / "study.yaml", full / "tables", full / "analysis")
    drawings = draw_all(results)
    sizes = {drawing.key: len(drawing.data) for drawing in drawings}
    monkeypatch.setattr("bnorder.report.document.MOST_DATA", sorted(sizes.values())[-2])
    page = Page(document(results, drawings, "html"))
    (largest,) = [key for key, size in sizes.items() if size == max(sizes.values())]
    assert {a["download"] for a in page.all("a") if "download" in a} == {
        f"{key}.csv" for key in sizes if key != largest
    }
    assert f"Data: figures/{largest}.csv" in page.words


def verdicts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "analysis" / "verdicts.json").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_outside(full: Path, wide: Path) -> None:
    for folder in (full, wide):
        text = html(folder)
        assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text.split("</style>")[1])
        assert "@import" not in text
        for tag, attributes in Page(text).elements:
            assert tag not in {"link", "iframe", "img", "object", "embed", "base"}
            target = attributes.get("href") or attributes.get("src") or "#"
            assert target.startswith(("#", "data:text/csv")), target
        assert len(text.encode()) < 3_000_000


def test_the_policy_allows_this_script_and_nothing_else(full: Path) -> None:
    text = html(full)
    policy = next(
        m["content"] or ""
        for m in Page(text).all("meta")
        if m.get("http-equiv") == "Content-Security-Policy"
    )
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert text.count("<script") == 1
    assert not re.search(r'<[^>]+\son[a-z]+="', text.split("<body>")[1].split("<script>")[0])


def test_the_answer_stands_before_everything_but_the_title(full: Path) -> None:
    words = Page(html(full)).words
    for sentence in verdicts(full)["answer"]:
        assert words.count(" ".join(sentence.split())) >= 1
    start = words.index(" ".join(verdicts(full)["answer"][0].split()))
    assert start < words.index("The claims and their verdicts", start - 10) + 10_000
    order = ["The answer", "The claims and their verdicts", "The whole grid at a glance"]
    order += ["What was asked", "How it was done", "What came out", "Limits"]
    order += ["How to reproduce it", "The plan and its amendments", "References"]
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", html(full))
    assert [h for h in headings if h in order] == order


def test_every_verdict_is_in_the_table_with_the_numbers_of_the_file(full: Path) -> None:
    table = html(full).split('<table class="verdicts')[1].split("</table>")[0]
    rows = {
        re.search(r'data-claim="([^"]+)"', row)[1]: row
        for row in re.split(r"<tr (?=data-)", table)[1:]
    }
    assert list(rows) == [v["id"] for v in verdicts(full)["verdicts"]]
    for verdict in verdicts(full)["verdicts"]:
        row = rows[verdict["id"]]
        words = Page(row).words
        assert verdict["verdict"] in words
        assert verdict["sentence"] in words
        shown = [float(v) for v in re.findall(r'<data value="([^"]+)"', row)]
        expected = [p[k] for p in verdict["parts"] for k in ("mean", "ci_low", "ci_high")]
        expected += [verdict["p_adjusted"], verdict["n"]]
        assert shown == [v for v in expected if v is not None]


def test_every_figure_has_number_caption_alternative_text_data_and_maker(full: Path) -> None:
    text = html(full)
    figures = re.findall(r"<figure.*?</figure>", text, re.S)
    assert len(figures) > 8
    for number, figure in enumerate(figures, 1):
        label = re.search(r'<svg [^>]*role="img" aria-label="([^"]+)"', figure)
        assert len(label[1]) > 40
        assert f"<b>Figure&nbsp;{number}. " in figure
        name, data = re.search(
            r'download="(.+).csv" href="data:text/csv;charset=utf-8,([^"]+)"', figure
        ).groups()
        beside = full / "report" / "figures" / f"{name}.csv"
        assert unquote(unescape(data)) == beside.read_text(encoding="utf-8")
        # One element, since the line is a flex box, with a gap about each of its own.
        script = re.search(r"<span>drawn by <code>(bnorder/[a-z/]+[.]py)</code>", figure)
        assert (REPOSITORY / script[1]).is_file()
        assert "rule <code>report</code>" in figure


def test_figures_stand_beside_the_report_too(full: Path) -> None:
    for suffix in ("svg", "png", "csv"):
        files = list((full / "report" / "figures").glob(f"*.{suffix}"))
        assert len(files) > 8
        assert all(f.stat().st_size > 50 for f in files)


def test_links_within_the_page_lead_somewhere_and_ids_are_unique(full: Path, poor: Path) -> None:
    for folder in (full, poor):
        page = Page(html(folder))
        ids = [a["id"] for _, a in page.elements if a.get("id")]
        assert len(ids) == len(set(ids))
        targets = {a["href"][1:] for a in page.all("a") if (a["href"] or "").startswith("#")}
        assert targets <= set(ids)


def test_missing_runs_are_the_first_thing_said(poor: Path) -> None:
    page = Page(html(poor).split("<body>")[1])
    words = page.words.removeprefix("Skip to the answer").strip()
    assert words.startswith("Incomplete. 1 of 4 runs are missing")
    assert "A small study. Only 2 seeds and 360 test images of the 8×8 digits" in words
    missing = json.loads((poor / "tables" / "missing.json").read_text())["missing"]
    assert all(f"<code>{run}</code>" in html(poor) for run in missing)


def test_a_complete_study_of_enough_seeds_opens_with_its_title(tmp_path: Path) -> None:
    small = {"seeds": 10, "activations": ["relu"], "depths": [2]}
    body = html(rendered(make_study(tmp_path, FULL | small, explore=False))).split("<body>")[1]
    assert 'class="notice"' not in body


@pytest.mark.parametrize(
    "small",
    [{"seeds": 1}, {"seeds": 2, "orderings": ["conv-act"], "activations": ["relu"], "depths": [2]}],
    ids=["one seed", "no class"],
)
def test_a_study_that_no_model_can_be_fitted_to_has_its_report(
    small: dict[str, object], tmp_path: Path
) -> None:
    page = html(rendered(make_study(tmp_path, FULL | small)))
    assert "The mixed model was not fitted: " in page


def test_advice_on_a_claim_whose_parts_fell_out_differently_names_no_open_question(
    full: Path,
) -> None:
    study = load_study(full / "study.yaml")
    results = load_results(study, full / "study.yaml", full / "tables", full / "analysis")
    (claim,) = (v for v in results.verdicts["verdicts"] if v["id"] == "T1")
    claim["verdict"] = claim["parts"][1]["verdict"] = "inconclusive"
    claim["parts"][0]["verdict"] = "supported"
    (line,) = (a["words"] for a in view.advice(results) if a["claim"] == "T1")
    assert line.startswith("BN helped one of speed and accuracy")


CLAIMS = """
claims:
  - id: M1
    family: mine
    who: me
    sentence: Before is faster.
    contrast: Conv-BN-act - Conv-act-BN
    type: direction
    measure: steps_to_90
    terms:
      - {weight: 1, ordering: conv-act-bn}
      - {weight: -1, ordering: conv-bn-act}
"""


def test_an_odd_but_legal_study_has_its_report(tmp_path: Path) -> None:
    """A number as title, long seeds, a claim on steps, arms that never get there, a digest."""
    claims = tmp_path / "claims.yaml"
    claims.write_text(CLAIMS, encoding="utf-8")
    odd = POOR | {
        "name": "odd+30e67157",
        "title": "2024",
        "seeds": [20230101, 20230102, 2147483647],
        "thresholds": [90, 97.25],
        "depths": [1, 2, 3, 4, 5, 6, 7],
        "activations": ["relu", "elu"],
        "claims": str(claims),
    }
    folder = make_study(tmp_path / "odd", odd, drop=1)
    survival = folder / "analysis" / "survival.parquet"
    table = pd.read_parquet(survival)
    table.loc[table["depth"] > 3, ["events", "share_not_reached"]] = 0, 1.0
    table.to_parquet(survival)
    text = html(rendered(folder))
    assert "20230101, 20230102 and 2147483647" in Page(text).words
    assert "STUDY=mine.yaml" in text and "30E67157=" not in text
    assert f"Made by <code>bnorder</code> {__version__} from the study" in text
    private = re.compile("[\ue000-\uf8ff]")
    for file in (folder / "report").rglob("*.*"):
        if file.suffix in (".html", ".rst", ".csv", ".svg"):
            assert not private.search(file.read_text(encoding="utf-8")), file


def test_a_title_is_text_whatever_it_says(poor: Path) -> None:
    text = html(poor)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#39;title&#39;)&lt;/script&gt;" in text
    assert text.count("<script") == 1


def test_parts_that_a_study_lacks_leave_no_hole(poor: Path, wide: Path) -> None:
    for folder in (poor, wide):
        text = html(folder)
        assert "Exploration</h2>" not in text
        assert 'id="learning"' not in text
        for empty in ("<tbody></tbody>", "<ul></ul>", "<p></p>", ">None<", ">nan<", "Undefined"):
            assert empty not in re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.S)
    assert "not tested" in Page(html(poor)).words


def test_several_data_sets_variants_and_all_orders_are_shown(wide: Path) -> None:
    words = Page(html(wide)).words
    assert "Batch normalisation before or after the activation: wide" in words
    assert "on MNIST" in words
    assert "Down-sampling = stride" in words
    assert "<b>images</b>" not in html(wide).split("<body>")[1]


def test_rendering_again_gives_the_same_files_and_removes_only_stale_figures(poor: Path) -> None:
    report = poor / "report"
    before = {p.name: p.read_bytes() for p in report.rglob("*.*") if p.is_file()}
    stale, kept = report / "figures" / "claim-GONE.svg", report / "figures" / "notes.txt"
    stale.write_text("old")
    kept.write_text("mine")
    rendered(poor)
    kept.unlink()
    assert {p.name: p.read_bytes() for p in report.rglob("*.*") if p.is_file()} == before


def test_a_missing_file_is_one_clear_line(full: Path, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/render.py", "--study", str(full / "study.yaml")]
    command += [
        "--tables",
        str(full / "tables"),
        "--analysis",
        str(tmp_path),
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "verdicts.json: no such file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_broken_table_is_one_clear_line(full: Path, tmp_path: Path) -> None:
    (tmp_path / "runs.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="no valid Parquet"):
        render(full / "study.yaml", tmp_path, full / "analysis", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_atomically(path, "text, not bytes")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_are_printed_with_sign_and_digits_enough() -> None:
    assert signed(0.312) == "+0.31"
    assert signed(-0.312) == "−0.31"
    assert signed(0.0) == "0.00"
    assert float(signed(-0.001).replace("−", "-")) < 0
    assert p_text(0.00001) == "< .0001"
    assert p_text(0.004) == ".004"
    assert signed(None) == "–"
    assert as_markup(whole(Num(3, "a#b")), traced=True) == (
        '<data value="3.0" data-src="a#b">3</data>'
    )


def test_a_sentence_is_escaped_before_it_is_set() -> None:
    assert "<b>" not in said("<b>p = .004")
    assert "<i>p</i>&nbsp;=&nbsp;.004" in said("<b>p = .004")


def test_a_claim_of_parts_becomes_a_list_without_losing_a_word() -> None:
    parts = [{"text": "First: yes."}, {"text": "Second: no."}]
    told = statements({"text": "Both. First: yes. Second: no. The end.", "parts": parts})
    assert told == {"head": "Both.", "parts": ["First: yes.", "Second: no."], "tail": "The end."}
    whole = statements({"text": "Something else.", "parts": parts})
    assert whole == {"head": "Something else.", "parts": [], "tail": ""}


def test_a_warning_of_the_mixed_model_ends_in_one_full_stop(full: Path) -> None:
    study = load_study(full / "study.yaml")
    results = load_results(study, full / "study.yaml", full / "tables", full / "analysis")
    warned = replace(results, mixed_model=dict(results.mixed_model) | {"warnings": ["Odd: space."]})
    shown = view.model(warned)
    assert shown
    assert shown["warnings"] == ["Odd: space"]  # the sentence around it has the stop


def test_contents_nest_and_drop_markup() -> None:
    body = '<h2 id="h-a">A <b>x</b></h2><h3 id="b">B &amp; C</h3><h2 id="d">D</h2>'
    assert contents(body) == [
        {"id": "a", "words": "A x", "under": [{"id": "b", "words": "B & C", "under": []}]},
        {"id": "d", "words": "D", "under": []},
    ]
