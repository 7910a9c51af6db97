"""Figures: what is drawn, that it can be read in grey and by all, and that it is the same twice."""

import csv
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml
from report_study import FULL, POOR, make_study, rendered_study

from bnorder.language.english import ENGLISH
from bnorder.ordering import Ordering
from bnorder.report import captions, look, svg
from bnorder.report.drawing import MOST_DOTS, MOST_PANELS, Drawing, beside, canvas, dots, drawn
from bnorder.report.figures import draw_all
from bnorder.report.panels import robust_limits
from bnorder.report.results import Results, load_results
from bnorder.report.tracing import plain
from bnorder.study import Study, load_study

SVG = "{http://www.w3.org/2000/svg}"
PAPERS = {"light": "#ffffff", "dark": "#15171a"}


def results_of(folder: Path) -> Results:
    study = load_study(folder / "study.yaml")
    return load_results(study, folder / "study.yaml", folder / "tables", folder / "analysis")


@pytest.fixture(scope="module")
def results() -> Results:
    return results_of(rendered_study("full"))


@pytest.fixture(scope="module")
def drawings(results: Results) -> dict[str, Drawing]:
    return {drawing.key: drawing for drawing in draw_all(results)}


def rows_of(drawing: Drawing) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(drawing.data)))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_every_figure_has_a_caption_an_alternative_text_and_its_data(
    drawings: dict[str, Drawing],
) -> None:
    assert {"accuracy", "heat", "blocks", "forest", "learning", "interaction", "claim-T5"} <= set(
        drawings
    )
    for drawing in drawings.values():
        assert len(drawing.caption) > 40
        assert len(drawing.alt) > 40
        assert drawing.rows == len(rows_of(drawing)) > 0
        assert ET.fromstring(drawing.svg).find(SVG + "title").text == drawing.alt


def test_figures_are_the_same_bytes_when_drawn_twice(
    results: Results, drawings: dict[str, Drawing]
) -> None:
    assert {d.key: d for d in draw_all(results)} == drawings


def test_text_in_figures_stays_text_and_stays_inside(drawings: dict[str, Drawing]) -> None:
    for drawing in drawings.values():
        root = ET.fromstring(drawing.svg)
        width, height = map(float, root.get("viewBox").split()[2:])
        texts = [t for t in root.iter(SVG + "text") if t.text]
        assert texts
        for text in texts:
            size = float(re.search(r"font-size: ([\d.]+)px", text.get("style"))[1])
            if "rotate(-90" in text.get("transform", ""):
                continue
            moved = re.match(r"translate\(([\d.-]+) ([\d.-]+)\)", text.get("transform", ""))
            x, y = map(float, moved.groups() if moved else (text.get("x"), text.get("y")))
            room = 0.62 * size * len(text.text)  # the widest that DejaVu Sans runs to
            anchor = (re.findall(r"text-anchor: (\w+)", text.get("style")) or ["start"])[0]
            left = x - {"start": 0, "middle": room / 2, "end": room}[anchor]
            assert left >= -8, (drawing.key, text.text)
            assert left + room <= width + 8, (drawing.key, text.text)
            assert 0 <= y <= height


@pytest.mark.parametrize(("inches", "lines"), [(2.4, 2), (5.6, 1)])
def test_a_long_label_beside_a_low_figure_takes_two_lines(inches: float, lines: int) -> None:
    figure = canvas(inches)
    room = beside(figure, "slope of the log gradient norm over the layers")
    (label,) = figure.texts
    assert label.get_text().count("\n") + 1 == lines
    assert (room > 0) == (lines == 2)
    figure.draw_without_rendering()
    box = label.get_window_extent()
    assert 0 <= box.y0 < box.y1 <= figure.bbox.height


def test_every_seed_is_in_the_data_of_the_accuracy_figure(
    results: Results, drawings: dict[str, Drawing]
) -> None:
    shown = {row["run"]: float(row["test_accuracy_pp"]) for row in rows_of(drawings["accuracy"])}
    runs = results.runs
    assert shown == dict(zip(runs["run"], runs["test_accuracy_pp"], strict=True))


def test_runs_far_below_the_rest_are_marked_at_the_edge(
    drawings: dict[str, Drawing],
) -> None:
    assert "Runs left of the axis are marked" in drawings["accuracy"].caption
    low, high = robust_limits(np.array([10.0, 98.1, 98.2, 98.3, 98.4, 98.5]))
    assert 97 < low < 98.1
    assert 98.5 < high < 99
    assert robust_limits(np.array([np.nan]))[0] == 0


def test_a_caption_names_the_best_and_the_worst_mean(
    results: Results, drawings: dict[str, Drawing]
) -> None:
    means = results.table("arms")["mean"]
    caption = plain(drawings["accuracy"].caption)
    assert f"The highest mean is {means.max():.2f} %" in caption
    assert f"the lowest {means.min():.2f} %" in caption


def test_a_claims_figure_holds_its_contrasts_seed_by_seed(
    results: Results, drawings: dict[str, Drawing]
) -> None:
    for verdict in results.claims:
        values = [float(v) for part in verdict["parts"] for v in part["values"]]
        if not values:
            assert f"claim-{verdict['id']}" not in drawings
            continue
        shown = rows_of(drawings[f"claim-{verdict['id']}"])
        assert [float(row["value"]) for row in shown] == values


