"""The PDF: tagged, named, bookmarked, nothing cut off, and the same bytes when built twice.

No validator is at hand, so these tests read the structure themselves: tagged and checked.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from artefacts import keep
from conftest import REPOSITORY
from pypdf import PdfReader
from pypdf.generic import ArrayObject, ContentStream, DictionaryObject, IndirectObject
from report_study import rendered_study, report_of

STUDIES = ("full", "poor", "wide", "full.zh")
A4 = (595.28, 841.89)  # points
SIDE = 56.6  # the margins beside the text, 20 mm
PAINTING = {b"Tj", b"TJ", b"'", b'"', b"S", b"s", b"f", b"f*", b"B", b"B*", b"b", b"b*", b"Do"}


def report(name: str) -> Path:
    return report_of(name).with_suffix(".pdf")


@dataclass(frozen=True)
class Piece:
    """Marked content: on which page, inside which structure elements, from the root on."""

    page: int
    within: tuple[DictionaryObject, ...]

    def inside(self, *kinds: str) -> DictionaryObject | None:
        """The innermost element of one of the kinds around it."""
        return next((e for e in reversed(self.within) if e["/S"] in kinds), None)


@dataclass(frozen=True)
class Document:
    """A PDF with its structure: elements with parents first, and content as it is read."""

    pdf: PdfReader
    elements: tuple[DictionaryObject, ...]
    content: tuple[Piece, ...]

    def all(self, *kinds: str) -> list[DictionaryObject]:
        return [e for e in self.elements if e["/S"] in kinds]


@functools.cache
def document(name: str) -> Document:
    pdf = PdfReader(report(name))
    pages = {page.indirect_reference.idnum: i for i, page in enumerate(pdf.pages)}  # type: ignore[union-attr]
    elements: list[DictionaryObject] = []
    content: list[Piece] = []

    def visit(node: Any, within: tuple[DictionaryObject, ...]) -> None:
        node = node.get_object() if isinstance(node, IndirectObject) else node
        if isinstance(node, ArrayObject):
            for child in node:
                visit(child, within)
        elif isinstance(node, DictionaryObject):
            if "/S" in node:
                elements.append(node)
                within = (*within, node)
            if "/K" in node:
                visit(node["/K"], within)
        else:  # an MCID
            content.append(Piece(pages[within[-1].raw_get("/Pg").idnum], within))

    visit(pdf.trailer["/Root"]["/StructTreeRoot"], ())
    return Document(pdf, tuple(elements), tuple(content))


@pytest.fixture(params=STUDIES)
def each(request: pytest.FixtureRequest) -> Document:
    return document(request.param)


@pytest.fixture
def full() -> Document:
    return document("full")


# Tags, metadata, fonts


def test_it_is_tagged_with_language_title_and_metadata(full: Document) -> None:
    root = full.pdf.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en-GB"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    about = full.pdf.metadata
    assert about is not None
    assert about.title == "Before or after, on made-up runs"
    assert about.author and about.subject and about["/Keywords"]
    assert "/CreationDate" not in about
    assert b"pdfuaid:part" in root["/Metadata"].get_data()


def test_every_figure_has_an_alternative_text_and_a_caption_on_its_page(each: Document) -> None:
    figures = [piece for piece in each.content if piece.inside("/Figure")]
    assert len(figures) == len(each.all("/Figure")) > 1
    for piece in figures:
        figure = piece.inside("/Figure")
        assert figure is not None and len(str(figure.get("/Alt", ""))) > 40
    captions = [piece.page for piece in each.content if piece.inside("/Caption")]
    for piece in figures:
        assert piece.page in captions
    assert len(each.all("/Caption")) == len(figures)


def test_no_figure_is_cut(each: Document) -> None:
    for figure in each.all("/Figure"):
        x1, y1, x2, y2 = (float(v) for v in figure["/A"]["/BBox"])
        assert SIDE <= x1 < x2 <= A4[0] - SIDE
        assert 50 < y1 < y2 < A4[1] - 50


def test_every_table_cell_has_its_headers(each: Document) -> None:
    tables = each.all("/Table")
    assert len(tables) > 3
    headers = {str(e["/ID"]): str(e["/A"]["/Scope"]) for e in each.all("/TH")}
    assert len(headers) == len(each.all("/TH"))
    for cell in each.all("/TD"):
        named = [str(h) for h in cell["/A"]["/Headers"]]
        assert sorted(headers[name] for name in named) == ["/Column", "/Row"]


def test_headings_open_no_gap_between_their_levels(each: Document) -> None:
    levels = [int(str(e["/S"])[2:]) for e in each.elements if re.fullmatch(r"/H\d", str(e["/S"]))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert levels.count(2) > 6
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_all_that_is_painted_is_tagged_or_an_artefact() -> None:
    pdf = document("poor").pdf
    for page in pdf.pages:
        depth = 0
        for _, operator in ContentStream(page.get_contents(), pdf).operations:
            depth += {b"BDC": 1, b"BMC": 1, b"EMC": -1}.get(operator, 0)
            assert depth or operator not in PAINTING


def test_every_link_is_tagged_and_leads_into_the_document(full: Document) -> None:
    targets = full.pdf.named_destinations
    links = [
        note.get_object()
        for page in full.pdf.pages
        for note in page.get("/Annots", [])
        if note.get_object()["/Subtype"] == "/Link"
    ]
    assert len(links) > 50
    for link in links:
        assert "/StructParent" in link
        assert str(link.get("/Dest") or link["/A"]["/D"]) in targets


def test_fonts_are_embedded_as_subsets_with_their_unicode(skip_without: Any) -> None:
    skip_without("pdffonts")
    for name in STUDIES:
        listed = subprocess.run(["pdffonts", report(name)], capture_output=True, check=True)
        fonts = listed.stdout.decode().splitlines()[2:]
        assert len(fonts) > 3
        for font in fonts:
            assert font.split()[-5:-2] == ["yes", "yes", "yes"], font


def test_bookmarks_and_contents_name_the_sections_and_their_pages(full: Document) -> None:
    bookmarks = list(flat(full.pdf.outline))
    pages = {str(b.title): full.pdf.get_destination_page_number(b) + 1 for b in bookmarks}
    assert "The claims and their verdicts" in pages and "References" in pages
    contents = " ".join(full.pdf.pages[1].extract_text().split())
    for title, page in pages.items():
        if title not in ("Contents", "The answer"):
            assert re.search(rf"{re.escape(title)} ?(\. ?)+ ?{page}\b", contents), title
    for heading in (p for p in full.content if p.inside("/H2")):
        assert heading.page < 2 or heading.page + 1 in pages.values()


def flat(outline: Any) -> Iterator[Any]:
    for entry in outline:
        if isinstance(entry, list):
            yield from flat(entry)
        else:
            yield entry


# Pages


def test_every_page_but_the_first_has_a_running_header_and_a_number(full: Document) -> None:
    total = len(full.pdf.pages)
    assert 10 < total < 40
    for number, page in enumerate(full.pdf.pages, 1):
        text = " ".join(page.extract_text().split())
        assert (f"{number} / {total}" in text) == (number > 1)
        assert "Study full" in text
        assert len(text) > 300, f"page {number} is almost empty"


def test_no_heading_is_left_alone_at_the_foot_of_a_page(each: Document) -> None:
    headings = ("/H1", "/H2", "/H3", "/H4", "/H5", "/H6")
    seen = 0
    for piece, following in pairwise(each.content):
        heading = piece.inside(*headings)
        if heading is not None:
            seen += 1
            assert following.page == piece.page, heading.get("/Pg")
    assert seen > 10


def test_a_claim_begins_on_the_page_of_its_figure(full: Document) -> None:
    """A claim's heading, sentences and figure stand together."""
    figures = 0
    for claim in full.all("/Art"):
        own = [p for p in full.content if claim in p.within and not p.inside("/Table")]
        headings = [p for p in own if p.inside("/H4")]
        drawn = [p for p in own if p.inside("/Figure")]
        # An article that goes on overleaf is two of them: the second has neither.
        assert bool(headings) or not drawn
        assert all(p.page == headings[0].page for p in drawn)
        figures += bool(drawn)
    assert figures > 5


