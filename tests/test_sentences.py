"""Sentences say what the numbers say: every verdict x type x edge, read back by a strict reader."""

import itertools
import math
import re
import string
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bnorder.claims import VERDICTS, Claim, Gap, Moved, Verdict
from bnorder.language.english import ENGLISH
from bnorder.language.printing import number, p_value
from bnorder.language.sentences import Writer
from bnorder.statistics.contrasts import Grid, RunTable
from bnorder.statistics.verdicts import judge, untested
from tests.test_verdicts import SPREAD, claim, compound, runs

NUMBER = r"([+\u2212]?\d+(?:\.\d+)?)"
TYPES: dict[str, Claim] = {
    "direction": claim(),
    "two-sided direction": claim(two_sided=True),
    "interaction": claim("interaction"),
    "two-sided interaction": claim("interaction", two_sided=True),
    "equivalence": claim("equivalence"),
    "threshold": claim("threshold", minus=None, threshold=99.0),
    "several parts": compound(1, -1),
    "parts that agree": compound(1, 1),
}
# Where the truth may lie: nowhere, a hair off zero, just inside and outside the margin, far.
SHIFTS = (0.0, 0.0012, -0.0012, 0.1, -0.1, 0.199, 0.201, 0.5, -0.5)
SPREADS = (0.0, 1.0, 10.0)
SEEDS = (2, 5, 10)


def cases() -> list[Verdict]:
    found = []
    for shift, spread, n in itertools.product(SHIFTS, SPREADS, SEEDS):
        frame = runs(spread * SPREAD[:n] + shift, base=98.95, n_test=1_000_000)
        table = RunTable(frame, Grid.of_runs(frame))
        families = [replace(c, id=name, family=name) for name, c in TYPES.items()]
        crowd = [replace(claim(), id=f"crowd {i}", family="crowd") for i in range(8)]
        found += judge([*families, *crowd], table, resamples=0)[: len(families) + 1]
    return found


CASES = cases()


def test_the_table_covers_every_verdict_of_every_type() -> None:
    seen = {(v.claim.type, v.claim.two_sided, v.verdict) for v in CASES}
    both = {"supported", "contradicted", "inconclusive"}
    expected = {
        *(("direction", False, w) for w in both | {"negligible"}),
        *(("direction", True, w) for w in ("supported", "negligible", "inconclusive")),
        *(("interaction", False, w) for w in both | {"negligible"}),
        *(("interaction", True, w) for w in ("supported", "negligible", "inconclusive")),
        *(("equivalence", False, w) for w in both),
        *(("threshold", False, w) for w in both),
    }
    assert expected <= seen


def value(text: str) -> float:
    return float(text.replace("\u2212", "-").replace("+", ""))


def shown_p(text: str, name: str) -> float | None:
    """The p-value that the text prints of a test; `< .0001` counts as 0."""
    match = re.search(name + r" p (=|<) ([\d.]+)", text)
    return None if match is None else (0.0 if match[1] == "<" else float(match[2]))


def read_part(text: str, kind: str, margin: float) -> None:
    """A reader who knows only the sentence: do its words agree with its numbers?"""
    interval = re.search(rf"95 % interval {NUMBER} to {NUMBER}", text)
    assert interval, text
    low, high = value(interval[1]), value(interval[2])
    assert low <= high, text
    stated = re.search(rf"(?:, |of |is |by |lies ){NUMBER} percentage points", text)
    assert stated, text
    mean = value(stated[1])
    if "against the claim" in text or "points below" in text:
        mean = -mean
        assert mean < 0, text
    if "in the claimed direction" in text or "points above" in text:
        assert mean > 0, text
    digits = min(len(t.partition(".")[2]) for t in (stated[1], interval[1], interval[2]))
    rounding = 1.01 * 10.0**-digits
    assert low - rounding <= mean <= high + rounding, text
    p, tost = shown_p(text, "sign-flip"), shown_p(text, "TOST")
    if kind == "equivalence":
        assert (tost is None) != (shown_p(text, "beyond the margin") is None), text
    else:
        assert p is not None, text
    if any(words in text for words in ("claimed direction", "against", "there is a difference")):
        assert p is not None and p < 0.05, text
    if "is shown to lie within" in text:
        assert tost is not None and tost < 0.05 and abs(mean) < margin, text
        inner = re.search(rf"90 % interval {NUMBER} to {NUMBER}", text)
        assert inner and -margin < value(inner[1]) <= value(inner[2]) < margin, text
    if "is shown to lie beyond" in text:
        assert low > margin or high < -margin, text
    if "too uncertain" in text or "stays open" in text:
        assert p is not None and p >= 0.05, text
    beyond = shown_p(text, "beyond the margin")
    if "does not hold up" in text:
        assert any(found is not None and found < 0.05 for found in (p, tost, beyond)), text
    if "neither to lie within" in text:
        assert tost is not None and tost >= 0.05, text
    if "lies within" in text:
        assert abs(mean) < margin, text
    if "lies beyond" in text:
        assert beyond is not None and abs(mean) > margin, text


