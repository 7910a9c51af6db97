"""The claims file: what it says, and one clear line for every way of getting it wrong."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from bnorder.claims import Claims, claims_schema, load_claims
from bnorder.errors import UserError
from bnorder.statistics.contrasts import (
    Grid,
    NotTested,
    check_meaning,
    crossed_weights,
    weighted_arms,
)
from bnorder.study import describe

ARTICLE = Path(__file__).parents[1] / "claims" / "article.yaml"
PLAN = [
    "E1",
    "E2",
    "E3",
    "E4",
    "E5",
    "E6",
    "E7",
    "E8",
    "E9a",
    "E9b",
    "T1",
    "T2",
    "T3",
    "T4",
    "T5",
    "T6",
    "T7",
    "T8",
]
GRID = Grid(
    ("mnist",),
    ("bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn", "conv-act"),
    ("relu", "leaky_relu", "elu"),
    (2, 5),
    ("base",),
    tuple(range(10)),
)


@pytest.fixture
def article() -> Claims:
    return load_claims(ARTICLE)


def one(**changes: object) -> dict[str, object]:
    claim: dict[str, object] = {
        "id": "A1",
        "family": "mine",
        "who": "me",
        "sentence": "It is so.",
        "contrast": "this - that",
        "type": "direction",
        "terms": [
            {"weight": 1, "ordering": "bn-act-conv"},
            {"weight": -1, "ordering": "act-bn-conv"},
        ],
    }
    return {k: v for k, v in {**claim, **changes}.items() if v is not None}


def write(folder: Path, *claims: dict[str, object], **more: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"claims": list(claims), **more}), encoding="utf-8")
    return path


def test_the_article_has_every_claim_of_the_plan(article: Claims) -> None:
    assert [claim.id for claim in article.claims] == PLAN
    assert article.headline == "T5"
    assert {c.id: c.family[0].upper() for c in article.claims} == {i: i[0] for i in PLAN}


def test_types_and_margins_are_those_of_the_plan(article: Claims) -> None:
    by_id = {claim.id: claim for claim in article.claims}
    equivalence = {i: by_id[i].parts[0].margin for i in PLAN if by_id[i].type == "equivalence"}
    assert equivalence == {"E1": 1.0, "E2": 0.2}
    thresholds = {i: by_id[i].parts[0].threshold for i in PLAN if by_id[i].type == "threshold"}
    assert thresholds == {"E3": 99.0, "E5": 97.0}
    assert [i for i in PLAN if by_id[i].type == "interaction"] == ["T6", "T7", "T8"]
    assert [i for i in PLAN if by_id[i].two_sided] == ["T8"]
    bound = {i for i in PLAN for p in by_id[i].parts for t in p.terms if "dataset" in t.select}
    assert bound == {"E3", "E5"}  # 99 % and 97 % are said of MNIST
    assert by_id["E4"].parts[0].margin == 0.2
    assert len(by_id["E1"].parts) == 3


def weights(article: Claims, name: str, grid: Grid = GRID, part: int = 0) -> dict[str, Fraction]:
    claim = next(c for c in article.claims if c.id == name)
    return {arm.id: w for arm, w in weighted_arms(claim.parts[part], grid).items()}


def test_e4_is_the_mean_of_two_orders_minus_the_third_over_both_depths(article: Claims) -> None:
    assert weights(article, "E4") == {
        "mnist.bn-act-conv.relu.d2.base": Fraction(1, 4),
        "mnist.bn-act-conv.relu.d5.base": Fraction(1, 4),
        "mnist.act-bn-conv.relu.d2.base": Fraction(1, 4),
        "mnist.act-bn-conv.relu.d5.base": Fraction(1, 4),
        "mnist.conv-bn-act.relu.d2.base": Fraction(-1, 2),
        "mnist.conv-bn-act.relu.d5.base": Fraction(-1, 2),
    }


def test_e7_and_e8_point_opposite_ways_at_their_depths(article: Claims) -> None:
    assert weights(article, "E7")["mnist.act-bn-conv.relu.d2.base"] == 1
    assert weights(article, "E8")["mnist.act-bn-conv.relu.d5.base"] == -1
    assert len(weights(article, "E7")) == len(weights(article, "E8")) == 2


def test_t5_weighs_both_classes_over_all_cells_without_the_control(article: Claims) -> None:
    found = weights(article, "T5")
    assert len(found) == 4 * 3 * 2
    assert not any(".conv-act." in arm for arm in found)
    assert {abs(w) for w in found.values()} == {Fraction(1, 12)}
    assert sum(found.values()) == 0


def test_several_variants_without_a_base_are_not_averaged_over(article: Claims) -> None:
    with pytest.raises(NotTested, match="no variant base, only short, long"):
        weights(article, "T5", replace(GRID, variant=("short", "long")))
    assert weights(article, "T5", replace(GRID, variant=("short",)))


def test_t6_compares_the_least_with_the_greatest_depth(article: Claims) -> None:
    found = weights(article, "T6")
    assert found["mnist.act-bn-conv.elu.d2.base"] > 0 > found["mnist.act-bn-conv.elu.d5.base"]


def test_t8_crosses_every_two_orders_with_every_two_data_sets_and_depths(article: Claims) -> None:
    by_dataset, by_depth = next(c for c in article.claims if c.id == "T8").parts
    with pytest.raises(NotTested, match="at least two values of data set"):
        crossed_weights(by_dataset, GRID)
    three = Grid(("mnist", "kmnist", "digits"), *(GRID.values(a) for a in AXES_LEFT), GRID.seeds)  # type: ignore[arg-type]
    found = crossed_weights(by_dataset, three)
    orders = sum(describe(str(o))["bn_class"] != "none" for o in GRID.ordering)
    assert len(found) == math.comb(orders, 2) * math.comb(3, 2)
    for weights in found.values():
        assert sum(weights.values()) == 0
        assert sum(map(abs, weights.values())) == 4
        assert not any(arm.ordering == "conv-act" for arm in weights)
        assert len({arm.ordering for arm in weights}) == len({a.dataset for a in weights}) == 2
    pair = found["BN-act-Conv − act-BN-Conv, MNIST against the 8×8 digits"]
    signs = {(arm.ordering, arm.dataset): weight > 0 for arm, weight in pair.items()}
    assert signs == {
        ("bn-act-conv", "mnist"): True,
        ("act-bn-conv", "mnist"): False,
        ("bn-act-conv", "digits"): False,
        ("act-bn-conv", "digits"): True,
    }
    assert len(crossed_weights(by_depth, GRID)) == math.comb(orders, 2)


AXES_LEFT = ("ordering", "activation", "depth", "variant")


def without(axis: str, value: object) -> Grid:
    kept = {a: tuple(v for v in GRID.values(a) if v != value) for a in ("dataset", *AXES_LEFT)}
    assert axis in kept
    return Grid(**kept, seeds=GRID.seeds)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "axis", "value", "reason"),
    [
        ("E4", "ordering", "conv-bn-act", "no ordering Conv-BN-act"),
        ("E8", "depth", 5, "no depth 5"),
        ("E9b", "activation", "elu", "no activation ELU"),
        ("T1", "ordering", "conv-act", "no ordering Conv-act"),
        ("T6", "depth", 5, "at least two values of depth"),
    ],
)
def test_an_arm_that_the_grid_lacks_is_the_reason_not_a_smaller_contrast(
    article: Claims, name: str, axis: str, value: object, reason: str
) -> None:
    with pytest.raises(NotTested, match=reason):
        weights(article, name, without(axis, value))


def test_classes_with_different_cuts_are_not_compared(article: Claims) -> None:
    with pytest.raises(NotTested, match="same cuts"):
        weights(article, "T5", without("ordering", "conv-act-bn"))


TERM = {"weight": 1, "ordering": "bn-act-conv"}
BAD = {
    "unknown ordering": (
        one(terms=[TERM, {"weight": -1, "ordering": "bn-relu-conv"}]),
        r"mine.yaml: claim A1: ordering: .*'bn-relu-conv'.*expected conv.*the runs have bn-act",
    ),
    "unknown activation": (
        one(where={"activation": "rellu"}),
        r"claim A1: activation: .*'rellu'.*expected one of relu",
    ),
    "unknown variant": (one(where={"variant": "wide"}), r"claim A1: variant: 'wide'.*one of base"),
    "unknown class": (
        one(terms=[{"weight": 1, "bn_class": "first"}, {"weight": -1, "bn_class": "none"}]),
        r"claims\[0\].terms\[0\].bn_class is \"first\"",
    ),
    "unknown key": (one(orderings=["a"]), r"unknown key 'orderings'; expected one of"),
    "missing sentence": (one(sentence=None), r"claims\[0\]: the key 'sentence' is missing"),
    "unknown type": (one(type="guess"), r"type is \"guess\"; expected one of direction"),
    "weights that do not cancel": (one(terms=[TERM]), r"claim A1: the weights .* 1; expected 0"),
    "weight zero": (one(terms=[{**TERM, "weight": 0}]), r"claim A1: weight is 0"),
    "negative margin": (one(margin=-0.2), r"margin is -0.2; expected more than 0"),
    "threshold without one": (one(type="threshold", terms=[TERM]), r"threshold is None"),
    "threshold out of place": (one(threshold=99.0), r"threshold is 99.0; expected a number for"),
    "no terms": (one(terms=None), r"claim A1: the key 'terms' is missing"),
    "equivalence of losses without a margin": (
        one(type="equivalence", measure="test_loss"),
        r"claim A1: margin is missing",
    ),
    "one-sided equivalence": (one(type="equivalence", two_sided=True), r"two_sided is true"),
    "depth below 0": (one(where={"depth": -1}), r"depth is -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_claim_is_one_line_that_says_what_where_and_what_was_expected(
    case: str, tmp_path: Path
) -> None:
    claim, expected = BAD[case]
    with pytest.raises(UserError, match=expected) as caught:
        read = load_claims(write(tmp_path, claim))
        check_meaning(read.claims, read.path, GRID)
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_ids_stand_once_and_headline_and_notes_name_a_claim(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="claim A1: the id stands twice"):
        load_claims(write(tmp_path, one(), one()))
    with pytest.raises(UserError, match="headline names the claim 'B2'; expected one of A1"):
        load_claims(write(tmp_path, one(), headline="B2"))
    note = {"date": "2026-12-01", "claim": "C3", "text": "changed"}
    with pytest.raises(UserError, match="notes names the claim 'C3'"):
        load_claims(write(tmp_path, one(), notes=[note]))


def test_a_dated_note_is_read(tmp_path: Path) -> None:
    note = {"date": "2026-12-01", "claim": "A1", "text": "Margin halved."}
    assert load_claims(write(tmp_path, one(), notes=[note])).notes[0].date == "2026-12-01"


def test_fractions_are_exact_weights(tmp_path: Path) -> None:
    terms = [
        {"weight": 1, "ordering": "bn-act-conv"},
        *({"weight": "-1/3", "ordering": o} for o in ("act-bn-conv", "conv-bn-act", "conv-act-bn")),
    ]
    read = load_claims(write(tmp_path, one(terms=terms)))
    assert [t.weight for t in read.claims[0].parts[0].terms][1] == Fraction(-1, 3)


def keys_of(schema: object) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(keys_of, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*map(keys_of, schema.values()))


def test_the_page_on_verdicts_names_every_key_of_a_claims_file() -> None:
    page = (Path(__file__).parents[1] / "docs/verdicts.md").read_text(encoding="utf-8")
    example = page.partition("### The claims file")[2].partition("## A worked")[0]
    keys = keys_of(claims_schema())
    assert {"probe", "headline", "weight"} <= keys
    lacking = [k for k in sorted(keys) if f"`{k}`" not in example and f"{k}:" not in example]
    assert lacking == []


def test_the_schema_documents_itself_as_valid() -> None:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(claims_schema())