Box = tuple[int, float, float, float, float, str]  # page, left, top, right, bottom, word


@functools.cache
def words(name: str) -> list[Box]:
    """Every word with its place, as poppler sees it."""
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext (poppler-utils) is not installed")
    run = subprocess.run(["pdftotext", "-bbox", report(name), "-"], capture_output=True, check=True)
    found, page = [], 0
    for line in run.stdout.decode().splitlines():
        page += "<page " in line
        box = re.search(
            r'<word xMin="(.+?)" yMin="(.+?)" xMax="(.+?)" yMax="(.+?)">(.+)</word>', line
        )
        if box:
            left, top, right, bottom = (float(v) for v in box.groups()[:4])
            found.append((page, left, top, right, bottom, unescape(box[5])))
    return found


@pytest.mark.parametrize("name", STUDIES)
def test_no_word_runs_off_the_text_or_over_another(name: str) -> None:
    """A table too wide for the page, or a cell too wide for its column, would do one of both."""
    found = words(name)
    assert len(found) > 500
    for _, left, _, right, _, word in found:
        assert left > SIDE - 1 and right < A4[0] - SIDE + 1, word
    assert not [word for word in found if word[0] != 2 and word[5] == "."]  # a p cut in two
    lines: dict[tuple[int, int], list[Box]] = {}
    for word in found:
        lines.setdefault((word[0], round(word[4])), []).append(word)
    for line in lines.values():
        for one, two in pairwise(sorted(line, key=lambda word: word[1])):
            assert two[1] > one[3] - 1.5, f"page {one[0]}: {one[5]} runs over {two[5]}"


