"""Both languages of the report: the same keys, numbers and parts, each in its own sentences."""

import re
import string
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from pypdf import PdfReader
from report_study import report_of
from test_sentences import CASES

from bnorder.errors import UserError
from bnorder.language import Language
from bnorder.language.chinese import CHINESE
from bnorder.language.english import ENGLISH, FIGURES, PAGE, SENTENCES
from bnorder.language.sentences import Writer
from bnorder.report import fonts
from bnorder.workflow import chosen


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_the_languages_have_the_same_keys_and_fields() -> None:
    needed, there = (
        {k for k in words.templates if not k.endswith(".one")} for words in (ENGLISH, CHINESE)
    )
    assert needed == there
    for key in needed:
        assert fields(CHINESE.templates[key]) == fields(ENGLISH.templates[key]), key
    for table in ("verdicts", "measures", "units"):
        assert set(getattr(CHINESE, table)) == set(getattr(ENGLISH, table))


def test_no_key_stands_twice_in_a_language() -> None:
    assert len(SENTENCES) + len(FIGURES) + len(PAGE) == len(ENGLISH.templates)


def own_texts() -> set[str]:
    """The project's own texts in its data files, which a report prints."""
    claims = yaml.safe_load((REPOSITORY / "claims" / "article.yaml").read_text("utf-8"))
    found = [claims["source"]["name"], claims["source"]["about"]]
    for claim in claims["claims"]:
        found += [claim["sentence"], claim["contrast"]]
        found += [part["name"] for part in claim.get("parts", [])]
    for study in sorted((REPOSITORY / "studies").glob("*.yaml")):
        found.append(yaml.safe_load(study.read_text("utf-8")).get("title", ""))
    for advice in yaml.safe_load((REPOSITORY / "report" / "advice.yaml").read_text("utf-8")):
        found += [text for key, text in advice.items() if key != "claim"]
    cited = yaml.safe_load((REPOSITORY / "report" / "references.yaml").read_text("utf-8"))
    for other in cited["others"]:
        found += [other["setup"], other["conclusion"]]
    return {" ".join(text.split()) for text in found if text}


def is_name(text: str) -> bool:
    """`BN-ReLU-Conv` is the same in every language."""
    return re.fullmatch(r"[A-Za-z]+(-[A-Za-z]+)*", text) is not None and text != text.lower()


def test_the_projects_own_texts_are_known_in_chinese() -> None:
    unknown = {text for text in own_texts() if not is_name(text)} - set(CHINESE.known)
    assert unknown == set()


def numbers(text: str) -> list[str]:
    """The numbers of a text, in no order; a share said in words in one language is none."""
    bare = re.sub(r"95 ?%|80 ?%|5 ?%", "", text)
    return sorted(re.findall(r"[−+]?\d*\.?\d+", bare))


def test_both_languages_say_the_same_numbers_of_every_verdict() -> None:
    english, chinese = Writer(ENGLISH), Writer(CHINESE)
    for verdict in CASES:
        said = chinese.text(verdict)
        assert numbers(said) == numbers(english.text(verdict)), said
        assert said.startswith(CHINESE.verdicts[verdict.verdict])
        assert said.endswith("。")
        assert not re.search(r"[{}]|None|nan", said)
        assert not re.search(r"[\u4e00-\u9fff][,.;:]", said), "a Latin mark in Chinese"


class Shown(HTMLParser):
    """A page's ids, and what it says outside code, data and the list of references."""

    SKIPPED = frozenset({"code", "pre", "script", "style", "data"})
    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag not in self.VOID:
            self.open.append("code" if given.get("class") == "references" else tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open:
            last = self.open.pop()
            if last in (tag, "code"):
                return

    def handle_data(self, data: str) -> None:
        if not self.SKIPPED & set(self.open):
            self.text.append(data)


def in_chinese() -> Path:
    """The folder of a study's report in Chinese, beside its English one."""
    return report_of("full.zh").parent


def page(name: str) -> str:
    return (in_chinese() / name).read_text(encoding="utf-8")


def test_the_chinese_page_has_every_part_of_the_english_one() -> None:
    chinese, english = Shown(page("report.zh.html")), Shown(page("report.html"))
    assert '<html lang="zh-Hans">' in page("report.zh.html")
    drawn = re.compile(r"-[pm][0-9a-f]{9,}$")  # what an SVG calls its own parts
    parts = [[i for i in shown.ids if not drawn.search(i)] for shown in (chinese, english)]
    assert parts[0] == parts[1]
    figures = sorted(file.name for file in (in_chinese() / "figures").iterdir())
    assert sorted(file.name for file in (in_chinese() / "figures.zh").iterdir()) == figures


def test_the_chinese_page_holds_the_numbers_of_the_english_one() -> None:
    places = r'<data value="([^"]+)" data-src="([^"]+)">'
    assert set(re.findall(places, page("report.zh.html"))) == set(
        re.findall(places, page("report.html"))
    )


def test_nothing_on_the_chinese_page_is_left_in_english() -> None:
    left = re.compile(r"(?:\b[a-z]{2,}\b[ ,]+){2,}[a-z]{2,}\b")
    text = " ".join("".join(Shown(page("report.zh.html")).text).split())
    text = text.replace("Before or after, on made-up runs", "")  # this study's own title
    assert left.findall(text) == []
    assert sum("\u4e00" <= letter <= "\u9fff" for letter in text) > 3000


def test_the_chinese_pdf_has_its_characters_and_its_language() -> None:
    pdf = PdfReader(in_chinese() / "report.zh.pdf")
    assert pdf.trailer["/Root"]["/Lang"] == "zh-Hans"
    text = "".join(leaf.extract_text() for leaf in pdf.pages)
    for words in ("答案", "论断与判定", "参考文献", "（第", "页）"):
        assert words.replace(" ", "") in re.sub(r"\s", "", text)
    assert "\ufffd" not in text


def test_a_machine_without_chinese_fonts_is_told_which_package_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fonts.fonts_for.cache_clear()
    monkeypatch.setattr(fonts, "_match", lambda family, lang: None)
    with pytest.raises(UserError, match="fonts-noto-cjk"):
        fonts.require_fonts(CHINESE)
    fonts.require_fonts(ENGLISH)
    fonts.fonts_for.cache_clear()


def test_another_language_is_refused_in_one_line() -> None:
    assert chosen({}, "lang", ("en", "zh")) == "en"
    with pytest.raises(UserError, match="lang is 'fr'; expected one of en, zh"):
        chosen({"lang": "fr"}, "lang", ("en", "zh"))


@pytest.mark.parametrize("words", [ENGLISH, CHINESE], ids=lambda words: words.code)
def test_a_list_reads_as_one(words: Language) -> None:
    assert words.join([]) == ""
    assert words.join(["a"]) == "a"
    assert words.join(["a", "b", "c"]) in ("a, b and c", "a、b 和 c")
