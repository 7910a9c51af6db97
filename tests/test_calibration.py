"""The method on simulated studies, in small; scripts/calibrate.py does the same at length.

Bounds are 5 %, 3 points or the nominal coverage, plus three standard errors of the simulation.
"""

import math
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bnorder.claims import Claim, load_claims
from bnorder.errors import UserError
from bnorder.report.calibration import plot
from bnorder.statistics import calibration
from bnorder.statistics import estimates as est
from bnorder.statistics.calibration import (
    World,
    _planted,
    _sd_of,
    any_wrong,
    article_grid,
    calibrate,
    coverage,
    simulate,
)
from tests.test_claims import ARTICLE, one

CLAIMS = {c.id: c for c in load_claims(ARTICLE).claims}


def three_errors(share: float, studies: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / studies)


@pytest.mark.parametrize("family", ["experiment", "theory"])
@pytest.mark.parametrize(
    "world",
    [World(seeds=8), World(seeds=8, skewed=True), World(8, n_test=360, sd_run=0.5, sd_seed=0.4)],
    ids=["normal", "skewed", "ties"],
)
def test_a_family_without_effect_seldom_gets_a_wrong_verdict(family: str, world: World) -> None:
    members = [c for c in CLAIMS.values() if c.family == family]
    grid = article_grid(world.seeds, ("mnist", "kmnist"))
    hits = any_wrong(simulate(members, grid, world, 800, np.random.default_rng(11)))
    assert hits.mean() <= 0.05 + three_errors(0.05, 800)


def test_a_test_without_holm_would_be_caught() -> None:
    """The check has teeth: the same studies, each claim alone, err far more often together."""
    members = [c for c in CLAIMS.values() if c.family == "experiment"]
    grid, world = article_grid(8), World(seeds=8)
    alone = [any_wrong(simulate([c], grid, world, 800, np.random.default_rng(11))) for c in members]
    assert np.any(alone, axis=0).mean() > 0.10


@pytest.mark.parametrize(("name", "word"), [("E2", "supported"), ("T5", "negligible")])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_effect_at_the_margin_seldom_passes_for_smaller(name: str, word: str, sign: int) -> None:
    claim, world = CLAIMS[name], World(sd_run=0.2, base=90)
    effect = _planted(claim.parts[0], sign * 0.2, world.seeds)
    rng = np.random.default_rng(5)
    found = simulate([claim], article_grid(world.seeds), world, 1000, rng, effect)[0]
    share = np.mean([w == word for w in found.words])
    assert word in found.wrong
    assert share <= 0.05 + three_errors(0.05, 1000)


def planted(claim: Claim, power: float, sign: int, n: int = 10) -> list[str]:
    world = World(seeds=n, base=97)
    size = est.smallest_detectable(_sd_of(claim.parts[0], world), n, 0.05, power)
    effect = _planted(claim.parts[0], sign * size, n)
    rng = np.random.default_rng(8)
    return list(simulate([claim], article_grid(n), world, 2000, rng, effect)[0].words)


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("sign", "word"), [(1, "supported"), (-1, "contradicted")])
def test_planted_effects_are_found_as_often_as_predicted(
    power: float, sign: int, word: str
) -> None:
    words = planted(CLAIMS["E4"], power, sign)
    other = {"supported": "contradicted", "contradicted": "supported"}[word]
    share = words.count(word) / len(words)
    assert abs(share - power) <= 0.03 + three_errors(power, len(words)) / 3
    assert words.count(other) / len(words) < 0.01


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    found = coverage(2000, seed=3, slow=60)
    for row in found.itertuples():
        assert row.share >= row.nominal - 0.015 - three_errors(row.nominal, row.studies), row


def test_too_few_simulated_studies_are_refused() -> None:
    with pytest.raises(UserError, match="--studies is 5; expected at least 100"):
        calibrate(ARTICLE, "nowhere", 5, 1)


