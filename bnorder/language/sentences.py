"""The grammar: a verdict in, sentences out. Every sentence about results is made here.

Numbers are printed with as many digits as it takes to show on which side of zero, of the margin
and of the 5 % level they lie, so that no sentence contradicts its own numbers by rounding.
"""

import math
from collections.abc import Mapping, Sequence

from bnorder.claims import ACCURACY, VERDICTS, Claim, Estimate, Gap, Moved, Verdict, both_signs
from bnorder.language import Language, Reason, language, spoken
from bnorder.language.names import dataset_words, ordering_words
from bnorder.language.printing import LEVEL, MINUS, number, p_value
from bnorder.statistics.estimates import smallest_p

STABLE = 0.8


class Writer:
    """Sentences in one language."""

    def __init__(self, words: Language | None = None) -> None:
        self.language = words or language("en")

    def say(self, key: str, **fields: object) -> str:
        return self.language.say(key, **fields)

    def own(self, text: str) -> str:
        """A reason, or a text of a claims file, in this language as far as it is known there."""
        if isinstance(text, Reason):
            return spoken(self.language, text.key, text.fields)
        return self.language.own(text)

    def paragraph(self, sentences: Sequence[str]) -> str:
        return self.language.templates["space"].join(sentences)

    def amount(self, value: float, e: Estimate, *, sign: bool = False, short: bool = False) -> str:
        """A value of this part's measure with its unit."""
        text = self._localise(number(value, _limits(e)))
        plus = "+" if sign and value > 0 else ""
        unit = self.say(f"short_unit.{e.unit}") if short else self.language.units[e.unit]
        return f"{plus}{text}{unit}"

    def _ends(self, low: float, high: float, e: Estimate) -> dict[str, str]:
        """The ends of an interval in this part's unit."""
        ends = (self._localise(number(end, _limits(e))) for end in (low, high))
        return dict(zip(("low", "high"), ends, strict=True))

    def _localise(self, text: str) -> str:
        return text.replace(".", self.language.decimal)

    def measure(self, e: Estimate) -> str:
        return self.language.measures.get(e.measure, e.measure)

    # --- one part -----------------------------------------------------------------------------

    def statement(self, claim: Claim, e: Estimate) -> str:
        """What a part's numbers say, by its own verdict."""
        both_ways = claim.two_sided and (claim.type == "direction" or e.verdict == "supported")
        kind = claim.type + (".two_sided" if both_ways else "")
        return self.say(
            f"{kind}.{e.verdict}{_alone(claim, e)}",
            measure=self.measure(e),
            mean=self.amount(e.mean, e, sign=True),
            effect=self.amount(abs(e.mean), e),
            margin=self.plain(e.margin) + self.language.units[e.unit],
            threshold=self.plain(e.threshold) + (self.say("percent") if e.unit == "pp" else ""),
        )

    def plain(self, value: float | None) -> str:
        """A margin or threshold as its author wrote it."""
        return "" if value is None else self._localise(f"{value:g}".replace("-", MINUS))

    def numbers(self, claim: Claim, e: Estimate, v: Verdict | None = None) -> str:
        """Interval, test and seeds; with `v` also the p-value after Holm."""
        interval = self.say("numbers", **self._ends(e.ci_low, e.ci_high, e))
        first, *others = self.tests(claim, e)
        holm = [] if v is None else [self.say("holm", p=p_value(v.p_adjusted))]  # adjusts the first
        items = [interval, first, *holm, *others, self.say("seeds", n=e.n)]
        return self.language.templates["semicolon"].join(items)

    def tests(self, claim: Claim, e: Estimate) -> list[str]:
        """The tests that the part's verdict rests on."""
        if claim.type == "equivalence":
            if _beyond(e):
                return [self.say("beyond", p=p_value(e.outside_p))]
            return [self._tost(e)]
        named = [self.say("sign_flip", p=p_value(e.p))]
        if e.verdict == "negligible":
            named.append(self._tost(e))
        return named

    def _tost(self, e: Estimate) -> str:
        """The test of equivalence, with the 90 % interval that lies within the margin with it."""
        if math.isnan(e.tost_low):  # of many contrasts at once
            return self.say("tost", p=p_value(e.tost_p))
        ends = self._ends(e.tost_low, e.tost_high, e)
        return self.say("tost_interval", p=p_value(e.tost_p), **ends)

    def part(self, claim: Claim, e: Estimate) -> str:
        name = self.language.capital(self.own(e.name))
        text = self.say(
            "part", name=name, statement=self.statement(claim, e), numbers=self.numbers(claim, e)
        )
        return self.paragraph([text, *filter(None, [self.each(claim, e)])])

    def each(self, claim: Claim, e: Estimate) -> str:
        """The contrast on each data set alone, where it averages over several."""
        if not e.by_dataset:
            return ""
        items = [
            self.say(
                "each.item",
                dataset=dataset_words(i.dataset, self.language),
                mean=self.amount(i.mean, e, sign=True),
                **self._ends(i.ci_low, i.ci_high, e),
            )
            for i in e.by_dataset
        ]
        crossed = any(part.crossed for part in claim.parts)
        key = "each.crossed" if crossed else "each.apart" if _apart(claim, e) else "each"
        return self.say(key, listed=self.language.templates["comma"].join(items))

    # --- a verdict ----------------------------------------------------------------------------

    def text(self, v: Verdict) -> str:
        """The verdict in full: what, how much, by which test, and what more it would take."""
        if v.verdict == "not tested":
            return self.say("not_tested", reason=self.own(v.reason).rstrip("."))
        sentences = [self._one(v) if len(v.estimates) == 1 else self._all(v)]
        if len(v.estimates) == 1:
            sentences += filter(None, [self.each(v.claim, v.estimates[0])])
        if all(e.sd == 0 for e in v.estimates):
            sentences.append(self.say("constant"))
        if v.too_small:
            sentences.append(self._too_small(v))
        if v.verdict == "inconclusive":
            sentences += self._outlook(v)
        if v.checks_disagree:
            sentences.append(self.say("disagree", checks=self.checks(v)))
        return self.paragraph(sentences)

    def checks(self, v: Verdict) -> str:
        """The tests that disagree with the sign-flip test."""
        return self.language.templates["semicolon"].join(self.own(c) for c in v.checks_disagree)

    def _one(self, v: Verdict) -> str:
        e = v.estimates[0]
        return self.say(
            "one",
            verdict=self.language.verdicts[v.verdict],
            statement=self.statement(v.claim, e),
            numbers=self.numbers(v.claim, e, v),
        )

    def _all(self, v: Verdict) -> str:
        together = self.say("together" if v.p_for else "together.against", p=p_value(v.p))
        holm = self.say("holm", p=p_value(v.p_adjusted))
        return self.say(
            "all",
            verdict=self.language.verdicts[v.verdict],
            count=len(v.estimates),
            numbers=self.language.templates["semicolon"].join([together, holm]),
            parts=self.paragraph([self.part(v.claim, e) for e in v.estimates]),
        )

    def _too_small(self, v: Verdict) -> str:
        if len(v.estimates) > 1:
            return self.say("too_small_all")
        e = v.estimates[0]
        margin = self.plain(e.margin) + self.language.units[e.unit]
        return self.say("too_small", margin=margin, tost=self._tost(e))

    def _outlook(self, v: Verdict) -> list[str]:
        """What n seeds could have found in the hardest part, and how many would settle it all."""
        open_parts = [e for e in v.estimates if e.verdict == "inconclusive"]
        open_parts = open_parts or [e for e in v.estimates if e.verdict != "supported"]
        hardest = max(open_parts, key=lambda e: e.seeds_to_settle or math.inf)
        found = hardest.smallest_detectable
        if math.isnan(found):
            first = self.say("undetectable", n=hardest.n)
        else:
            key = "detectable_margin" if v.claim.type == "equivalence" else "detectable"
            first = self.say(key, n=hardest.n, detectable=self.amount(found, hardest))
        if v.seeds_to_settle is None:
            return [first, self.say("unsettled")]
        return [first, self.say("settle", seeds=v.seeds_to_settle)]

    def short(self, v: Verdict) -> str:
        """A few words for a table cell."""
        if not v.estimates:
            return self.own(v.reason)
        if len(v.estimates) > 1:
            key = "short_parts" if v.p_for else "short_parts.against"
            return self.say(key, parts=len(v.estimates), p=p_value(v.p))
        e = v.estimates[0]
        by_tost = v.verdict == "negligible" or (v.claim.type == "equivalence" and not _beyond(e))
        tost = self.say("tost", p=p_value(e.tost_p))
        return self.say(
            "short",
            mean=self.amount(e.mean, e, sign=True, short=True),
            **self._ends(e.ci_low, e.ci_high, e),
            test=tost if by_tost else self.tests(v.claim, e)[0],
        )

    # --- the study ----------------------------------------------------------------------------

    def answer(
        self,
        verdicts: Sequence[Verdict],
        headline: str | None,
        opposite: Sequence[Gap] = (),
        lost: Sequence[Moved] = (),
    ) -> list[str]:
        """The answer: the headline claim, how much it matters, what it hides, the verdicts.

        opposite: the differences of which the headline's averages, where their signs are opposite;
        lost: the variants under which it is gone or turned round.
        """
        first = next((v for v in verdicts if v.claim.id == headline), None)
        scale = self._scale(first, verdicts) if first else None
        each = self.each(first.claim, first.estimates[0]) if first and first.estimates else ""
        hidden = self._opposite(first.estimates[0], opposite) if first and first.estimates else []
        hidden += self._lost(first.estimates[0], lost) if first and first.estimates else []
        sentences = [self._headline(first), each, scale, *hidden, self._tally(verdicts)]
        return [sentence for sentence in sentences if sentence]

    def _opposite(self, e: Estimate, gaps: Sequence[Gap]) -> list[str]:
        """One sentence a data set, on the differences that the headline's averages over there."""
        found = []
        for dataset in dict.fromkeys(gap.dataset for gap in gaps):
            items = [
                self.say(
                    "opposite.item",
                    mean=self.amount(gap.mean, e, sign=True),
                    first=ordering_words(gap.first),
                    second=ordering_words(gap.second),
                    **self._ends(gap.ci_low, gap.ci_high, e),
                )
                for gap in gaps
                if gap.dataset == dataset
            ]
            name = dataset_words(dataset, self.language)
            found.append(self.say("opposite", dataset=name, listed=self.language.join(items)))
        return found

    def _lost(self, e: Estimate, lost: Sequence[Moved]) -> list[str]:
        """One sentence a variant under which the headline's difference is gone or turned round."""
        several = len({moved.dataset for moved in lost}) > 1
        return [
            self.say(
                "lost",
                variant=moved.variant,
                on=self.say("on", dataset=dataset_words(moved.dataset, self.language))
                if several
                else "",
                mean=self.amount(moved.mean, e, sign=True),
                change=self.amount(moved.change, e, sign=True),
                p=p_value(moved.p),
                changes=self.say("to", **self._ends(moved.change_low, moved.change_high, e)),
                **self._ends(moved.ci_low, moved.ci_high, e),
            )
            for moved in lost
        ]

    def _headline(self, v: Verdict | None) -> str:
        if v is None:
            return self.say("headline_none")
        sentence = self.own(v.claim.sentence).rstrip(".。")
        if not v.estimates:
            return self.say("headline_untested", sentence=sentence, reason=self.own(v.reason))
        word = self.language.verdicts[v.verdict].lower()
        if len(v.estimates) > 1:
            numbers = self.say("holm", p=p_value(v.p_adjusted))
            return self.say("headline_parts", sentence=sentence, verdict=word, numbers=numbers)
        e = v.estimates[0]
        return self.say(
            "headline",
            sentence=sentence,
            verdict=word,
            statement=self.statement(v.claim, e),
            numbers=self.numbers(v.claim, e, v),
        )

    def _scale(self, v: Verdict, verdicts: Sequence[Verdict]) -> str | None:
        """Beside the headline: too small to matter, what it would take, or the largest effect."""
        if v.too_small and len(v.estimates) == 1:
            e = v.estimates[0]
            margin = self.plain(e.margin) + self.language.units[e.unit]
            return self.say("scale.too_small", margin=margin, tost=self._tost(e))
        if v.verdict == "inconclusive" and len(v.estimates) == 1:
            return self._uncertain(v.estimates[0])
        return self._largest(verdicts) if v.estimates else None

    def _uncertain(self, e: Estimate) -> str:
        if math.isnan(e.smallest_detectable):
            return self.say("scale.undetectable", n=e.n)
        found = self.amount(e.smallest_detectable, e)
        key = "scale.unsettled" if e.seeds_to_settle is None else "scale.settle"
        return self.say(key, n=e.n, detectable=found, seeds=e.seeds_to_settle)

    def _largest(self, verdicts: Sequence[Verdict]) -> str | None:
        """The largest effect on accuracy among the claims that set one side against another."""
        effects = [
            (v, e)
            for v in verdicts
            for e in v.estimates
            if v.claim.type in ("direction", "equivalence") and e.measure == ACCURACY
            if not _without_bn(v.claim)
        ]
        if not effects:
            return None
        v, e = max(effects, key=lambda pair: abs(pair[1].mean))
        return self.say(
            "scale.largest",
            measure=self.measure(e),
            mean=self.amount(e.mean, e, sign=True),
            id=v.claim.id,
            low=self._localise(number(e.ci_low)),
            high=self._localise(number(e.ci_high)),
        )

    def _tally(self, verdicts: Sequence[Verdict]) -> str:
        groups = {w: [v.claim.id for v in verdicts if v.verdict == w] for w in VERDICTS}
        items = [
            self.say(
                "tally_item",
                n=len(ids),
                word=self.say(f"tally.{word}"),
                ids=self.language.templates["comma"].join(ids),
            )
            for word, ids in groups.items()
            if ids
        ]
        key = "tally.one" if len(verdicts) == 1 else "tally"
        return self.say(key, count=len(verdicts), listed=self.language.join(items))

    def caveats(
        self,
        verdicts: Sequence[Verdict],
        counts: Mapping[str, int],
        n_seeds: int,
    ) -> list[str]:
        """What a reader must know before trusting the verdicts.

        counts: expected, present and diverged runs, and runs missing.
        """
        found = []
        if counts["missing"]:
            found.append(
                self.say("caveat_missing", n=counts["missing"], expected=counts["expected"])
            )
        if counts["diverged"]:
            found.append(
                self.say("caveat_diverged", n=counts["diverged"], present=counts["present"])
            )
        comma = self.language.templates["comma"]
        behind = [v.claim.id for v in verdicts if v.diverged]
        if behind:
            found.append(self.say("caveat_behind", ids=comma.join(behind)))
        found += self._too_few_seeds(verdicts, n_seeds)
        doubted = [v.claim.id for v in verdicts if v.checks_disagree]
        if doubted:
            found.append(self.say("caveat_checks", ids=comma.join(doubted)))
        shaky = [
            v.claim.id for v in verdicts if v.stability and v.stability.shares[v.verdict] < STABLE
        ]
        if shaky:
            found.append(self.say("caveat_unstable", ids=comma.join(shaky)))
        return found

    def _too_few_seeds(self, verdicts: Sequence[Verdict], n_seeds: int) -> list[str]:
        if n_seeds < 1:
            return []
        least = smallest_p(n_seeds)
        if least >= LEVEL:
            return [self.say("caveat_seeds", n=n_seeds, p=p_value(least).removeprefix("= "))]
        found = []
        for family in dict.fromkeys(v.claim.family for v in verdicts):
            m = sum(v.claim.family == family and v.verdict != "not tested" for v in verdicts)
            if m * least >= LEVEL:
                found.append(self.say("caveat_family", family=self.own(family), m=m, n=n_seeds))
        return found