def test_the_text_says_what_the_verdicts_say() -> None:
    text = "".join(word for *_, word in words("full"))
    study = rendered_study("full")
    found = json.loads((study / "analysis" / "verdicts.json").read_text(encoding="utf-8"))
    for verdict in found["verdicts"]:
        assert re.sub(r"\s+", "", verdict["sentence"]) in text
    assert re.sub(r"\s+", "", found["answer"][0])[:60] in text


def test_missing_runs_open_the_pdf_of_an_incomplete_study() -> None:
    first = document("poor").pdf.pages[0].extract_text()
    assert " ".join(first.split()).startswith("Incomplete. 1 of 4 runs are missing")
    assert "<script>alert('title')</script>" in first


@pytest.mark.parametrize("name", STUDIES)
def test_its_pages_can_be_rendered(name: str, tmp_path: Path, skip_without: Any) -> None:
    """Poppler draws every page without a complaint; CI keeps the pictures."""
    skip_without("pdftoppm")
    drawn = subprocess.run(
        ["pdftoppm", "-r", "30", "-png", report(name), tmp_path / "page"],
        capture_output=True,
        check=True,
    )
    assert drawn.stderr == b""
    assert len(list(tmp_path.glob("*.png"))) == len(document(name).pdf.pages)
    keep(f"pdf-{name}", lambda path: pictures(report(name), path))


def pictures(pdf: Path, path: Path) -> None:
    subprocess.run(["pdftoppm", "-r", "80", "-png", pdf, path.with_suffix("")], check=True)


# The file


def test_it_names_no_place_on_this_machine() -> None:
    content = report("full").read_bytes()
    assert str(rendered_study("full")).encode() not in content
    assert b"file:" not in content


def test_html_and_pdf_are_the_same_bytes_when_built_again_elsewhere(tmp_path: Path) -> None:
    """Another process, hash seed, time zone, locale and folder."""
    study = rendered_study("poor")
    command = [
        sys.executable,
        REPOSITORY / "scripts" / "render.py",
        "--study",
        study / "study.yaml",
    ]
    command += ["--tables", study / "tables", "--analysis", study / "analysis", "--out", tmp_path]
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Shanghai", "LC_ALL": "C", "COLUMNS": "40"}
    subprocess.run(list(map(str, command)), env=os.environ | other, cwd=tmp_path, check=True)
    again = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.*")}
    first = study / "report"
    assert again == {p.relative_to(first): p.read_bytes() for p in first.rglob("*.*")}


def test_the_archives_edition_is_tagged_and_carries_the_tables(tmp_path: Path) -> None:
    from bnorder.report.document import render_archive

    study = rendered_study("poor")
    (study / "tables" / "runs.csv").write_text("run\nmade up\n")
    parts = (study / "study.yaml", study / "tables", study / "analysis")
    first, second = (render_archive(*parts, tmp_path / name) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    archive = PdfReader(first)
    assert archive.attachments["runs.csv"] == [b"run\nmade up\n"]
    assert {"verdicts.json", "paired.csv", "data-dictionary.md"} <= set(archive.attachments)
    root = archive.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and "/StructTreeRoot" in root
    assert [f.get_object()["/AFRelationship"] for f in root["/AF"]] == ["/Data"] * len(root["/AF"])
    assert root["/OutputIntents"][0]["/S"] == "/GTS_PDFA1"
    about = root["/Metadata"].get_data()
    assert re.search(rb"pdfaid:part\W+3\b", about)
    assert re.search(rb"pdfaid:conformance\W+A\b", about)
