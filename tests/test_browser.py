"""The page in a real browser: silent, both schemes, every width, by keyboard and without script."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from artefacts import keep
from conftest import REPOSITORY
from report_study import rendered_study, report_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
WIDTHS = (320, 360, 480, 640, 700, 800, 900, 1000, 1024, 1280, 1920, 2560, 3840)
SCHEMES = ("light", "dark")
STUDIES = ("full", "poor", "wide", "full.zh")
AXE = REPOSITORY / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
Opener = Callable[..., "playwright.Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: "playwright.Browser") -> Iterator[Opener]:
    """`visit(study, width=1280, scheme="light", script="")` opens its page, `script` run first."""
    contexts = []

    def opener(
        name: str = "full",
        *,
        width: int = 1280,
        scheme: str = "light",
        script: str = "",
        **more: Any,
    ) -> "playwright.Page":
        size = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme, **more))
        page = contexts[-1].new_page()
        if script:
            page.add_init_script(script)
        page.goto(address(name))
        return page

    yield opener
    for context in contexts:
        context.close()


@pytest.fixture
def page(visit: Opener) -> "playwright.Page":
    return visit()


def address(name: str) -> str:
    return report_of(name).as_uri()


@pytest.mark.parametrize("name", STUDIES)
def test_it_loads_without_a_message_or_a_request(browser: "playwright.Browser", name: str) -> None:
    messages: list[str] = []
    requests: list[str] = []
    context = browser.new_context(color_scheme="light")
    opened = context.new_page()
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("dialog", lambda dialog: messages.append(dialog.message))
    opened.goto(address(name))
    opened.emulate_media(color_scheme="dark")
    opened.wait_for_timeout(200)
    context.close()
    assert messages == []
    assert requests == [address(name)]


@pytest.mark.parametrize("name", STUDIES)
def test_nothing_is_wider_than_the_window(visit: Opener, name: str) -> None:
    opened = visit(name)
    opened.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for width in WIDTHS:
        opened.set_viewport_size({"width": width, "height": 800})
        reached = opened.evaluate("document.documentElement.scrollWidth")
        assert reached <= width, f"at {width} px the page is {reached} px wide"


SEEN = [("full", scheme, width) for scheme in SCHEMES for width in (320, 1280)]
SEEN += [("poor", "light", 1280), ("wide", "dark", 320), ("full.zh", "light", 1280)]


@pytest.mark.parametrize(("name", "scheme", "width"), SEEN)
def test_axe_finds_no_violation(
    visit: Opener, axe: str, name: str, scheme: str, width: int
) -> None:
    opened = visit(name, width=width, scheme=scheme, script=axe)
    keep(f"html-{name}-{scheme}-{width}", lambda path: opened.screenshot(path=path, full_page=True))
    assert violations(opened) == []


def test_axe_finds_no_violation_in_an_enlarged_figure(visit: Opener, axe: str) -> None:
    opened = visit(script=axe)
    opened.click(".enlarge >> nth=0")
    keep("html-full-enlarged", lambda path: opened.screenshot(path=path))
    assert violations(opened) == []


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci --prefix tests/browser")
    return AXE.read_text(encoding="utf-8")


def violations(page: "playwright.Page") -> list[str]:
    """What axe-core holds against the page as it stands, by all its rules, best practice too."""
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert len(found["passes"]) > 15  # it did look
    return [
        f"{rule['id']}: {rule['help']}: {node['html'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def test_the_system_chooses_the_colours_and_the_switch_overrules_it(visit: Opener) -> None:
    opened = visit(scheme="dark")

    def paper() -> str:
        return opened.evaluate("getComputedStyle(document.body).backgroundColor")

    def ink() -> str:
        return opened.evaluate("getComputedStyle(document.querySelector('figure text')).fill")

    assert paper() == "rgb(21, 23, 26)"
    assert ink() == "rgb(232, 230, 225)"
    opened.click("#scheme")
    assert (paper(), ink()) == ("rgb(255, 255, 255)", "rgb(27, 27, 27)")
    opened.click("#scheme")
    assert paper() == "rgb(21, 23, 26)"
    opened.reload()
    assert "dark" in opened.inner_text("#scheme")


def test_a_table_sorts_up_and_down_by_keyboard(page: "playwright.Page") -> None:
    table = page.locator("#arms ~ .scroll table").first
    head = table.locator("thead th", has_text="Mean").locator("button")
    head.focus()
    for key, sign in (("Enter", 1), ("Space", -1)):
        page.keyboard.press(key)
        column = table.locator("thead th").all_inner_texts()
        index = next(i for i, words in enumerate(column) if "Mean" in words)
        cells = table.locator(f"tbody tr > :nth-child({index + 1})").all_inner_texts()
        means = [sign * float(cell) for cell in cells]
        assert means == sorted(means)
    assert table.locator("th[aria-sort=descending]").count() == 1


def test_verdicts_sort_by_p_and_not_by_its_text(page: "playwright.Page") -> None:
    page.click(".verdicts thead th:has-text('Adjusted') button")
    cells = page.locator(".verdicts tbody td[data-label='Adjusted p']")
    values = [float(cell.get_attribute("data-sort") or 0) for cell in cells.all()]
    assert values == sorted(values)
    assert values[-1] == 2  # not tested: last


def test_an_ordering_lights_up_in_every_figure(page: "playwright.Page") -> None:
    key = page.locator("button[data-highlight='conv-bn-act']").first
    key.click()
    assert key.get_attribute("aria-pressed") == "true"
    faded = "getComputedStyle(document.querySelector('#fig-{} [data-o={}]')).opacity"
    page.wait_for_timeout(250)
    for figure in ("accuracy", "learning"):
        assert page.evaluate(faded.format(figure, "act-bn-conv")) == "0.12"
        assert page.evaluate(faded.format(figure, "conv-bn-act")) == "1"
    key.click()
    page.wait_for_timeout(250)
    assert page.evaluate(faded.format("accuracy", "act-bn-conv")) == "1"


def test_the_contents_follow_the_reader(page: "playwright.Page") -> None:
    page.evaluate("document.getElementById('limits').scrollIntoView({behavior: 'instant'})")
    page.wait_for_function(
        "document.querySelector('.toc a[aria-current]')?.getAttribute('href') === '#limits'"
    )


def test_the_data_of_a_figure_can_be_saved(page: "playwright.Page", tmp_path: Path) -> None:
    with page.expect_download() as begun:
        page.click("#fig-accuracy a[download]")
    begun.value.save_as(tmp_path / "data.csv")
    assert begun.value.suggested_filename == "accuracy.csv"
    beside = rendered_study("full") / "report" / "figures" / "accuracy.csv"
    assert (tmp_path / "data.csv").read_bytes() == beside.read_bytes()


def test_every_sortable_column_sorts_both_ways_and_keeps_its_rows(page: "playwright.Page") -> None:
    found = page.evaluate(SORTED)
    assert len(found) > 20
    assert [column for column in found if column["wrong"]] == []


SORTED = """() => {
  const found = [];
  const key = (row, i) => {
    const cell = row.cells[i];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const before = [...body.rows].map((row) => row.textContent).sort().join();
    table.querySelectorAll("thead th").forEach((head, i) => {
      const button = head.querySelector("button");
      if (!button) return;
      for (const way of ["ascending", "descending"]) {
        button.click();
        const keys = [...body.rows].map((row) => key(row, i));
        if (way === "descending") keys.reverse();
        let wrong = head.getAttribute("aria-sort") === way ? "" : "aria-sort";
        if ([...body.rows].map((row) => row.textContent).sort().join() !== before) wrong = "rows";
        keys.slice(1).forEach((next, k) => {
          const numbers = typeof next === "number" && typeof keys[k] === "number";
          if (numbers && keys[k] > next) wrong = "order";
        });
        found.push({ table: table.caption.textContent, column: head.textContent, way, wrong });
      }
    });
  }
  return found;
}"""


def test_each_filter_shows_its_claims_alone_in_table_and_text(page: "playwright.Page") -> None:
    total = page.locator(".verdicts tbody tr").count()
    shown = 0
    for button in page.locator("button[data-filter]:not([data-filter=all])").all():
        button.focus()
        page.keyboard.press("Enter")
        word = button.get_attribute("data-filter")
        assert button.get_attribute("aria-pressed") == "true"
        rows = page.locator(".verdicts tbody tr:visible")
        verdicts = {row.get_attribute("data-verdict") for row in rows.all()}
        assert verdicts == {word}
        assert page.locator("article.claim:visible").count() == rows.count()
        assert page.inner_text(".filters .count") == f"{rows.count()} of {total} claims"
        shown += rows.count()
    assert shown == total
    page.click("button[data-filter=all]")
    assert page.locator(".verdicts tbody tr:visible").count() == total


def test_a_link_to_a_hidden_claim_brings_it_back(page: "playwright.Page") -> None:
    page.click("button[data-filter='not tested']")
    assert not page.is_visible("#claim-E5")
    page.evaluate("location.hash = '#claim-E5'")
    page.wait_for_selector("#claim-E5", state="visible")


def test_every_figure_enlarges_by_keyboard_and_closes_again(page: "playwright.Page") -> None:
    buttons = page.locator(".figure .enlarge").all()
    assert len(buttons) == page.locator("figure.figure").count() > 8
    for button in buttons:
        button.focus()
        page.keyboard.press("Enter")
        assert page.locator("dialog[open] svg").count() == 1
        small = button.locator("xpath=ancestor::figure").locator("svg").bounding_box()
        large = page.locator("dialog svg").bounding_box()
        assert large["width"] > small["width"]
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0
        assert button.evaluate("node => node === document.activeElement")
    buttons[0].click()
    page.click("dialog button")
    assert page.locator("dialog[open]").count() == 0
    buttons[0].click()
    page.mouse.click(3, 3)  # beside it
    assert page.locator("dialog[open]").count() == 0


def test_every_control_is_reached_by_keyboard_and_shows_it(visit: Opener) -> None:
    page = visit("poor", reduced_motion="reduce")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    controls = page.evaluate(CONTROLS)
    assert controls > 50
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(controls):
        focus = page.evaluate(FOCUS)
        assert focus["outline"] >= 2 and focus["contrast"] >= 3, focus
        assert focus["seen"], focus
        reached.add(focus["number"])
        page.keyboard.press("Tab")
    assert len(reached) == controls


COLOURS = """
  const curve = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
  const over = ([r, g, b, a], under) =>
    [r, g, b].map((v, i) => v * a + under[i] * (1 - a)).concat(1);
  const luminance = ([r, g, b]) =>
    0.2126 * curve(r / 255) + 0.7152 * curve(g / 255) + 0.0722 * curve(b / 255);
  const ratio = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };
  const behind = (node) => {
    let colour = [0, 0, 0, 0];
    for (let n = node; n && colour[3] < 1; n = n.parentElement) {
      const own = parse(getComputedStyle(n).backgroundColor);
      if (own[3] === 1) colour = own;
    }
    return colour[3] ? colour : [255, 255, 255, 1];
  };