UNTESTABLE = {
    "another variant": ({"where": {"variant": "wide"}}, "claim A1: variant: 'wide': expected one"),
    "another data set": (
        {"where": {"dataset": "cifar10"}},
        "claim A1: .*CIFAR-10.*; expected a claim on what is simulated: dataset mnist, kmnist;",
    ),
    "the rest of one data set": (
        {"where": {"dataset": "rest"}},
        "claim A1: .*; expected a claim on what is simulated: dataset mnist; ordering bn-act-conv",
    ),
    "no direction": ({"type": "equivalence"}, "no claim of type direction in one part; expected"),
    "no margin": (
        {"measure": "test_loss"},
        "no claim in one part has a margin; expected at least one",
    ),
}


@pytest.mark.parametrize("case", UNTESTABLE)
def test_claims_that_cannot_be_simulated_are_refused(case: str, tmp_path: Path) -> None:
    changes, said = UNTESTABLE[case]
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"claims": [one(**changes)]}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"mine\.yaml: {said}"):
        calibrate(mine, tmp_path / "out", 100, 1)
    assert not (tmp_path / "out").exists()


SHARE = {"share": 0.04, "low": 0.03, "high": 0.05, "at_most": 0.05, "studies": 100}
MADE_UP = {
    "false_verdicts": [{"world": "normal", "family": "theory", **SHARE}],
    "margin_edges": [{"world": "normal", "claim": "E2", **SHARE}],
    "planted_effects": [
        {"skewed": skewed, "predicted": 0.8, "wrong_side": 0.0, **SHARE} for skewed in (True, False)
    ],
    "coverage": [{"interval": "t", "nominal": 0.95, "seeds": 5, "skewed": False, **SHARE}],
}


def test_the_time_left_is_said_for_all_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what their settings cost: those with many seeds come last, and take longest."""
    now, said = [0.0], list[str]()
    monkeypatch.setattr(calibration.time, "monotonic", lambda: now[0])
    pace = calibration.Pace(said.append)
    for table, costs in pace.costs.items():
        for cost in costs:
            now[0] += 2 * cost
            pace.setting_done(table)
    total = 2 * sum(map(sum, pace.costs.values()))
    lefts = [re.search(r"of \d+ settings, (\d):(\d\d):(\d\d) left in all$", line) for line in said]
    times = [3600 * int(m[1]) + 60 * int(m[2]) + int(m[3]) for m in lefts if m]
    assert len(times) == len(said) >= 15
    assert times == sorted(times, reverse=True)
    assert total - 20 < times[0] < total and times[-1] == 0


def test_every_setting_is_told_of() -> None:
    told: dict[str, int] = dict.fromkeys(calibration.settings_costs(), 0)

    def done(table: str) -> None:
        told[table] += 1

    claims = [CLAIMS["E4"]]
    calibration.false_verdicts(claims, 2, 1, partial(done, "false_verdicts"))
    calibration.margin_edges(claims, 2, 1, partial(done, "margin_edges"))
    calibration.planted_effects(claims, 2, 1, partial(done, "planted_effects"))
    coverage(5, 1, done=partial(done, "coverage"))
    assert told == {table: len(costs) for table, costs in calibration.settings_costs().items()}


def test_tables_findings_and_picture_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rows in MADE_UP.items():
        monkeypatch.setattr(calibration, name, lambda *_, done, rows=rows: pd.DataFrame(rows))
    tables = calibrate(ARTICLE, tmp_path, 100, 1)
    plot(tables, tmp_path / "calibration.svg")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) == {*(f"{name}.csv" for name in MADE_UP), "findings.txt", "calibration.svg"}
    assert files["calibration.svg"].startswith(b"<?xml")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        calibrate(ARTICLE, tmp_path, 100, 1)
    with pytest.raises(OSError, match="disk full"):
        plot(tables, tmp_path / "calibration.svg")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