def test_a_threshold_that_no_run_reached_gets_no_figure(tmp_path: Path) -> None:
    few = {"seeds": 3, "activations": ["relu"], "depths": [2], "thresholds": [90, 100]}
    folder = make_study(tmp_path, FULL | few)
    keys = {d.key for d in draw_all(results_of(folder))}
    assert "convergence-90" in keys
    assert "convergence-100" not in keys


def test_the_diagram_follows_the_ordering(drawings: dict[str, Drawing]) -> None:
    for row in rows_of(drawings["blocks"]):
        assert row["layers"].split() == list(Ordering(row["ordering"]).layers)
    texts = [t.text for t in ET.fromstring(drawings["blocks"].svg).iter(SVG + "text")]
    first = look.in_order(FULL["orderings"])[0]
    start = texts.index(look.ordering_words(first))
    layers = [look.LAYER_WORDS[layer] for layer in Ordering(first).layers]
    drawn = [t for t in texts[start:] if t in {"Conv", "BN", "act"}][:6]
    assert drawn == layers * 2


def test_every_permutation_has_a_colour_that_both_papers_bear() -> None:
    for light, dark in look.COLOURS.values():
        assert contrast(light, PAPERS["light"]) >= 3
        assert contrast(dark, PAPERS["dark"]) >= 3


def test_orderings_can_be_told_apart_in_grey() -> None:
    """By the class's marker and line; within a class by lightness."""
    assert len(set(look.MARKERS.values())) == len(look.LINES) == 3
    for bn_class in ("bn_first", "act_first"):
        members = [o for o in look.COLOURS if Ordering(o).bn_class == bn_class]
        for index in (0, 1):
            levels = sorted(luminance(look.COLOURS[o][index]) for o in members)
            assert min(b / a for a, b in pairwise(levels)) > 1.15


def test_inline_drawings_share_no_ids_and_follow_the_pages_colours(
    drawings: dict[str, Drawing],
) -> None:
    seen: set[str] = set()
    for drawing in drawings.values():
        markup = svg.for_page(drawing.svg, prefix=drawing.key, alt=drawing.alt)
        ids = re.findall(r' id="([^"]+)"', markup)
        assert not seen.intersection(ids)
        seen.update(ids)
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', markup)) <= set(ids)
        assert look.INK not in markup
        assert "<title" not in markup
        assert "<metadata" not in markup


def test_no_sheet_covers_the_edges_that_show_where_to_scroll(
    drawings: dict[str, Drawing],
) -> None:
    for key, drawing in drawings.items():
        page = svg.for_page(drawing.svg, prefix=key, alt="")
        width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', page).groups()  # type: ignore[union-attr]
        assert f"M 0 {height} L {width} {height}" not in page
        assert f"M 0 {height} L {width} {height}" in " ".join(drawing.svg.split())


def test_words_of_a_model_term() -> None:
    assert captions.term_words("class[bn_first]:depth[2]", ENGLISH) == "BN first × 2 blocks"
    assert captions.term_words("activation[leaky_relu]", ENGLISH) == "LeakyReLU"


def test_strip_of_many_values_shows_a_hundred_from_the_least_to_the_greatest() -> None:
    values = np.random.default_rng(0).normal(size=3334)
    shown = dots(values)
    assert len(shown) == len(set(shown)) == MOST_DOTS
    assert {values.argmin(), values.argmax()} <= set(shown)
    ranks = np.sort(np.argsort(np.argsort(values))[shown])
    assert set(np.diff(ranks)) <= {33, 34}, "not evenly spaced in rank"
    assert list(dots(values[:MOST_DOTS])) == list(range(MOST_DOTS)), "a few are all shown"


def test_study_of_many_seeds_draws_and_lists_a_hundred_and_says_so(tmp_path: Path) -> None:
    many = MOST_DOTS + 30
    claimed = {"claims": "claims/article.yaml", "datasets": ["mnist"], "depths": [2, 5]}
    folder = make_study(tmp_path, POOR | claimed | {"seeds": many}, explore=False)
    drawings = {d.key: d for d in draw_all(results_of(folder))}
    accuracy, claim = drawings["accuracy"], drawings["claim-T5"]
    for drawing, strips in ((accuracy, 4), (claim, 1)):
        assert drawing.rows == strips * MOST_DOTS, drawing.key
        assert f"{MOST_DOTS} are drawn" in drawing.caption
    drawn = ET.fromstring(accuracy.svg).iter(f"{SVG}use")
    assert sum(1 for _ in drawn) < 2 * 4 * MOST_DOTS


def test_vast_grid_is_drawn_in_part_with_its_least_and_greatest_depth(tmp_path: Path) -> None:
    def study_from(raw: dict[str, Any]) -> Study:
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return load_study(file)

    vast = POOR | {"depths": list(range(1, 41)), "activations": ["relu", "elu", "gelu"]}
    study = study_from(vast)
    shown = drawn(study)
    assert len(shown.activations) * len(shown.depths) <= MOST_PANELS
    assert (shown.depths[0], shown.depths[-1], len(shown.depths)) == (1, 40, 16)
    assert shown.activations == study.activations
    assert drawn(shown) == shown
    small = study_from(FULL)
    assert drawn(small) == small
