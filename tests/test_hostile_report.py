"""A report of hostile names: every text of a study, its claims and its folders stays text."""

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from pypdf import PdfReader
from report_study import make_study, rendered
from test_claims import one
from test_report import Page

from bnorder import data
from bnorder.report.pdf import _fetcher

ATTACKS = {
    "script": "<script>alert(1)</script>",
    "handler": "<img src=x onerror=alert(2)>",
    "quotes": "\"><svg onload=alert(3)>'",
    "endings": "</title></style></table><b>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "entity": "&lt;i&gt; &amp; &#60;",
    "link": "[x](javascript:alert(4)) file:///etc/passwd",
    "mathtext": r"$\undefined{ $5 % _^",
}
ALL = " ".join(ATTACKS.values())
FOLDER = "/nowhere/<script>alert(5)</script> & \"q\" $\\bad{ 'x'"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study whose every free text attacks."""
    folder = tmp_path_factory.mktemp("hostile")
    claims = {
        "source": {"name": ALL, "about": ALL},
        "headline": "A1",
        "notes": [{"date": "2026-12-01", "claim": "A1", "text": ALL}],
        "claims": [
            one(who=ALL, sentence=ALL, contrast=ALL),
            one(id="B1", parts=[{"name": ALL}, {"name": "<u>two</u>"}], who="x", sentence=ALL),
        ],
    }
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims), encoding="utf-8")
    study = {
        "name": "a+b=c,d",
        "title": ALL[:200],
        "datasets": [f"folder:{FOLDER}", "digits"],
        "orderings": ["bn-act-conv", "act-bn-conv"],
        "activations": ["relu"],
        "depths": [1, 2],
        "seeds": 3,
        "claims": str(folder / "claims.yaml"),
        "data_dirs": [ALL],
        "thresholds": [90],
    }
    return rendered(make_study(folder / "study", study, drop=1))


def test_page_has_no_element_that_a_text_brought(hostile: Path) -> None:
    text = (hostile / "report/report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.all("script")) == 1
    assert not {tag for tag, _ in page.elements} & {"img", "iframe", "object", "embed", "link"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("href", "src", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:text/csv")), target
    assert not re.search(r"<(script|img|svg|b|u)>?\s*(src|onload|alert|two)", text)


def test_page_shows_every_text_as_it_was_written(hostile: Path) -> None:
    words = Page((hostile / "report/report.html").read_text(encoding="utf-8")).words
    for attack in ATTACKS.values():
        assert " ".join(attack.split()) in words, attack


def test_policy_of_the_page_lets_nothing_in(hostile: Path) -> None:
    page = Page((hostile / "report/report.html").read_text(encoding="utf-8"))
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'", rules["script-src"])
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    allowed = " ".join(value for key, value in rules.items() if key != "style-src")
    assert "unsafe" not in allowed
    assert "http" not in policy
    assert "*" not in policy


def test_pdf_shows_the_texts_and_does_nothing(hostile: Path) -> None:
    reader = PdfReader(hostile / "report/report.pdf")
    text = "".join("".join(page.extract_text().split()) for page in reader.pages)
    for attack in ("script", "handler", "template"):
        assert "".join(ATTACKS[attack].split()) in text, attack
    raw = (hostile / "report/report.pdf").read_bytes()
    assert not re.search(rb"/(JavaScript|JS|Launch|SubmitForm|EmbeddedFile)\b", raw)
    for page in reader.pages:
        for annotation in page.get("/Annots") or []:
            action = annotation.get_object().get("/A")
            assert not action or "/URI" not in action.get_object(), action


def test_figures_and_their_data_stay_in_their_folder(hostile: Path) -> None:
    names = {path.name for path in (hostile / "report").rglob("*") if path.is_file()}
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names)
    for figure in (hostile / "report/figures").glob("*.svg"):
        assert "<script" not in figure.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "report:/etc/passwd",
        "http://127.0.0.1/",
        "https://example.org/x.png",
        "ftp://example.org/",
        "data:text/html,<script>",
        "font:../../../../etc/passwd",
        "font:",
        "figure:other",
        "figure:../secret",
        "FILE:///etc/passwd",
        "javascript:alert(1)",
    ],
)
def test_pdf_fetches_nothing_but_its_own_fonts_and_figures(address: str) -> None:
    from weasyprint.urls import FatalURLFetchingError

    with pytest.raises(FatalURLFetchingError, match="may not fetch"):
        _fetcher({"mine": b"<svg/>"}).fetch(address)


def test_class_folders_are_read_as_names_and_written_as_json(tmp_path: Path) -> None:
    """A user's folders may be called anything that a file system allows."""
    names = ["<script>alert(1)<", "$(touch x)", "a\nb", '"; rm -rf "']
    for name in names:
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (8, 8), (index * 60, 0, 0)).save(
                tmp_path / "images" / name / f"{index}.png"
            )
    dataset = data.prepare(f"folder:{tmp_path / 'images'}")
    assert sorted(dataset.classes) == sorted(names)
    assert json.loads(json.dumps(dataset.classes)) == list(dataset.classes)
    data.save(dataset, tmp_path / "cache.pt")
    assert data.load(tmp_path / "cache.pt").classes == dataset.classes