def read(v: Verdict, text: str) -> None:
    """The whole text: its verdict, its tests, and nothing that no test has shown."""
    assert not re.search(r"nan|inf\b|None|[{}]|  |\.\.", text), text
    assert text.endswith("."), text
    lowered = text.lower()
    for forbidden in ("no difference", "identical", "significant", "proves", "no effect was"):
        assert forbidden not in lowered, text
    assert text.startswith(ENGLISH.verdicts[v.verdict]), text
    if len(v.estimates) == 1:
        read_part(text, v.claim.type, v.estimates[0].margin or math.inf)
    holm = shown_p(text, "after Holm")
    assert holm is not None
    assert (holm < 0.05) == (v.verdict in ("supported", "contradicted")), text
    interval = re.search(rf"95 % interval {NUMBER} to {NUMBER}", text)
    crosses = interval and value(interval[1]) < 0 < value(interval[2])
    if len(v.estimates) > 1 and v.claim.type != "equivalence":
        assert not ("against one of them" in text and all(e.mean > 0 for e in v.estimates)), text
        against = v.p < 1 and any(e.mean < 0 for e in v.estimates)
        assert not ("for all of them" in text and against), text
    single = len(v.estimates) == 1 and v.claim.type != "equivalence"
    if single and crosses and v.verdict in ("supported", "contradicted"):
        assert "Another test disagrees" in text, text
    if "too small to matter" in text:
        assert all(e.tost_p < 0.05 for e in v.estimates), text


def test_every_text_agrees_with_its_own_numbers() -> None:
    writer = Writer()
    for v in CASES:
        read(v, writer.text(v))
        for e in v.estimates:
            part = writer.numbers(v.claim, e)
            assert "95 % interval" in part and f"n = {e.n} seeds" in part
            read_part(writer.statement(v.claim, e) + f" ({part})", v.claim.type, e.margin or 1e9)


def test_the_reader_catches_a_sentence_that_contradicts_itself() -> None:
    supported = judge_one(claim(), SPREAD + 0.5)
    text = Writer().text(supported)
    for wrong in (
        text.replace("in the claimed direction", "against the claim"),
        re.sub(r"sign-flip p . [.\d]+", "sign-flip p = .300", text),
        text.replace("95 % interval", "interval"),
        text.replace("Supported: the", "Supported: there is no difference; the"),
        re.sub(r"after Holm p . [.\d]+", "after Holm p = .051", text),
    ):
        assert wrong != text
        with pytest.raises(AssertionError):
            read(supported, wrong)


def test_not_tested_says_why() -> None:
    text = Writer().text(untested(claim(), "the study has no depth 5, only 2"))
    assert text == "Not tested: the study has no depth 5, only 2."


def test_inconclusive_says_what_could_have_been_found_and_what_would_settle_it() -> None:
    v = judge_one(claim(), 12 * SPREAD + 0.1)
    assert v.verdict == "inconclusive"
    text = Writer().text(v)
    assert re.search(r"With 10 seeds an effect of 0\.\d+ percentage points would have been", text)
    assert re.search(r"about \d+ seeds would settle it", text)


def test_several_parts_are_settled_by_all_of_them_or_by_one_that_speaks_against() -> None:
    pairs = (("bn-act-conv", "act-bn-conv"), ("conv-bn-act", "conv-act-bn"))
    writer = Writer()

    def outlook(
        *shifts: float, spread: float = 10, margin: float | None = None
    ) -> tuple[Verdict, list[int | None]]:
        parts = [replace(claim(plus=a, minus=b, margin=margin).parts[0], name=a) for a, b in pairs]
        both = replace(claim(), parts=tuple(parts))
        frame = runs(spread * SPREAD + shifts[0], base=95)
        second = frame.ordering == "conv-bn-act"
        gain = frame.loc[second, "seed"].map(dict(enumerate(spread * SPREAD + shifts[1])))
        frame.loc[second, "test_correct"] += np.rint(100 * gain).astype(int)
        frame["test_accuracy_pp"] = 100 * frame["test_correct"] / frame["n_test"]
        found = judge([both], RunTable(frame, Grid.of_runs(frame)), resamples=0)[0]
        assert found.verdict == "inconclusive"
        seeds = found.seeds_to_settle
        said = "no practicable number" if seeds is None else f"about {seeds} seeds would settle it"
        assert said in writer.text(found)
        return found, [e.seeds_to_settle for e in found.estimates]

    against, alone = outlook(-0.3, -0.1)
    assert alone[0] and alone[1] and against.seeds_to_settle
    assert alone[0] < against.seeds_to_settle < alone[1]  # one of two, at half the level
    agree, alone = outlook(0.15, 0.1)
    assert alone[0] and alone[1] and agree.seeds_to_settle == max(*alone)
    small, alone = outlook(3.0, 0.01, spread=1.0, margin=0.2)
    assert [e.verdict for e in small.estimates] == ["supported", "negligible"]
    assert alone == [None, None] and small.seeds_to_settle and small.seeds_to_settle > 10


