"""The English of the report's sentences: templates and words, and no rule about when to use them.

Another language is another `Language`; `bnorder.sentences` chooses the template and fills it.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """templates: key -> text with {fields}; words: verdicts, measures, units."""

    code: str
    decimal: str
    templates: Mapping[str, str]
    verdicts: Mapping[str, str]
    measures: Mapping[str, str]
    units: Mapping[str, str]


ENGLISH = Language(
    code="en",
    decimal=".",
    verdicts={
        "supported": "Supported",
        "contradicted": "Contradicted",
        "negligible": "Negligible",
        "inconclusive": "Inconclusive",
        "not tested": "Not tested",
    },
    measures={
        "test_accuracy_pp": "test accuracy",
        "test_loss": "test loss",
        "test_error_area": "test error averaged over the training",
        "train_accuracy_pp": "training accuracy",
        "train_loss": "training loss",
        "gradient_slope@0": "slope of the log gradient norm at the start",
        "gradient_slope@100": "slope of the gradient norm after 100 steps",
        "bn_input_mean_cv": "variation of the batch mean",
        "bn_input_variance_cv": "variation of the batch variance",
        "running_loss_pp": "accuracy lost by running averages",
    },
    units={"pp": " percentage points", "steps": " steps", "": ""},
    templates={
        # The numbers behind every tested part; each statement below carries them.
        "numbers": "95 % interval {low} to {high}",
        "sign_flip": "sign-flip p {p}",
        "tost": "TOST p {p}",
        "holm": "after Holm p {p}",
        "seeds": "n = {n} seeds",
        "beyond": "t-test beyond the margin p {p}",
        "together": "together p {p}",
        # One part: what its numbers say, without the verdict.
        "direction.supported": "the difference in {measure} is {effect} in the claimed direction",
        "direction.contradicted": "the difference in {measure} is {effect} against the claim",
        "direction.negligible": "the difference in {measure}, {mean}, is shown to lie within "
        "±{margin}: whatever there is, it is too small to matter",
        "direction.inconclusive.family": "the difference in {measure}, {mean}, does not hold up "
        "among all the claims of its family",
        "direction.inconclusive": "the difference in {measure}, {mean}, is too uncertain to call",
        "two_sided.supported": "there is a difference in {measure} of {mean}",
        "two_sided.negligible": "the difference in {measure}, {mean}, is shown to lie within "
        "±{margin}: whatever there is, it is too small to matter",
        "two_sided.inconclusive.family": "the difference in {measure}, {mean}, does not hold up "
        "among all the claims of its family",
        "two_sided.inconclusive": "the difference in {measure}, {mean}, is too uncertain to call",
        "interaction.supported": "the gap in {measure} changes by {effect} in the claimed "
        "direction",
        "interaction.contradicted": "the gap in {measure} changes by {effect} against the claim",
        "interaction.negligible": "the change of the gap in {measure}, {mean}, is shown to lie "
        "within ±{margin}: whatever there is, it is too small to matter",
        "interaction.inconclusive.family": "the change of the gap in {measure}, {mean}, does not "
        "hold up among all the claims of its family",
        "interaction.inconclusive": "the change of the gap in {measure}, {mean}, is too "
        "uncertain to call",
        "equivalence.supported": "the difference in {measure}, {mean}, is shown to lie within "
        "±{margin}",
        "equivalence.contradicted": "the difference in {measure}, {mean}, is shown to lie beyond "
        "±{margin}",
        "equivalence.inconclusive": "the difference in {measure}, {mean}, is shown neither to lie "
        "within ±{margin} nor beyond",
        "threshold.supported": "the mean {measure} is {effect} above {threshold}",
        "threshold.contradicted": "the mean {measure} is {effect} below {threshold}",
        "threshold.inconclusive.family": "the mean {measure} is {mean} from {threshold}, which "
        "does not hold up among all the claims of its family",
        "threshold.inconclusive": "whether the mean {measure} is above or below {threshold} "
        "stays open (it is {mean} from it)",
        # Whole verdicts.
        "one": "{verdict}: {statement} ({numbers}).",
        "all": "{verdict}: {count} parts must all hold ({numbers}). {parts}",
        "part": "{name}: {statement} ({numbers}).",
        "not_tested": "Not tested: {reason}.",
        "too_small": "It is also too small to matter in practice: shown to lie within ±{margin} "
        "({tost}).",
        "too_small_all": "Each part is also too small to matter in practice: shown to lie within "
        "its margin.",
        "constant": "Every seed gave the same value.",
        "detectable": "With {n} seeds an effect of {detectable} would have been found four times "
        "in five (80 % power).",
        "detectable_margin": "With {n} seeds, equals would have been shown to lie within "
        "±{detectable} four times in five (80 % power).",
        "undetectable": "With {n} seeds no effect, however large, can be found at this level.",
        "settle": "Were the truth as observed, about {seeds} seeds would settle it.",
        "unsettled": "Were the truth as observed, no practicable number of seeds would settle it.",
        "disagree": "Another test disagrees at the 5 % level: {checks}.",
        # Short forms for tables.
        "short": "{mean} [{low}, {high}], {test}",
        "short_parts": "{parts} parts, p {p}",
        # The answer and its caveats.
        "headline": "“{sentence}.” {text}",
        "headline_none": "This study tests no headline claim.",
        "tally": "Of {count} claims, {listed}.",
        "tally_item": "{n} {word} ({ids})",
        "caveat_missing": "{n} of the {expected} runs are missing; every claim that needs one of "
        "them is not tested.",
        "caveat_diverged": "{n} of the {present} runs diverged; they count with their last "
        "accuracy.",
        "caveat_seeds": "With {n} seeds no p-value can be below {p}: the sign-flip test cannot "
        "support or contradict any claim.",
        "caveat_family": "In the family “{family}” {m} claims share {n} seeds: no p-value can pass "
        "the first step of Holm's procedure on the sign-flip test.",
        "caveat_checks": "The verdict on {ids} rests on a sign-flip test with which another test "
        "disagrees.",
        "caveat_unstable": "When the seeds are drawn anew, the verdict on {ids} comes out in fewer "
        "than four of five draws.",
        "caveat_note": "{date}, {claim}: {text}",
        # Why: probes beside claims.
        "why.probe.gradient_slope": "slope of the log gradient norm over the layers",
        "why.probe.activation_gradient_norm": "gradient norm at the convolution's output",
        "why.probe.bn_input_mean_cv": "variation of the batch mean at BN's input",
        "why.probe.bn_input_variance_cv": "variation of the batch variance at BN's input",
        "why.probe.landscape_smoothness": "effective smoothness constant of the loss",
        "why.start": "at the start",
        "why.early": "after 100 steps",
        "why.end": "at the end",
        "why.steps": "training steps (log scale)",
        "why.layers": "layer, from the input",
        "why.title.training": "Over the training: {probe}",
        "why.title.depth": "Over depth: {probe}",
        "why.last.training": "At the end of the training",
        "why.last.depth": "At the last layer",
        "why.extremes": "{where} it is greatest for {most} ({greatest}) and least for {least} "
        "({smallest}).",
        "why.reading.training": "Line: mean over seeds, and over layers where there are several; "
        "band: its 95 % t-interval. Greater is worse. Solid: BN first, dashed: activation first, "
        "dotted: without BN.",
        "why.reading.depth": "Line: mean over seeds; band: its 95 % t-interval. Only {activation} "
        "is drawn. Solid: BN first, dashed: activation first, dotted: without BN.",
        "why.told": "{premise}, {joined} {consequence}. {together}",
        "why.and": "and",
        "why.but": "but",
        "why.premise.yes": "The premise holds: the arms that the claim calls worse have the worse "
        "probe",
        "why.premise.no": "The premise does not hold: the arms that the claim calls worse have the "
        "better probe",
        "why.premise.open": "The premise stays open: the probe is not clearly worse on either side",
        "why.premise.mixed": "The premise depends on the moment, as the table shows",
        "why.consequence.yes": "they have the lower accuracy, as the claim has it",
        "why.consequence.no": "they have the higher accuracy, against the claim",
        "why.consequence.open": "their accuracy is not clearly lower or higher",
        "why.together.yes": "Within seeds, orders with the worse probe do worse at the end.",
        "why.together.no": "Within seeds, orders with the worse probe do better at the end, so the "
        "probe does not explain the difference.",
        "why.together.open": "Within seeds, the probe at the end and accuracy do not clearly go "
        "together, so it does not explain the difference.",
        # Would it hold otherwise.
        "ladder.base": "the study's own recipe",
        "ladder.recomputed": "recomputed BN statistics",
        "ladder.chosen": "chosen for each order ({name})",
        "ladder.title": "Class and cut under each control",
        "ladder.axis": "difference in test accuracy (percentage points)",
        "ladder.moved": "After Holm these differ from the study's own recipe: {named}.",
        "ladder.more": ", and others",
        "ladder.still": "After Holm no effect differs from that under the study's own recipe.",
        "ladder.reading": "Mark: mean over seeds, averaged over activations and depths; line: "
        "95 % t-interval. Diamond and shaded band: the study's own recipe; filled circle: differs "
        "from it within seeds, with Holm over the controls; open circle: does not. Exploration: "
        "no verdict rests on it.",
        "ladder.alt": "A row for each control, a panel for each effect. {numbers}.",
        "and": " and ",
        "comma": ", ",
        "semicolon": "; ",
    },
)
