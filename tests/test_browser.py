"""The page in a real browser: silent, both schemes, every width, by keyboard and without script."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_study import rendered_study

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
WIDTHS = (320, 360, 480, 640, 700, 800, 900, 1000, 1024, 1280, 1920, 3840)


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
def page(browser: "playwright.Browser") -> Iterator["playwright.Page"]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened = context.new_page()
    opened.goto(address("full"))
    yield opened
    context.close()


def address(name: str) -> str:
    return (rendered_study(name) / "report" / "report.html").as_uri()


@pytest.mark.parametrize("name", ["full", "poor", "wide"])
def test_it_loads_without_a_message_or_a_request(
    browser: "playwright.Browser", name: str, tmp_path: Path
) -> None:
    messages: list[str] = []
    requests: list[str] = []
    opened = browser.new_page()
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("dialog", lambda dialog: messages.append(dialog.message))
    opened.goto(address(name))
    opened.wait_for_timeout(200)
    opened.screenshot(path=str(tmp_path / f"{name}.png"), full_page=True)
    opened.close()
    assert messages == []
    assert requests == [address(name)]


@pytest.mark.parametrize("name", ["full", "wide"])
def test_nothing_is_wider_than_the_window(browser: "playwright.Browser", name: str) -> None:
    opened = browser.new_page()
    opened.goto(address(name))
    for width in WIDTHS:
        opened.set_viewport_size({"width": width, "height": 800})
        reached = opened.evaluate("document.documentElement.scrollWidth")
        assert reached <= width, f"at {width} px the page is {reached} px wide"
    opened.close()


def test_the_system_chooses_the_colours_and_the_switch_overrules_it(
    browser: "playwright.Browser",
) -> None:
    context = browser.new_context(color_scheme="dark")
    opened = context.new_page()
    opened.goto(address("full"))

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
    context.close()


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


def test_the_filter_hides_claims_and_a_link_brings_them_back(page: "playwright.Page") -> None:
    total = page.locator(".verdicts tbody tr").count()
    page.click("button[data-filter='not tested']")
    left = page.locator(".verdicts tbody tr:visible").count()
    assert 0 < left < total
    assert page.inner_text(".filters .count") == f"{left} of {total} claims"
    assert not page.is_visible("#claim-E5")
    page.evaluate("location.hash = '#claim-E5'")
    page.wait_for_selector("#claim-E5", state="visible")
    assert page.locator(".verdicts tbody tr:visible").count() == total


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


def test_a_figure_enlarges_and_escape_closes_it(page: "playwright.Page") -> None:
    button = page.locator("#fig-accuracy .enlarge")
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] svg").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.className") == "enlarge"


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


def test_every_control_is_reached_by_keyboard_and_shows_it(page: "playwright.Page") -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    assert {"A", "BUTTON"} <= reached


def test_without_script_the_page_is_complete(browser: "playwright.Browser") -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(address("full"))
    assert opened.locator("button:visible").count() == 0
    assert opened.locator(".verdicts tbody tr:visible").count() == 18
    assert opened.locator("figure svg:visible").count() == opened.locator("figure").count()
    opened.click("details summary >> nth=0")
    assert opened.locator("details[open] table").first.is_visible()
    context.close()


def test_it_prints_without_its_controls(page: "playwright.Page") -> None:
    page.emulate_media(media="print")
    controls = ".tools, .filters, .legend button, .enlarge, .skip, nav"
    assert page.locator(controls).locator("visible=true").count() == 0
    arrow = "getComputedStyle(document.querySelector('th button'), '::after').content"
    assert page.evaluate(arrow) == "none"


def test_text_has_contrast_enough_in_both_schemes(page: "playwright.Page") -> None:
    """WCAG AA: 4.5 to 1, measured on the colours that the browser computed."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(50)
        poorest = page.evaluate(CONTRAST)
        assert poorest["ratio"] >= 4.5, (scheme, poorest)


CONTRAST = """() => {
  const curve = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const channel = (v) => curve(v / 255);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const colour = parse(getComputedStyle(n).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let poorest = { ratio: 99 };
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.getClientRects().length || node.closest("svg, script, style")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(node).color)), luminance(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < poorest.ratio) poorest = { ratio, text: node.textContent.slice(0, 40) };
  }
  return poorest;
}"""