def test_an_equivalence_that_only_its_family_outweighs_says_which_way() -> None:
    for shift, side in ((0.1, "within"), (0.3, "beyond")):
        crowd = [claim("equivalence"), *(claim("equivalence", name=f"N{i}") for i in range(9))]
        frame = runs(3.3 * SPREAD + shift)
        v = judge(crowd, RunTable(frame, Grid.of_runs(frame)), resamples=0)[0]
        assert v.verdict == "inconclusive"
        text = Writer().text(v)
        assert f"lies {side} ±0.2 percentage points by a test that does not hold up" in text
        read(v, text)


def test_a_two_sided_interaction_is_a_gap_that_changes() -> None:
    either = claim("interaction", two_sided=True)
    text = Writer().text(judge_one(either, SPREAD - 0.5))
    assert re.search("Supported: the gap in test accuracy changes by \u22120.5", text)


def test_too_few_seeds_are_called_too_few() -> None:
    v = judge_one(claim(), SPREAD[:5] + 0.5)
    assert "With 5 seeds no effect, however large, can be found" in Writer().text(v)


def judge_one(kind: Claim, differences: np.ndarray) -> Verdict:
    frame = runs(list(differences), base=97)
    return judge([kind], RunTable(frame, Grid.of_runs(frame)), resamples=100)[0]


@pytest.mark.parametrize(
    ("given", "avoid", "expected"),
    [
        (0.31234, (0.0,), "0.31"),
        (-0.004, (0.0,), "\u22120.0040"),
        (0.0, (0.0,), "0.00"),
        (1e-17, (0.0,), "0.00"),
        (0.1996, (0.0, 0.2), "0.1996"),
        (0.2, (0.0, 0.2), "0.20"),
        (-0.20004, (0.2, -0.2), "\u22120.20004"),
        (12.3456, (0.0,), "12.35"),
    ],
)
def test_numbers_keep_clear_of_zero_and_margin(
    given: float, avoid: tuple[float, ...], expected: str
) -> None:
    assert number(given, avoid) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1.0, "= 1"),
        (0.9996, "= 1"),
        (0.04996, "= .04996"),
        (0.05, "= .050"),
        (0.05004, "= .05004"),
        (0.001953, "= .002"),
        (0.00031, "= .0003"),
        (0.00001, "< .0001"),
        (0.0, "< .0001"),
    ],
)
def test_p_values_never_round_onto_the_level(given: float, expected: str) -> None:
    assert p_value(given) == expected


def test_caveats_name_what_is_missing_diverged_too_few_and_unstable() -> None:
    v = judge_one(claim(), 4 * SPREAD + 0.12)
    counts = {"expected": 300, "present": 297, "diverged": 2, "missing": 3}
    found = " ".join(Writer().caveats([v], counts, 10))
    assert "Runs missing: 3 of 300;" in found
    assert "Runs that diverged: 2 of 297;" in found and "Of the runs behind" not in found
    touched = " ".join(Writer().caveats([replace(v, diverged=2)], counts, 10))
    assert f"Of the runs behind {v.claim.id}, some diverged" in touched
    few = Writer().caveats([judge_one(claim(), SPREAD[:4] + 0.5)], dict.fromkeys(counts, 0), 4)
    assert any("With n = 4 no p-value can be below .125" in line for line in few)
    assert Writer().caveats([judge_one(claim(), SPREAD + 0.5)], dict.fromkeys(counts, 0), 10) == []


def over_two_data_sets(*gains: float, **changes: object) -> Verdict:
    """A claim's verdict where its contrast is another one on each of two data sets."""
    one = runs(list(SPREAD + gains[0])).assign(dataset="mnist")
    two = runs(list(SPREAD + gains[1])).assign(dataset="fashion_mnist")
    frame = pd.concat([one, two], ignore_index=True)
    asked = replace(claim(), **changes)  # type: ignore[arg-type]
    (found,) = judge([asked], RunTable(frame, Grid.of_runs(frame)), resamples=0)
    return found