"""
CONTROLS = """() => {
  const controls = [...document.querySelectorAll(
    "a[href], button, summary, input, select, textarea, [tabindex='0']")]
    .filter((node) => node.checkVisibility({ visibilityProperty: true }));
  controls.forEach((node, i) => { node.dataset.number = i; });
  return controls.length;
}"""
FOCUS = (
    "() => {"
    + COLOURS
    + """
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const box = node.getBoundingClientRect();
  return {
    number: node.dataset.number,
    what: node.outerHTML.slice(0, 80),
    outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    contrast: ratio(parse(style.outlineColor), behind(node.parentElement)),
    seen: box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0,
  };
}"""
)


@pytest.mark.parametrize("name", STUDIES)
def test_no_figure_cuts_its_text(visit: Opener, name: str) -> None:
    assert visit(name).evaluate(CUT) == []


CUT = """() => {
  const cut = [];
  for (const drawing of document.querySelectorAll("figure svg")) {
    const frame = drawing.getBoundingClientRect();
    for (const text of drawing.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      const out = Math.max(frame.left - box.left, box.right - frame.right,
        frame.top - box.top, box.bottom - frame.bottom);
      if (out > 0.5) cut.push(`${drawing.closest("figure").id}: ${text.textContent} (${out} px)`);
    }
  }
  return cut;
}"""


def test_without_script_the_page_is_complete(visit: Opener) -> None:
    page = visit(java_script_enabled=False, scheme="dark")
    assert page.locator("button:visible").count() == 0
    assert page.locator(".verdicts tbody tr:visible").count() == 18
    assert page.locator("article.claim:visible").count() == 18
    assert page.locator("figure svg:visible").count() == page.locator("figure").count()
    page.click("details summary >> nth=0")
    assert page.locator("details[open] table").first.is_visible()
    keep("html-full-without-script", lambda path: page.screenshot(path=path))


def test_it_prints_on_white_without_its_controls(visit: Opener) -> None:
    page = visit(scheme="dark")
    page.emulate_media(media="print")
    controls = ".tools, .filters, .legend button, .enlarge, .skip, nav"
    assert page.locator(controls).locator("visible=true").count() == 0
    arrow = "getComputedStyle(document.querySelector('th button'), '::after').content"
    assert page.evaluate(arrow) == "none"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for scheme in SCHEMES:
        page.emulate_media(media="print", color_scheme=scheme)
        poorest = page.evaluate(CONTRAST)
        assert poorest["ratio"] >= 4.5, (scheme, poorest)


def test_the_printed_page_holds_every_claim_within_the_paper(visit: Opener, tmp_path: Path) -> None:
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext (poppler-utils) is not installed")
    page = visit()
    page.pdf(path=tmp_path / "printed.pdf", format="A4", print_background=False)
    boxes = subprocess.run(
        ["pdftotext", "-bbox", str(tmp_path / "printed.pdf"), "-"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    right = [float(x) for x in re.findall(r'xMax="([\d.]+)"', boxes)]
    assert max(right) < 595
    words = unescape("".join(re.findall(r">([^<]+)</word>", boxes)))
    sentences = page.locator(".verdicts tbody th").all_text_contents()
    assert len(sentences) == 18
    for sentence in sentences:
        assert "".join(sentence.split()) in words


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_has_contrast_enough_in_the_page_and_in_its_figures(
    visit: Opener, scheme: str
) -> None:
    """WCAG AA: 4.5 to 1, on the colours that the browser computed; axe-core skips drawings."""
    poorest = visit(scheme=scheme).evaluate(CONTRAST)
    assert poorest["ratio"] >= 4.5, poorest
    assert poorest["drawn"] > 300


CONTRAST = (
    "() => {"
    + COLOURS
    + """
  // what a drawing has painted beneath a text: the last filled shape around its centre
  const beneath = (text) => {
    const box = text.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    let colour = behind(text);
    for (const shape of text.ownerSVGElement.querySelectorAll("path, rect")) {
      if (shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_PRECEDING) continue;
      const around = shape.getBoundingClientRect();
      if (x < around.left || x > around.right || y < around.top || y > around.bottom) continue;
      const style = getComputedStyle(shape);
      if (style.fill === "none") continue;
      const here = new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse());
      if (!shape.isPointInFill(here)) continue;
      const fill = parse(style.fill);
      colour = over([...fill.slice(0, 3), fill[3] * style.fillOpacity * style.opacity], colour);
    }
    return colour;
  };
  let poorest = { ratio: 99 }, drawn = 0;
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.getClientRects().length || node.closest("script, style")) continue;
    const inside = node.closest("svg");
    if (inside && node.tagName !== "text") continue;
    drawn += Boolean(inside);
    const style = getComputedStyle(node);
    const found = inside
      ? ratio(parse(style.fill), beneath(node)) : ratio(parse(style.color), behind(node));
    if (found < poorest.ratio) poorest = { ratio: found, text: node.textContent.slice(0, 40) };
  }
  return { ...poorest, drawn };
}"""
)