def _beyond(e: Estimate) -> bool:
    """Of an equivalence: do its numbers speak for a difference beyond the margin?"""
    return e.verdict == "contradicted" or (
        e.verdict == "inconclusive" and e.outside_p < min(LEVEL, e.tost_p)
    )


def _without_bn(claim: Claim) -> bool:
    """Is one side of it networks without BN?"""
    terms = [term.select for part in claim.parts for term in part.terms]
    named = [str(o) for select in terms for o in select.get("ordering", ()) if o != "all"]
    classes = [c for select in terms for c in select.get("bn_class", ())]
    return "none" in classes or any("bn" not in name.split("-") for name in named)


def _apart(claim: Claim, e: Estimate) -> bool:
    """Do two data sets speak against each other, each by its own interval?"""
    if claim.type == "equivalence" and e.margin:
        within = [-e.margin < i.ci_low and i.ci_high < e.margin for i in e.by_dataset]
        beyond = [i.ci_low > e.margin or i.ci_high < -e.margin for i in e.by_dataset]
        return any(within) and any(beyond)
    return both_signs((i.ci_low, i.ci_high) for i in e.by_dataset)


def _alone(claim: Claim, e: Estimate) -> str:
    """The ending of the key of a part that is open, though its own test is not."""
    if e.verdict != "inconclusive":
        return ""
    if claim.type == "equivalence":
        return ".beyond" if _beyond(e) else ".within" if e.tost_p < LEVEL else ""
    return ".family" if e.p < LEVEL else ""


def _limits(e: Estimate) -> list[float]:
    """Values that no rounding may hide the side of: zero and the margin's ends."""
    return [0.0] + ([e.margin, -e.margin] if e.margin else [])