def test_what_several_data_sets_say_stands_beside_their_mean() -> None:
    told = Writer().text(over_two_data_sets(0.5, 0.7))
    assert re.search(r"By data set: MNIST \+0.5\d* percentage points .*, Fashion-MNIST \+0.7", told)
    told = Writer().text(over_two_data_sets(-0.5, 0.7))
    assert "The data sets disagree: MNIST −0.5" in told
    assert "data set" not in Writer().text(judge_one(claim(), SPREAD + 0.5))


def test_an_answer_that_averages_over_opposite_differences_says_so() -> None:
    v = judge_one(claim(name="T5"), SPREAD + 0.5)
    gaps = [
        Gap("fashion_mnist", "conv-bn-act", "conv-act-bn", -0.26, -0.39, -0.13),
        Gap("fashion_mnist", "bn-act-conv", "act-bn-conv", 0.99, 0.78, 1.19),
    ]
    said = Writer().answer([v], "T5", gaps)[2]
    assert said.startswith("On Fashion-MNIST it averages over two differences of opposite sign, ")
    assert "−0.26 percentage points (−0.39 to −0.13) for Conv-BN-act against Conv-act-BN" in said
    assert said not in Writer().answer([v], "T5")


def test_an_answer_that_a_control_turns_round_says_so() -> None:
    v = judge_one(claim(name="T5"), SPREAD + 0.5)
    lost = [Moved("fashion_mnist", "unit_pixels", -0.214, -0.39, -0.034, -0.81, -1.0, -0.62, 0.002)]
    said = Writer().answer([v], "T5", [], lost)[2]
    assert said == (
        "Under the variant unit_pixels it is −0.21 percentage points (−0.39 to −0.034) instead: a "
        "change of −0.81 percentage points (−1.00 to −0.62; after Holm p = .002; exploration)."
    )


def test_a_family_too_large_for_its_seeds_is_told() -> None:
    many = [claim(name=f"N{i}") for i in range(26)]
    frame = runs(list(SPREAD + 0.5))
    verdicts = judge(many, RunTable(frame, Grid.of_runs(frame)), resamples=0)
    assert {v.verdict for v in verdicts} == {"inconclusive"}
    counts = dict.fromkeys(("expected", "present", "diverged", "missing"), 0)
    assert any(
        "26 claims share 10 seeds" in line for line in Writer().caveats(verdicts, counts, 10)
    )


def test_the_answer_opens_with_the_headline_and_counts_every_claim_once() -> None:
    verdicts = [judge_one(claim(name="T5"), SPREAD + 0.5), untested(claim(name="X"), "no reason")]
    opening, scale, tally = Writer().answer(verdicts, "T5")
    assert opening.startswith("“So it is”: supported, for the difference in test accuracy is ")
    assert "the largest difference in test accuracy between orders" in scale
    assert tally == "Of 2 claims, 1 supported (T5) and 1 not tested (X)."
    assert Writer().answer(verdicts, None)[0] == "This study tests no headline claim."


def test_the_largest_effect_is_looked_for_among_claims_of_equality_too() -> None:
    frame = runs(SPREAD + 0.5)
    frame.loc[frame.ordering == "conv-bn-act", "test_correct"] -= 100  # one point less
    frame["test_accuracy_pp"] = frame["test_correct"] / frame["n_test"] * 100
    same = replace(claim("equivalence", plus="bn-act-conv", minus="conv-bn-act"), id="E1")
    verdicts = judge([claim(name="T5"), same], RunTable(frame, Grid.of_runs(frame)), resamples=0)
    assert "+1.50 percentage points (E1," in Writer().answer(verdicts, "T5")[1]


def test_every_template_has_known_fields_and_every_verdict_a_word() -> None:
    assert set(ENGLISH.verdicts) == set(VERDICTS)
    for key, template in ENGLISH.templates.items():
        for _, name, _, _ in string.Formatter().parse(template):
            assert name is None or name.isidentifier(), key


def test_another_language_needs_no_change_to_the_grammar() -> None:
    templates = {key: f"<{key}> {text}" for key, text in ENGLISH.templates.items()}
    other = replace(ENGLISH, code="xx", decimal=",", templates=templates)
    text = Writer(other).text(judge_one(claim(), SPREAD + 0.5))
    assert text.startswith("<one>") and "0,5" in text


def test_an_effect_that_only_its_family_outweighs_is_not_called_uncertain() -> None:
    frame = runs([0.3, 0.2, 0.4, 0.1, 0.25, 0.3, 0.35, -0.12, 0.2, -0.05])
    crowd = [claim(), *(claim(name=f"N{i}", plus="conv-bn-act") for i in range(7))]
    v = judge(crowd, RunTable(frame, Grid.of_runs(frame)), resamples=0)[0]
    assert v.verdict == "inconclusive" and v.p < 0.05 < v.p_adjusted
    text = Writer().text(v)
    assert "does not hold up among all the claims of its family" in text
    read(v, text)
