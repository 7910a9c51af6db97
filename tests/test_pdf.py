"""The PDF: tagged, named, bookmarked, nothing cut off, and the same bytes when built twice."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject
from report_study import rendered, rendered_study


@pytest.fixture(scope="module")
def pdf() -> PdfReader:
    return PdfReader(rendered_study("full") / "report" / "report.pdf")


def structure(pdf: PdfReader) -> list[DictionaryObject]:
    """Every structure element of the tagged document, parents before children."""
    return list(_elements(pdf.trailer["/Root"]["/StructTreeRoot"].get_object()))


def _elements(node: Any) -> Iterator[DictionaryObject]:
    node = node.get_object() if isinstance(node, IndirectObject) else node
    if isinstance(node, ArrayObject):
        for child in node:
            yield from _elements(child)
    elif isinstance(node, DictionaryObject):
        if "/S" in node:
            yield node
        if "/K" in node:
            yield from _elements(node["/K"])


def words(pdf: PdfReader) -> str:
    return " ".join(" ".join(page.extract_text() for page in pdf.pages).split())


def test_it_is_tagged_with_language_title_and_bookmarks(pdf: PdfReader) -> None:
    root = pdf.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en-GB"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert pdf.metadata is not None
    assert pdf.metadata.title == "Before or after, on made-up runs"
    titles = [entry.title for entry in pdf.outline if not isinstance(entry, list)]
    assert "The claims and their verdicts" in titles
    assert "References" in titles


def test_every_figure_has_an_alternative_text(pdf: PdfReader) -> None:
    figures = [e for e in structure(pdf) if e["/S"] == "/Figure"]
    shown = list((rendered_study("full") / "report" / "figures").glob("*.svg"))
    assert len(figures) == len(shown)
    assert all(len(str(e.get("/Alt", ""))) > 40 for e in figures)


def test_headings_and_table_headers_are_tagged(pdf: PdfReader) -> None:
    tags = [str(e["/S"]) for e in structure(pdf)]
    assert tags.count("/H1") == 1
    assert tags.count("/H2") > 6
    tables = [e for e in structure(pdf) if e["/S"] == "/Table"]
    assert tables
    for table in tables:
        inside = [str(e["/S"]) for e in _elements(table["/K"])]
        assert "/TH" in inside
    known = [str(e["/ID"]) for e in structure(pdf) if e["/S"] == "/TH"]
    assert len(known) == len(set(known))
    for cell in (e for e in structure(pdf) if e["/S"] == "/TD"):
        headers = [str(h) for h in cell["/A"]["/Headers"]]
        assert len(headers) == 2  # its row's and its column's
        assert set(headers) <= set(known)


def test_fonts_are_embedded(pdf: PdfReader) -> None:
    for page in pdf.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            font = font.get_object()["/DescendantFonts"][0].get_object()
            descriptor = font["/FontDescriptor"].get_object()
            assert {"/FontFile2", "/FontFile3", "/FontFile"} & set(descriptor)


def test_every_page_but_the_first_has_a_running_header_and_a_number(pdf: PdfReader) -> None:
    total = len(pdf.pages)
    assert total > 5
    for number, page in enumerate(pdf.pages, 1):
        text = " ".join(page.extract_text().split())
        assert (f"{number} / {total}" in text) == (number > 1)
        assert "Study full" in text


def test_the_text_says_what_the_verdicts_say(pdf: PdfReader) -> None:
    text = re.sub(r"\s+", "", words(pdf))
    study = rendered_study("full")
    found = json.loads((study / "analysis" / "verdicts.json").read_text(encoding="utf-8"))
    for verdict in found["verdicts"]:
        assert re.sub(r"\s+", "", verdict["sentence"]) in text
    assert re.sub(r"\s+", "", found["answer"][0])[:60] in text


def test_no_figure_is_cut_and_no_heading_is_left_alone(pdf: PdfReader) -> None:
    for element in structure(pdf):
        if element["/S"] == "/Figure":
            x1, y1, x2, y2 = (float(v) for v in element["/A"]["/BBox"])
            assert 75 <= x1 < x2 <= 719  # WeasyPrint writes pixels: the text's 170 mm of 210
            assert abs(y2 - y1) < 940  # of the 1123 that a page is high
    for page in pdf.pages[1:]:  # the first is set in larger type
        lines: list[tuple[float, float, str]] = []

        def visit(text: str, cm: Any, tm: Any, _font: Any, size: float) -> None:
            if text.strip():
                height = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]  # points from the paper's foot
                lines.append((height, size * abs(tm[3] * cm[3]), text.strip()))  # noqa: B023

        page.extract_text(visitor_text=visit)
        body = [line for line in lines if 62 < line[0] < 775]
        if body:
            lowest = min(body)
            assert lowest[1] < 12, f"a heading ends its page: {lowest[2]}"


def test_no_text_runs_off_the_paper(tmp_path: Path) -> None:
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext (poppler-utils) is not installed")
    for name in ("full", "poor", "wide"):
        out = tmp_path / f"{name}.html"
        report = rendered_study(name) / "report" / "report.pdf"
        subprocess.run(["pdftotext", "-bbox", str(report), str(out)], check=True)
        boxes = re.findall(
            r'<word xMin="([\d.-]+)" yMin="[\d.-]+" xMax="([\d.-]+)"', out.read_text()
        )
        assert len(boxes) > 500
        assert min(float(left) for left, _ in boxes) > 50
        assert max(float(right) for _, right in boxes) < 595 - 50


def test_it_names_no_place_on_this_machine(pdf: PdfReader) -> None:
    study = rendered_study("full")
    content = (study / "report" / "report.pdf").read_bytes()
    assert str(study).encode() not in content
    assert b"file:" not in content
    assert not pdf.metadata or "/CreationDate" not in pdf.metadata


def test_missing_runs_open_the_pdf_of_an_incomplete_study() -> None:
    first = PdfReader(rendered_study("poor") / "report" / "report.pdf").pages[0].extract_text()
    assert " ".join(first.split()).startswith("Incomplete. 1 of 4 runs are missing")
    assert "<script>alert('title')</script>" in first


def test_it_is_the_same_bytes_when_built_twice() -> None:
    study = rendered_study("poor")
    before = (study / "report" / "report.pdf").read_bytes()
    assert (rendered(study) / "report" / "report.pdf").read_bytes() == before


def test_the_archives_edition_carries_the_tables(tmp_path: Path) -> None:
    from bnorder.report import render

    study = rendered_study("poor")
    (study / "tables" / "runs.csv").write_text("run\nmade up\n")
    made = []
    for name in ("first", "second"):
        parts = (study / "study.yaml", study / "tables", study / "analysis", tmp_path / name)
        render(*parts, archive=True)
        made.append((tmp_path / name / "report-archive.pdf").read_bytes())
    assert made[0] == made[1]
    archive = PdfReader(tmp_path / "first" / "report-archive.pdf")
    assert archive.attachments["runs.csv"] == [b"run\nmade up\n"]
    assert "verdicts.json" in archive.attachments
    about = archive.trailer["/Root"]["/Metadata"].get_data()
    assert re.search(rb"pdfaid:part\W+3", about)
