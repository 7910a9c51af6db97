"""The checker: every number of the page stands in a results file, where the page says it does."""

import re
from pathlib import Path

import pytest
from markupsafe import escape
from report_study import rendered_study

from bnorder.language import CODES, language
from bnorder.language.printing import Num
from bnorder.report.document import fixed
from bnorder.report.results import Results, files_of, load_results
from bnorder.report.tracing import (
    Fixed,
    Places,
    Untraced,
    as_markup,
    check,
    link,
    mark,
    numbers_in,
    plain,
    prints_as,
)
from bnorder.study import load_study


@pytest.fixture(scope="module")
def results() -> Results:
    folder = rendered_study("full")
    study = load_study(folder / "study.yaml")
    return load_results(study, folder / "study.yaml", folder / "tables", folder / "analysis")


def checked(page: str, results: Results) -> int:
    folder = rendered_study("full")
    places = Places(files_of(folder / "study.yaml", folder / "tables", folder / "analysis"))
    return check(page, places, fixed(results, 30))


def page() -> str:
    return (rendered_study("full") / "report" / "report.html").read_text(encoding="utf-8")


def test_every_number_of_the_page_is_traced(results: Results) -> None:
    assert checked(page(), results) > 800


def test_a_number_that_is_not_at_its_place_is_refused(results: Results) -> None:
    first = re.search(r'<data value="([\d.]+)" data-src="(analysis/verdicts.json#[^"]+)">', page())
    wrong = page().replace(first[0], first[0].replace(first[1], "0.123456"), 1)
    with pytest.raises(Untraced, match=re.escape(first[2])):
        checked(wrong, results)


def test_a_number_printed_otherwise_than_its_value_is_refused(results: Results) -> None:
    first = re.search(r'(data-src="analysis/arms.parquet#[^"]+">)(\d+\.\d+)</data>', page())
    wrong = page().replace(first[0], f"{first[1]}{float(first[2]) + 1:.2f}</data>", 1)
    with pytest.raises(Untraced, match="is printed for"):
        checked(wrong, results)


@pytest.mark.parametrize("words", ["gains 3.75 points", "p = .031", "−2 pp", "in 7 of 9 arms"])
def test_a_number_from_nowhere_is_refused(results: Results, words: str) -> None:
    with pytest.raises(Untraced, match="stands in no results file"):
        checked(page().replace("</main>", f"<p>It {words}.</p></main>"), results)


def test_a_place_that_does_not_exist_is_refused(results: Results) -> None:
    for source in ("analysis/arms.parquet#9999/mean", "analysis/none.json#/a", "study.yaml#/x"):
        invented = f'<p><data value="1.0" data-src="{source}">1</data></p>'
        with pytest.raises(Untraced, match="says None"):
            checked(page().replace("</main>", f"{invented}</main>"), results)


def test_names_and_fixed_words_are_no_numbers(results: Results) -> None:
    words = "<p>E9a, block1_conv, the 8×8 digits</p>"
    assert checked(page().replace("</main>", f"{words}</main>"), results) > 800
    with pytest.raises(Untraced, match="95"):
        checked(page().replace("</main>", "<p>95 per cent</p></main>"), results)


@pytest.mark.parametrize(
    ("value", "text", "fits"),
    [
        (0.3149, "+0.31", True),
        (0.3149, "+0.32", False),
        (-0.3149, "−0.31", True),
        (-0.3149, "+0.31", False),
        (0.00002, "< .0001", True),
        (0.002, "< .0001", False),
        (0.0041, ".004", True),
        (0.8, "80 %", True),
        (12345.0, "12,345", True),
    ],
)
def test_what_prints_a_value(value: float, text: str, fits: bool) -> None:
    assert prints_as(value, text) is fits


def test_a_sentence_is_linked_number_by_number() -> None:
    verdict = {"mean": Num(-0.312, "v#/mean"), "p": Num(2e-6, "v#/p"), "n": Num(10, "v#/n")}
    text = "It is 0.31 pp below (95 % interval; p < .0001; n = 10 seeds, and 7 more)."
    linked = link(text, numbers_in(verdict), Fixed(["95 % interval"]))
    assert plain(linked) == text
    shown = re.findall(
        r'data-src="v#/(\w+)">([^<]*)</data>', as_markup(str(escape(linked)), traced=True)
    )
    assert shown == [("mean", "0.31"), ("p", "&lt; .0001"), ("n", "10")]


def test_a_mark_survives_neither_plain_text_nor_paper() -> None:
    marked = mark(Num(3, "a#b"), "3")
    assert plain(marked) == "3"
    assert as_markup(marked, traced=False) == "3"
    small = mark(Num(2e-6, "v#/p"), "< .0001")
    assert as_markup(small, traced=False) == '<span class="n">< .0001</span>'  # kept in one line
    assert mark(3.0, "3") == "3"


def test_keys_with_slashes_are_found(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    file.write_text('{"folder:/a/b~c": 4}', encoding="utf-8")
    assert Places({"facts.json": file}).at("facts.json#/folder:~1a~1b~0c") == 4


@pytest.mark.parametrize("code", CODES)
def test_fixed_words_with_numbers_say_what_the_number_is(code: str) -> None:
    """A fixed `5` alone would excuse any 5 on the page."""
    for piece in language(code).fixed():
        if re.search(r"\d", piece):
            assert len(re.sub(r"[\W\d_]", "", piece)) > 1 or "%" in piece, piece
