"""A claim: a sentence that someone made, with the contrast that tests it, read from a claims file.

A contrast is a weighted sum of terms; a term is the mean over the arms that it selects. An axis
that a term does not name is averaged over, but for the variant, which is then `base`. What comes
of a claim, `Estimate` and `Verdict`, is defined here too; `bnorder.statistics.verdicts` makes them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from bnorder.errors import UserError

SCHEMA_FILE = Path(__file__).resolve().parents[1] / "workflow/schemas/claims.schema.yaml"
AXES = ("dataset", "ordering", "activation", "depth", "variant")
ACCURACY = "test_accuracy_pp"
DEFAULT_MARGIN_PP = 0.2
PP_MEASURES = ("test_error_area", "train_error_area")  # percentage points without the suffix

ClaimType = Literal["direction", "equivalence", "threshold", "interaction"]
VerdictWord = Literal["supported", "contradicted", "negligible", "inconclusive", "not tested"]
VERDICTS: tuple[VerdictWord, ...] = (
    "supported",
    "contradicted",
    "negligible",
    "inconclusive",
    "not tested",
)


@dataclass(frozen=True)
class Term:
    """A weight and what it selects on each axis: axis name -> values or keywords."""

    weight: Fraction
    select: Mapping[str, tuple[str | int, ...]]


@dataclass(frozen=True)
class Part:
    """One contrast of a claim, in the measure's own unit; above 0 is what the claim says.

    With `crossed` it is many: every pair of values of one axis against every pair of the other,
    among the arms that the only term selects.
    """

    name: str
    measure: str
    margin: float | None
    threshold: float | None
    terms: tuple[Term, ...]
    crossed: tuple[str, str] | None = None

    @property
    def unit(self) -> str:
        return unit_of(self.measure)


@dataclass(frozen=True)
class Claim:
    """A sentence, who said it, and the parts that test it; all parts must hold."""

    id: str
    family: str
    who: str
    sentence: str
    contrast: str
    type: ClaimType
    two_sided: bool
    parts: tuple[Part, ...]
    probe: str = ""  # what inside the network should explain it


@dataclass(frozen=True)
class Note:
    """A change of a claim after a full study had run."""

    date: str
    claim: str
    text: str


@dataclass(frozen=True)
class Claims:
    """A claims file."""

    path: str
    source_name: str
    source_about: str
    headline: str | None
    notes: tuple[Note, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Interval:
    """A mean with its interval on one data set."""

    dataset: str
    mean: float
    ci_low: float
    ci_high: float


def both_signs(ends: Iterable[tuple[float, float]]) -> bool:
    """Does one interval lie wholly above zero, and another wholly below?"""
    known = list(ends)
    return any(low > 0 for low, _ in known) and any(high < 0 for _, high in known)


@dataclass(frozen=True)
class Gap:
    """BN before minus after the activation where the convolution stands at one place, in pp."""

    dataset: str
    first: str  # the ordering with BN before
    second: str
    mean: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Moved:
    """BN before minus after the activation under a variant, and its change from `base`, in pp."""

    dataset: str
    variant: str
    mean: float
    ci_low: float
    ci_high: float
    change: float
    change_low: float
    change_high: float
    p: float  # of the change, after Holm over the variants


@dataclass(frozen=True)
class Estimate:
    """The numbers of one part: means and intervals in `unit`; NaN for what cannot be had.

    values: one contrast a seed, in the order of `seeds`; plus, minus: arm id -> weight;
    by_dataset: the same contrast on each data set, where it averages over several, or the
    difference between the two orders that stand out, where these are set against data sets.
    """

    name: str
    measure: str
    unit: str
    margin: float | None
    threshold: float | None
    verdict: VerdictWord
    mean: float
    ci_low: float
    ci_high: float
    tost_low: float
    tost_high: float
    sd: float
    n: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    p: float
    t_p: float
    wilcoxon_p: float
    tost_p: float
    outside_p: float
    g_av: float
    g_low: float
    g_high: float
    smallest_detectable: float
    seeds_to_settle: int | None
    plus: Mapping[str, float]
    minus: Mapping[str, float]
    by_dataset: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class Stability:
    """How often each verdict came out when the seeds were drawn anew with replacement."""

    resamples: int
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """What the data say of a claim; `reason` says why a claim was not tested.

    seeds_to_settle: those that would give a verdict with 80 % power, were these numbers the truth.
    """

    claim: Claim
    verdict: VerdictWord
    too_small: bool
    reason: str
    p: float
    p_adjusted: float
    holm_level: float
    estimates: tuple[Estimate, ...]
    p_for: bool = True  # p speaks for the claim; False: against it
    stability: Stability | None = None
    checks_disagree: tuple[str, ...] = field(default=())
    diverged: int = 0  # of the runs behind it
    seeds_to_settle: int | None = None

    @property
    def n(self) -> int:
        return self.estimates[0].n if self.estimates else 0


def unit_of(measure: str) -> str:
    """`pp` for percentage points, `steps`, or nothing."""
    if measure.endswith("_pp") or measure in PP_MEASURES:
        return "pp"
    return "steps" if measure.startswith("steps_to_") else ""


def load_claims(path: str | Path) -> Claims:
    """Read a claims file and check its form.

    Raises UserError naming the file, the claim, the key, its value and what was expected.
    """
    from bnorder.schema import check_against_schema, read_yaml

    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError(
            f"{path}: expected a mapping with the key 'claims'; see claims/article.yaml"
        )
    check_against_schema(raw, claims_schema(), path)
    claims = tuple(_claim(c, path) for c in raw["claims"])
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise UserError(f"{path}: claim {name}: the id stands twice; expected each once")
    named = [("headline", raw["headline"])] if raw.get("headline") else []
    named += [("notes", note["claim"]) for note in raw.get("notes", [])]
    for key, name in named:
        if name not in ids:
            raise UserError(
                f"{path}: {key} names the claim {name[:60]!r}; expected one of {_list(ids)}"
            )
    source = raw.get("source", {})
    return Claims(
        path=str(path),
        source_name=source.get("name", Path(path).stem),
        source_about=source.get("about", ""),
        headline=raw.get("headline"),
        notes=tuple(Note(**note) for note in raw.get("notes", [])),
        claims=claims,
    )


def claims_schema() -> dict[str, Any]:
    import yaml

    schema: dict[str, Any] = yaml.safe_load(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def _claim(raw: Mapping[str, Any], path: str | Path) -> Claim:
    where = f"{path}: claim {raw['id']}"
    parts = tuple(_part(raw, part, where) for part in raw.get("parts", [{"name": ""}]))
    if raw.get("two_sided") and raw["type"] not in ("interaction", "direction"):
        raise UserError(f"{where}: two_sided is true; expected it of direction or interaction only")
    return Claim(
        id=raw["id"],
        family=raw["family"],
        who=raw["who"],
        sentence=raw["sentence"],
        contrast=raw["contrast"],
        type=raw["type"],
        two_sided=raw.get("two_sided", False),
        parts=parts,
        probe=raw.get("probe", ""),
    )


def _part(claim: Mapping[str, Any], part: Mapping[str, Any], where: str) -> Part:
    """A part with what it takes over from its claim: measure, margin, threshold, where, terms."""
    both = {**claim, **part}
    shared = {**claim.get("where", {}), **part.get("where", {})}
    if both.get("crossed"):
        return _crossed_part(claim, both, shared, where)
    if "terms" not in both:
        raise UserError(
            f"{where}: the key 'terms' is missing, in the claim or in each of its parts"
        )
    measure, margin = _measure_and_margin(both)
    threshold = both.get("threshold")
    if claim["type"] == "equivalence" and margin is None:
        raise UserError(f"{where}: margin is missing; an equivalence needs one, in {measure}")
    if (claim["type"] == "threshold") != (threshold is not None):
        raise UserError(
            f"{where}: threshold is {threshold}; expected a number for a threshold claim only"
        )
    terms = tuple(_term({**shared, **term}, where) for term in both["terms"])
    _check_weights(terms, claim["type"], where)
    return Part(part["name"], measure, margin, threshold, terms)


def _measure_and_margin(both: Mapping[str, Any]) -> tuple[str, float | None]:
    measure = both.get("measure", ACCURACY)
    default = DEFAULT_MARGIN_PP if measure.endswith("_pp") else None  # not of an error area
    if both["type"] == "threshold":  # reached or not: no distance from it is too small to matter
        default = None
    return measure, both.get("margin", default)


def _crossed_part(
    claim: Mapping[str, Any], both: Mapping[str, Any], shared: Mapping[str, Any], where: str
) -> Part:
    """A part that asks of many contrasts whether any differs from 0, either way."""
    if claim["type"] != "interaction" or not claim.get("two_sided"):
        raise UserError(
            f"{where}: crossed has no direction; expected type interaction and two_sided true"
        )
    if "terms" in both:
        raise UserError(f"{where}: both crossed and terms; expected one of them")
    one, two = both["crossed"]
    measure, margin = _measure_and_margin(both)
    return Part(
        both["name"], measure, margin, None, (_term({**shared, "weight": 1}, where),), (one, two)
    )


def _term(raw: Mapping[str, Any], where: str) -> Term:
    weight = Fraction(str(raw["weight"]))
    if weight == 0:
        raise UserError(f"{where}: weight is 0; expected another number, or the term left out")
    select = {
        axis: tuple(value) if isinstance(value, list) else (value,)
        for axis, value in raw.items()
        if axis != "weight"
    }
    return Term(weight, select)


def _check_weights(terms: Sequence[Term], kind: str, where: str) -> None:
    """A comparison's weights add up to 0, so that no constant passes for an effect."""
    total = sum((term.weight for term in terms), Fraction(0))
    expected = 1 if kind == "threshold" else 0
    if total != expected:
        raise UserError(
            f"{where}: the weights of the terms add up to {total}; expected {expected} "
            f"for a claim of type {kind}"
        )


def _list(values: Sequence[object], most: int = 12) -> str:
    shown = ", ".join(str(v)[:60] for v in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")
