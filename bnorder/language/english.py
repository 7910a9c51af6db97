"""The English of the report: every word of it but what studies and claims files say."""

from bnorder.language.words import Language

# Sentences that a verdict gives; `bnorder.language.sentences` fills them.
SENTENCES = {
    # The numbers behind every tested part; each statement below carries them.
    "numbers": "95 % interval {low} to {high}",
    "sign_flip": "sign-flip p {p}",
    "tost": "TOST p {p}",
    "tost_interval": "TOST p {p}, 90 % interval {low} to {high}",
    "holm": "after Holm p {p}",
    "seeds": "n = {n} seeds",
    "beyond": "t-test beyond the margin p {p}",
    "together": "for all of them p {p}",
    "together.against": "against one of them p {p}",
    # One part: what its numbers say, without the verdict.
    "direction.supported": "the difference in {measure} is {effect} in the claimed direction",
    "direction.contradicted": "the difference in {measure} is {effect} against the claim",
    "direction.negligible": "the difference in {measure}, {mean}, is shown to lie within "
    "±{margin}: whatever there is, it is too small to matter",
    "direction.inconclusive.family": "the difference in {measure}, {mean}, does not hold up "
    "among all the claims of its family and their parts",
    "direction.inconclusive": "the difference in {measure}, {mean}, is too uncertain to call",
    "direction.two_sided.supported": "there is a difference in {measure} of {mean}",
    "direction.two_sided.negligible": "the difference in {measure}, {mean}, is shown to lie within "
    "±{margin}: whatever there is, it is too small to matter",
    "direction.two_sided.inconclusive.family": "the difference in {measure}, {mean}, does not hold "
    "up among all the claims of its family and their parts",
    "direction.two_sided.inconclusive": "the difference in {measure}, {mean}, is too uncertain to "
    "call",
    "interaction.supported": "the gap in {measure} changes by {effect} in the claimed direction",
    "interaction.two_sided.supported": "the gap in {measure} changes by {mean}",
    "interaction.contradicted": "the gap in {measure} changes by {effect} against the claim",
    "interaction.negligible": "the change of the gap in {measure}, {mean}, is shown to lie "
    "within ±{margin}: whatever there is, it is too small to matter",
    "interaction.inconclusive.family": "the change of the gap in {measure}, {mean}, does not "
    "hold up among all the claims of its family and their parts",
    "interaction.inconclusive": "the change of the gap in {measure}, {mean}, is too "
    "uncertain to call",
    "equivalence.supported": "the difference in {measure}, {mean}, is shown to lie within "
    "±{margin}",
    "equivalence.contradicted": "the difference in {measure}, {mean}, is shown to lie beyond "
    "±{margin}",
    "equivalence.inconclusive": "the difference in {measure}, {mean}, is shown neither to lie "
    "within ±{margin} nor beyond",
    "equivalence.inconclusive.within": "the difference in {measure}, {mean}, lies within ±{margin} "
    "by a test that does not hold up among all the claims of its family and their parts",
    "equivalence.inconclusive.beyond": "the difference in {measure}, {mean}, lies beyond ±{margin} "
    "by a test that does not hold up among all the claims of its family and their parts",
    "threshold.supported": "the mean {measure} is {effect} above {threshold}",
    "threshold.contradicted": "the mean {measure} is {effect} below {threshold}",
    "threshold.inconclusive.family": "the mean {measure} lies {mean} from {threshold}, a "
    "distance that does not hold up among all the claims of its family and their parts",
    "threshold.inconclusive": "whether the mean {measure} is above or below {threshold} "
    "stays open; it lies {mean} from it",
    # Whole verdicts.
    "one": "{verdict}: {statement} ({numbers}).",
    "all": "{verdict}: {count} parts must all hold ({numbers}). {parts}",
    "part": "{name}: {statement} ({numbers}).",
    "each": "By data set: {listed}.",
    "each.apart": "The data sets disagree: {listed}.",
    "each.crossed": "Between these two orders the difference is, by data set: {listed}.",
    "each.item": "{dataset} {mean} ({low} to {high})",
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
    "short_parts": "{parts} parts, p {p} for all",
    "short_parts.against": "{parts} parts, p {p} against one",
    # The answer and its caveats.
    "headline": "“{sentence}”: {verdict}, for {statement} ({numbers}).",
    "headline_parts": "“{sentence}”: {verdict} ({numbers}).",
    "headline_untested": "“{sentence}”: not tested ({reason}).",
    "headline_none": "This study tests no headline claim.",
    "opposite": "On {dataset} it averages over two differences of opposite sign, {listed}: there "
    "the "
    "order as a whole matters, and not only on which side of the activation BN stands. "
    "(Exploration.)",
    "lost": "Under the variant {variant}{on} it is {mean} ({low} to {high}) instead: a change of "
    "{change} ({changes}; after Holm p {p}; exploration).",
    "opposite.item": "{mean} ({low} to {high}) for {first} against {second}",
    "scale.too_small": "Real or not, it is too small to matter in practice: it is shown to lie "
    "within ±{margin} ({tost}).",
    "scale.settle": "With {n} seeds an effect of {detectable} would have been found four times in "
    "five; were the truth as observed, about {seeds} seeds would settle it.",
    "scale.unsettled": "With {n} seeds an effect of {detectable} would have been found four times "
    "in five.",
    "scale.undetectable": "With {n} seeds no effect, however large, can be found at this level.",
    "scale.largest": "For scale, the largest difference in {measure} between orders with BN that a "
    "claim compares is {mean} ({id}, 95 % interval {low} to {high}).",
    "tally": "Of {count} claims, {listed}.",
    "tally.one": "Of one claim, {listed}.",
    "tally_item": "{n} {word} ({ids})",
    "tally.supported": "supported",
    "tally.contradicted": "contradicted",
    "tally.negligible": "negligible",
    "tally.inconclusive": "inconclusive",
    "tally.not tested": "not tested",
    "caveat_missing": "Runs missing: {n} of {expected}; every claim that needs one of them is not "
    "tested.",
    "caveat_diverged": "Runs that diverged: {n} of {present}; they count with their last accuracy.",
    "caveat_seeds": "With n = {n} no p-value can be below {p}: the sign-flip test cannot "
    "support or contradict any claim.",
    "caveat_family": "In the family “{family}” {m} claims share {n} seeds: no p-value can pass "
    "the first step of Holm's procedure on the sign-flip test.",
    "caveat_behind": "Of the runs behind {ids}, some diverged: a difference between networks that "
    "did not train says little.",
    "caveat_checks": "On {ids}, the sign-flip test and another test of the same differences fall "
    "on different sides of 5 %, both before correction.",
    "caveat_unstable": "When the seeds are drawn anew, the verdict on {ids} comes out in fewer "
    "than four of five draws.",
    "and": " and ",
    "comma": ", ",
    "semicolon": "; ",
    "colon": ": ",
    "space": " ",
    "stop": ".",
    "percent": " %",
    "and_more": "{shown} and {more} more",
    # Why a claim could not be tested, and which checks fell out otherwise.
    "reason.part": "for the part “{part}”: {reason}",
    "reason.same": "its sides are the same arms in this study",
    "reason.two_values": "it needs at least two values of {axis}; the study has {have}",
    "reason.lacks": "the study has no {axis} {lacking}, only {have}",
    "reason.no_class": "the study has no ordering of the {axis} {value}",
    "reason.cuts": "the classes do not have the same cuts in this study ({listed})",
    "reason.unmeasured": "the study did not measure the {measure}",
    "reason.no_bn": "{measure} is read at BN, and {without} has none",
    "reason.too_short": "{measure} is read after {step} steps, and a run has {steps}; "
    "train for longer",
    "reason.two_seeds": "it needs at least two seeds",
    "reason.missing": "runs that it needs are missing, {n} of {needed}: {runs}",
    "reason.blank": "runs that it needs have no finite {column}, {n} of {needed}: {runs}",
    "axis.dataset": "data set",
    "axis.ordering": "ordering",
    "axis.activation": "activation",
    "axis.depth": "depth",
    "axis.variant": "variant",
    "axis.bn_class": "class",
    "axis.cut": "cut",
    "part.most": "{part} (most: {which})",
    "crossed": "{a} − {b}, {c} against {d}",
    "check.t": "paired t-test",
    "check.wilcoxon": "Wilcoxon test",
    "check.part": "{part}: {check}",
}

# What the figures say: titles, captions, alternative texts, axes; the report's captions fill them.
FIGURES = {
    "class.bn_first": "BN first",
    "class.act_first": "activation first",
    "class.none": "no BN or no act",
    "cut.conv_first": "conv first",
    "cut.conv_middle": "conv in the middle",
    "cut.conv_last": "conv last",
    "dataset.digits": "the 8×8 digits",
    "dataset.folder": "the images of {folder}",
    "activation.identity": "identity",
    "depth": "{n} blocks",
    "depth.one": "{n} block",
    "depth.any": "depth {level}",
    "cell": "{activation}, {depth}",
    "cell.on": "{dataset}: {cell}",
    "cell.variant": "{cell}, {variant}",
    "arm": "{ordering}, {activation}, {depth}",
    "all_activations": "all activations",
    "all_depths": "all depths",
    "steps_to": "steps to {threshold} % test accuracy",
    "no_interval": "no interval",
    "to": "{low} to {high}",
    "interval": "[{low}, {high}]",
    "on": " on {dataset}",
    "of_pages": " (part {number} of {pages})",
    "circles": "circles: {words}",
    "triangles": "triangles: {words}",
    "squares": "squares: {words}",
    "solid": "solid: {words}",
    "dashed": "dashed: {words}",
    "dotted": "dotted: {words}",
    "without_bn": "without BN",
    "accuracy.title": "Final test accuracy of every run{on}{part}",
    "accuracy.message": "The highest mean is {best} % ({best_arm}), the lowest {worst} % "
    "({worst_arm}).",
    "accuracy.reading": "Each small mark is a seed; the larger mark below it is the mean with its "
    "95 % t-interval, cut off where it leaves the axis. {marks}.",
    "dots.some": "Of more than 100 seeds, 100 are drawn and listed in the figure's data: "
    "evenly spaced in rank, the least and the greatest among them. All stand in tables/runs.csv.",
    "accuracy.outside": "Runs left of the axis are marked by an arrowhead at its edge.",
    "accuracy.axis_note": "All panels share one axis, which does not start at zero.",
    "accuracy.alt": "Strip plots of the final test accuracy, a panel for each activation and "
    "depth, a row for each of {orderings}. {message}",
    "accuracy.axis": "test accuracy at the last epoch (%)",
    "orderings": "{n} orderings",
    "orderings.one": "{n} ordering",
    "heat.title": "The grid as a heat map{on}{part}",
    "heat.message": "Leaving the depth and the activation as they are, the order moves the mean "
    "most with {activation} and {depth}: {spread} percentage points between {best} and {worst}.",
    "heat.reading": "Each cell is an arm: its mean test accuracy in %, over the seeds. The shade "
    "is the distance from the best order with the same activation and depth, darker for further, "
    "in "
    "a scale of this map's own whose darkest tenth looks alike; a frame marks that best order.",
    "heat.alt": "Table of mean test accuracies: a row for each ordering, a column for each "
    "activation and depth. {message} {cells}.",
    "blocks.title": "A block in each ordering",
    "blocks.cycle": "{orderings} are cuts of one cycle ({words})",
    "blocks.message": "{groups}: inside a stack they differ only at its two ends.",
    "blocks.reading": "Drawn from the orderings themselves, as two blocks of a deeper stack; "
    "pooling between blocks is left out.",
    "blocks.alt": "Chains of layers, two blocks of each ordering. {chains}.",
    "blocks.chain": "{ordering}: input, {layers}, classifier",
    "blocks.input": "input",
    "blocks.block": "block {n}",
    "blocks.classifier": "… classifier",
    "forest.title": "Every difference in percentage points",
    "forest.clear": "The 95 % interval excludes zero for {claims}, before any correction.",
    "forest.none": "Every 95 % interval includes zero.",
    "forest.reading": "Mark: mean over seeds; line: 95 % t-interval, not adjusted for the number "
    "of claims; shaded: within the claim's margin. Each part of a claim has its own mark. Filled "
    "circle: supported; cross: contradicted; diamond: negligible; open circle: inconclusive. "
    "Thresholds are left out. Equivalence claims say that the effect lies inside the shaded band, "
    "the others that it lies "
    "right of zero.",
    "forest.two_sided": "{claims}: any difference, on either side of zero.",
    "crossed.interval": "Of a claim about any of many contrasts, the one that stands out most is "
    "drawn, with an interval that holds for all of them at once.",
    "over_datasets": "Where a claim names no data set, averaged over the data sets.",
    "averaged": "Averaged over the data sets.",
    "forest.alt": "Forest plot of effects. {numbers}.",
    "forest.item": "{claim} {mean} ({interval}), {verdict}",
    "forest.axis": "effect in percentage points (right of zero: as the claim says)",
    "claim.title": "Evidence for {claim}",
    "claim.opening": "{contrast}: {verdict}.",
    "claim.reading": "Each dot is a seed's contrast, the diamond the mean with its 95 % "
    "t-interval.",
    "claim.reading_margin": "Each dot is a seed's contrast, the diamond the mean with its 95 % "
    "t-interval; shaded: within the margin.",
    "claim.alt": "Per-seed values of claim {claim} around zero. {numbers}.",
    "claim.item": "{part}: mean {mean}, 95 % interval {interval}",
    "claim.contrast": "the contrast",
    "claim.axis": "{measure}{unit}, a dot a seed",
    "claim.above_threshold": "{measure} above the threshold",
    "unit.pp": " (percentage points)",
    "unit.steps": " (steps)",
    "unit.": "",
    "short_unit.pp": " pp",
    "short_unit.steps": " steps",
    "short_unit.": "",
    "learning.title": "Test error while training{on}{part}",
    "learning.message": "Averaged over the training, the error is least for {least} ({low} %) and "
    "largest for {most} ({high} %).",
    "learning.reading": "Line: mean of the seeds; band: its 95 % t-interval at each evaluation. "
    "{lines}. Both axes are logarithmic, that of the steps from the first evaluation on, and "
    "shared "
    "by all panels.",
    "learning.alt": "Learning curves, {panels}, a line for each ordering. {message}",
    "learning.axis": "training steps (log scale)",
    "learning.side": "test error (%, log scale)",
    "panels": "{n} panels",
    "panels.one": "{n} panel",
    "convergence.title": "Steps to {threshold} % test accuracy{on}{part}",
    "convergence.every": "Every run reached {threshold} %.",
    "convergence.no_run": "No run reached {threshold} %.",
    "convergence.some": "Every run reached {threshold} % in {every} of {arms} arms.",
    "convergence.some_none": "Every run reached {threshold} % in {every} of {arms} arms, none did "
    "in {none}.",
    "convergence.medians": "The median is least for {fast} ({low} steps) and largest for {slow} "
    "({high} steps).",
    "convergence.medians_some": "Of the {known} arms in which more than half of the runs got "
    "there, the median is least for {fast} ({low} steps) and largest for {slow} ({high} steps).",
    "convergence.reading": "Each line is the share of an ordering's runs that have not reached "
    "the threshold at any evaluation so far (Kaplan–Meier; a run that never gets there counts to "
    "its last step). Lines that coincide cover each other.",
    "convergence.alt": "Falling step curves, a panel for each activation and depth. {message}",
    "convergence.axis": "training steps",
    "convergence.side": "share still below {threshold} %",
    "interaction.title": "The class effect by depth and activation{on}",
    "interaction.message": "The gap between the classes is largest with {cell}: {mean} "
    "percentage points ({interval}).",
    "interaction.reading": "Mark: mean within-seed difference, BN first − activation first, "
    "averaged over the cuts; line: 95 % t-interval, not adjusted; dots: the seeds. Parallel lines "
    "would say that depth and activation do not enter. Exploration: no verdict rests on it.",
    "interaction.alt": "Interaction plot: the difference between the classes against depth, a "
    "line for each activation. {message}",
    "interaction.axis": "depth (blocks)",
    "interaction.side": "BN first − activation first (pp)",
    "class_effect.title": "BN first against activation first, cell by cell",
    "class_effect.message": "The interval excludes zero in {clear} of {rows} rows.",
    "class_effect.reading": "Mark: mean within-seed difference in test accuracy (diamond: over "
    "the whole grid); line: 95 % t-interval, not adjusted. Exploration: no verdict rests on it.",
    "class_effect.alt": "Forest plot of the class effect. {numbers}.",
    "class_effect.item": "{cell} {mean} ({interval})",
    "class_effect.axis": "BN first − activation first, test accuracy (percentage points)",
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
    "why.title.training": "Over the training: {probe}{on}",
    "why.title.depth": "Over depth: {probe}{on}",
    "why.last.training": "At the end of the training",
    "why.last.depth": "At the last layer",
    "why.extremes": "{where} it is greatest for {most} ({greatest}) and least for {least} "
    "({smallest}).",
    "why.reading.training": "Line: mean over seeds, and over layers where there are several; "
    "band: its 95 % t-interval. Greater is worse. {lines}.",
    "why.reading.depth": "Line: mean over seeds; band: its 95 % t-interval. Only {activation} "
    "is drawn. {lines}.",
    "why.told": "{premise}, {joined} {consequence}. {together}",
    "why.and": "and",
    "why.but": "but",
    "why.premise.yes": "The premise holds: the arms that the claim calls worse have the worse "
    "probe",
    "why.premise.no": "The premise does not hold: the arms that the claim calls worse have the "
    "better probe",
    "why.premise.open": "The premise stays open: the arms that the claim calls worse have a probe "
    "that is not clearly worse or better",
    "why.premise.mixed": "Whether the arms that the claim calls worse have the worse probe depends "
    "on the moment, as the table shows",
    "why.consequence.yes": "they have the lower accuracy, as the claim has it",
    "why.consequence.no": "they have the higher accuracy, against the claim",
    "why.consequence.open": "their accuracy is not clearly lower or higher",
    "why.interaction.premise.yes": "The premise holds: the gap in the probe moves as the claim has "
    "it",
    "why.interaction.premise.no": "The premise does not hold: the gap in the probe moves the other "
    "way",
    "why.interaction.premise.open": "The premise stays open: the gap in the probe is not shown to "
    "move",
    "why.interaction.premise.mixed": "How the gap in the probe moves depends on the moment, as the "
    "table shows",
    "why.interaction.consequence.yes": "the gap in accuracy moves as the claim has it",
    "why.interaction.consequence.no": "the gap in accuracy moves against the claim",
    "why.interaction.consequence.open": "the gap in accuracy is not shown to move",
    "why.together.yes": "Within seeds, orders with the worse probe do worse at the end.",
    "why.together.no": "Within seeds, orders with the worse probe do better at the end, so the "
    "probe does not explain the difference.",
    "why.together.open": "Within seeds, the probe at the end and accuracy do not clearly go "
    "together; that it explains the difference is not shown.",
    "why.alt": "{title}. {message}",
    "why.of_part": "{part}: {sentence}",
    "ladder.base": "the study's own recipe",
    "ladder.recomputed": "recomputed BN statistics",
    "ladder.chosen": "chosen for each order ({name})",
    "ladder.title": "Class and cut under each control{on}",
    "ladder.axis": "difference in test accuracy (percentage points)",
    "ladder.under": "{effect} under “{control}”",
    "ladder.item": "{control}, {effect}: {mean} ({interval})",
    "ladder.moved": "After Holm these differ from the study's own recipe: {named}.",
    "ladder.moved_more": "After Holm these differ from the study's own recipe: {named}, and "
    "others.",
    "ladder.still": "After Holm no effect differs from that under the study's own recipe.",
    "ladder.reading": "Mark: mean over seeds, averaged over activations and depths; line: 95 % "
    "t-interval. Diamond and shaded band: the study's own recipe; filled circle: differs from it "
    "within seeds, with Holm over the controls; open circle: does not. Exploration: no verdict "
    "rests on it.",
    "ladder.alt": "A row for each control, a panel for each effect. {numbers}.",
    "mixed.title": "Mixed model of test accuracy",
    "mixed.converged": "The fit converged; {clear} of {rows} terms have a 95 % interval without "
    "zero.",
    "mixed.failed": "The fit did not converge; {clear} of {rows} terms have a 95 % interval "
    "without zero.",
    "mixed.reading": "Mark: fixed effect, as a deviation from the mean of all (sum coding); line: "
    "its interval; the seed is a random effect. Exploration: no verdict rests on it.",
    "mixed.some": "Of more than 30 terms the first 30 are drawn, those of fewest factors first; "
    "all "
    "stand in analysis/mixed_model.json.",
    "mixed.datasets": "Left out is what sets the data sets themselves apart, as one is harder than "
    "another.",
    "mixed.alt": "Forest plot of the model's fixed effects. {numbers}.",
    "mixed.item": "{term} {mean}",
    "mixed.axis": "estimate (percentage points of test accuracy)",
}

# The page around them; some hold markup.
PAGE = {
    "title.default": "Batch normalisation before or after the activation: {study}",
    "keywords": "batch normalisation, activation, ordering, replication",
    "skip": "Skip to the answer",
    "study": "Study <code>{name}</code>",
    "contents": "Contents",
    "page.before": " (page ",
    "page.after": ")",
    "page.short": ", p. ",
    "page.short_after": "",
    "footer": "Made by <code>bnorder</code> {version} from the study's records; every number "
    "comes from its results files and was traced back to them.",
    "scheme": "Colours: as the system",
    "scheme.light": "Colours: light",
    "scheme.dark": "Colours: dark",
    # Notices and facts.
    "notice.figures": "Some of the grid is drawn.",
    "notice.drawn": "The figures show {activations} at the depths {depths}. Claims, tables and "
    "files take in the whole grid.",
    "missing.left_out": "More missing runs are listed in <code>tables/missing.json</code>.",
    "arms.left_out": "More arms stand in <code>analysis/arms.csv</code>.",
    "notice.incomplete": "Incomplete.",
    "notice.missing": "{missing} of {expected} runs are missing; claims that need them are not "
    "tested. The missing runs are listed at the end.",
    "notice.small": "A small study.",
    "notice.only": "Only {reasons}: it shows how the comparison works; it does not settle the "
    "question.",
    "seeds_of": "{n} seeds",
    "seeds_of.one": "{n} seed",
    "test_images": "{n} test images of {dataset}",
    "fact.depths": "depth {depths}",
    "runs_of": "{n} runs",
    "runs_of.one": "{n} run",
    "arms_of": "{n} arms",
    "arms_of.one": "{n} arm",
    "fact.diverged": "{n} diverged",
    # The answer and the verdicts.
    "answer": "The answer",
    "verdicts": "The claims and their verdicts",
    "verdicts.intro": "A verdict follows from rules that were fixed before the runs ({rules}).",
    "verdicts.rules": "how a verdict is reached",
    "verdicts.show": "Show",
    "verdicts.all": "all",
    "verdicts.count": "{shown} of {all} claims",
    "verdicts.caption": "Claims with verdict, effect with 95 % interval, adjusted p, number of "
    "seeds and evidence",
    "verdicts.note": "Effects are within-seed differences, written so that above zero is what the "
    "claim says (either side of it, where the claim is of any difference); for a threshold, "
    "accuracy minus the threshold. <i>pp</i>: percentage points. "
    "<i>p</i> is Holm-adjusted within each family of claims.",
    "verdicts.footnote": "Dated changes, if there were any, stand under “The plan and its "
    "amendments”.",
    "head.claim": "Claim",
    "head.verdict": "Verdict",
    "head.effect": "Effect [95 % interval]",
    "head.adjusted": "Adjusted <i>p</i>",
    "head.seeds": "Seeds",
    "head.evidence": "Evidence",
    "head.page": "Page",
    "label.effect": "Effect",
    "label.adjusted": "Adjusted p",
    "too_small_mark": "too small to matter",
    "no_data": "no data",
    "evidence": "evidence",
    "why_not": "why not",
    "evidence_for": "for {claim}",
    "verdict.supported": "supported",
    "verdict.contradicted": "contradicted",
    "verdict.negligible": "negligible",
    "verdict.inconclusive": "inconclusive",
    "verdict.not tested": "not tested",
    # The picture.
    "glance": "The whole grid at a glance",
    "glance.intro": "Every run of the study is in {figures}; {blocks} shows the orders.",
    "figure": "Figure",
    "figure.ref": "Figure&nbsp;{number}",
    "figure.head": "Figure&nbsp;{number}. {title}.",
    "figure.data": "Data (CSV)",
    "figure.files": "Data: figures/{key}.csv",
    "figure.made": "drawn by <code>{script}</code>, rule <code>report</code>, study "
    "<code>{study}</code>",
    "figure.enlarge": "Enlarge",
    "figure.enlarge_label": "Enlarge figure {number}",
    "figure.enlarged": "Enlarged figure",
    "figure.close": "Close",
    "orderings.legend": "Orderings",
    "highlight": "Highlight in every figure",
    # What was asked.
    "question": "What was asked",
    "question.block": "A block of a convolutional network holds a convolution, batch "
    "normalisation (BN) and an activation. Should BN come before the activation or after it?",
    "question.source": "{source} answers from theory and from an experiment without seeds, spread "
    "or test. Its claims were written down as contrasts between arms before the runs; this report "
    "gives each its verdict.",
    "question.other_source": "The claims of {source} were written down as contrasts between arms "
    "before the runs; this report gives each its verdict.",
    "question.classes": "Stacked, the six permutations of the three layers fall into two classes "
    "of cyclic shifts. In <b>BN first</b> the activation follows BN; in <b>activation first</b> "
    "BN follows the activation. Members of a class are the same network inside a deep stack and "
    "differ only at its ends, where the cycle is cut. So an ordering is two factors, class and "
    "cut, and comparing two members of one class varies only the cut.",
    "a_source": "A source",
    "others": "What others found",
    "others.caption": "Published comparisons of the two orders",
    "others.source": "Source",
    "others.setup": "Set-up",
    "others.conclusion": "Conclusion",
    "others.note": "In brackets: what was read where it was not the source itself. None of the "
    "sources that were read whole reports a significance test.",
    # How it was done.
    "method": "How it was done",
    "orderings.title": "The orderings",
    "grid": "The grid",
    "grid.caption": "The study's grid",
    "grid.axis": "Axis",
    "grid.levels": "Levels",
    "grid.data": "Data",
    "grid.ordering": "Ordering",
    "grid.activation": "Activation",
    "grid.depth": "Depth (blocks)",
    "grid.seed": "Seed",
    "grid.variant": "Variant",
    "grid.order": "{ordering} ({words})",
    "grid.seeds": "{n}: {first} to {last}",
    "grid.listed": "{n}: {seeds}",
    "grid.size": "{arms} × {seeds}: {runs}.",
    "grid.size_missing": "{arms} × {seeds}: {runs}, of which {present} are here.",
    "grid.pairing": "A seed fixes the order of the data and, where shapes agree, the initial "
    "weights for every arm alike, so arms are compared seed by seed.",
    "recipe": "The recipe",
    "recipe.caption": "The training recipe",
    "recipe.setting": "Setting",
    "recipe.value": "Value",
    "recipe.variants": "Variants",
    "recipe.result": "The result of a run is its last epoch, never its best. A run whose loss "
    "stops being finite is a result too: it is counted, and keeps its last accuracy.",
    "recipe.width": "Channels of every block",
    "recipe.kernel": "Side of the kernel",
    "recipe.downsampling": "Down-sampling",
    "recipe.downsample_blocks": "Blocks that halve the image",
    "recipe.stem": "Stem",
    "recipe.head": "Head",
    "recipe.final_norm_act": "Final BN and activation",
    "recipe.conv_bias": "Convolution bias",
    "recipe.scaling": "Pixels",
    "recipe.initialisation": "Initialisation",
    "recipe.bn_momentum": "BN momentum",
    "recipe.bn_eps": "BN epsilon",
    "recipe.optimiser": "Optimiser",
    "recipe.learning_rate": "Learning rate",
    "recipe.momentum": "Momentum",
    "recipe.weight_decay": "Weight decay",
    "recipe.schedule": "Schedule",
    "recipe.batch_size": "Batch size",
    "recipe.epochs": "Epochs",
    "recipe.train_images": "Training images",
    "recipe.validation_images": "Validation images",
    "recipe.precision": "Arithmetic",
    "value.all": "all",
    "value.none": "none",
    "value.yes": "yes",
    "value.no": "no",
    "setting": "{name} = {value}",
    "rules": "How a verdict is reached",
    "rules.contrast": "A claim is a contrast between arms. It is computed within each seed, over "
    "all its arms, before any test: one number a seed.",
    "rules.test": "A two-sided sign-flip permutation test asks whether those numbers centre on "
    "zero. Holm's method adjusts its <i>p</i> over the claims of a family that the study can "
    "test.",
    "rules.smallest": "With {n} seeds the smallest <i>p</i> that the test can give is {p}; the "
    "tests "
    "of equivalence are t-tests and have no such floor.",
    "rules.interval": "The interval is the 95 % t-interval of the mean contrast; that of a claim "
    "about any of many contrasts is wide enough to hold for all of them at once. Hedges’ "
    "g is the mean difference over the root mean square of the two sides’ SDs.",
    "rules.words": "<b>Supported</b>: adjusted <i>p</i> below {level} and the mean has the "
    "claimed sign. <b>Contradicted</b>: adjusted <i>p</i> below {level} and the opposite sign. "
    "<b>Negligible</b>: neither, and two one-sided tests (TOST, each at {level}, not adjusted) "
    "show the effect to be within the claim's margin: the 90 % interval lies within it. "
    "<b>Inconclusive</b>: none of these. <b>Not tested</b>: an arm, a run or a measure that the "
    "contrast needs is missing; a smaller contrast is never put in its place.",
    "rules.equivalence": "A claim of equivalence is supported when two one-sided tests place "
    "every difference within the margin, and contradicted when one is shown to lie outside it. A "
    "threshold claim is the same test on the runs' values minus the threshold.",
    "rules.parts": "A claim of several parts is supported only if each part is, and contradicted "
    "if any part is. Its <i>p</i> is the largest of its parts’, or, against it, the smallest times "
    "their number.",
    # What came out.
    "results": "What came out",
    "results.forest": "{figure} puts every difference on one axis; below it each claim has its own "
    "evidence, a dot a seed.",
    "family": "Claims from {family}",
    "family.experiment": "the experiment",
    "family.theory": "theory",
    "numbers_behind": "Numbers behind {claim}",
    "numbers_of": "Statistics of each part of {claim}",
    "part_head": "Part",
    "mean": "Mean",
    "interval_head": "95 % interval",
    "sd": "SD",
    "p.sign_flip": "<i>p</i> sign flip",
    "p.t": "<i>p</i> paired t",
    "p.wilcoxon": "<i>p</i> Wilcoxon",
    "p.tost": "<i>p</i> TOST",
    "hedges": "Hedges’ g",
    "detectable_head": "Detectable",
    "claim.contrast_note": "Contrast: {contrast}.",
    "claim.measure_note": "Measure: {measures}.",
    "claim.margin_note": "Margin: {bounds}.",
    "claim.threshold_note": "Threshold: {threshold} %.",
    "claim.p_note": "Adjusted <i>p</i>: {p}.",
    "claim.detectable_note": "Detectable: the effect that this many seeds find with 80 % power.",
    "claim.detectable_margin_note": "Detectable: the margin within which this many seeds show "
    "equals to lie, with 80 % power.",
    "claim.settle_note": "Seeds that would settle it: {seeds}.",
    "claim.stability_note": "Drawing the seeds anew {resamples} times gave this verdict in "
    "{share} of the draws.",
    # Learning.
    "learning": "Learning and convergence",
    "learning.intro": "How the error falls ({figures}).",
    "learning.intro_both": "How the error falls ({figures}), and when runs first reach a "
    "threshold ({others}).",
    "convergence.intro": "When runs first reach a threshold ({others}).",
    "steps": "Median steps to each threshold",
    "steps.caption": "Median steps to each threshold by arm",
    "steps.note": "Kaplan–Meier median of the step of the first evaluation at or above the "
    "threshold; beside it the runs that reached it, of all. A dash: half of them or fewer did.",
    "ordering": "Ordering",
    "ordering.on": "{ordering} on {dataset}",
    "measure_unit": "{measure}, {unit}",
    "activation": "Activation",
    "depth_head": "Depth",
    "variant": "Variant",
    # Why.
    "why": "Why",
    "why.intro": "A claim from theory names a cause inside the network. For each such claim: what "
    "was measured there, whether the arms that the claim calls worse have the worse measurement "
    "(its premise), whether they have the lower test accuracy (its consequence), and whether, "
    "within a seed and among orders that share all else, the two go together. Only the study's "
    "own recipe, and no verdict rests on it: with few orders, what goes together need not be "
    "cause and effect.",
    "why.claim": "{claim}: {probe}",
    "why.table": "Premise and consequence of {claim}",
    "why.caption": "Premise, consequence and correlation of {claim}",
    "why.measured": "Measured",
    "why.premise": "Premise: probe, worse − better arms",
    "why.consequence": "Consequence: accuracy, better − worse arms, pp",
    "why.correlation": "Probe with accuracy, rank correlation",
    "why.p": "<i>p</i>",
    "why.row": "{when}, {part}",
    "why.pictures": "Pictures: {figures}.",
    "why.note": "Above zero in the premise and in the consequence is what the claim's story says; "
    "below zero in the correlation. Brackets: 95 % t-intervals over the seeds; <i>p</i>: "
    "sign-flip test, not adjusted. The consequence is the same contrast of test accuracy, "
    "whatever the claim itself is judged by.",
    "why.without": "No probe is named for {claims}.",
    # Would it hold otherwise.
    "otherwise": "Would it hold otherwise",
    "otherwise.intro": "Each control changes one thing in the recipe and keeps the rest, seeds "
    "included. For each: does the difference between the classes, or between the cuts, move, and "
    "does any verdict change? No verdict of this report rests on a control.",
    "otherwise.effects": "The class effect under each control",
    "otherwise.caption": "The class effect under each control, its change, and verdicts that "
    "change",
    "otherwise.control": "Control",
    "otherwise.class": "BN first − activation first, pp",
    "otherwise.change": "Change from base, pp",
    "otherwise.p": "<i>p</i>, Holm",
    "otherwise.verdicts": "Verdicts that change",
    "otherwise.row": "{control} on {dataset}",
    "otherwise.of": "{changed} of {tested}",
    "otherwise.claim": "{claim}, {verdict} on the study's own recipe: {others}.",
    "otherwise.under": "{verdict} under “{control}”",
    "otherwise.note": "Each control is judged with as many seeds as the recipe itself; a verdict "
    "near its limit changes by chance as well. Holm's method counts the claims of a family, not "
    "the controls.",
    "otherwise.unchanged": "No verdict that a control can test changes under it.",
    "otherwise.choice": "What each order chose",
    "otherwise.choice_intro": "Each order was trained under each of these on other seeds, with "
    "images held out of the training set, and took the one with the highest mean accuracy on "
    "them, here in bold. It is judged, as any order is, on the test set and on the seeds of the "
    "study.",
    "otherwise.choice_caption": "Mean accuracy on held-out images, in percent",
    # Exploration.
    "exploration": "Exploration",
    "exploration.intro": "Nothing here was planned as a test of a claim, and no verdict rests on "
    "it.",
    "model.not_fitted": "The mixed model was not fitted: {message}",
    "model.formula": "Formula: {formula}.",
    "model.used": "Fitted to {n} runs of {seeds} seeds; runs without a class, variants, and seeds "
    "beyond the first 200 are left out.",
    "model.warnings": "Said while fitting: {warnings}.",
    "pairwise": "Orders against each other, arm by arm",
    "pairwise.intro": "Of {rows} pairs, {clear} differ at the 5 % level after Holm over "
    "the pairs of one cell, which is no correction for the number of cells.",
    "least_p": "Those of least p are shown. All: {file}.",
    "where": "Where",
    "axis.dataset_head": "Data set",
    "first": "First",
    "second": "Second",
    "first_second": "First − second, pp",
    "p_head": "p",
    "p_holm": "p, Holm",
    "class_cut": "Class and cut as two factors",
    "class_cut.intro": "Averaged over the activations and depths of the grid; p not adjusted.",
    "effect_head": "Effect",
    "contrast_head": "Contrast",
    "measure_head": "Measure",
    "effect.class": "class",
    "effect.cut": "cut",
    "effect.class x cut": "class × cut",
    "shares": "How much of the differences between orders is class, how much cut",
    "shares.intro": "Of the variation between the orders' means, averaged over the grid.",
    "share": "Share",
    "logrank": "Speed of convergence, order against order",
    "logrank.intro": "Of {rows} log-rank tests, {clear} reject at the 5 % level after Holm "
    "over the pairs of one cell and threshold, which is no correction for the number of those.",
    "threshold_head": "Threshold, %",
    "logrank_head": "Log-rank",
    "pairing": "Does pairing by seed pay?",
    "pairing.intro": "Correlation between arms over the seeds, and the spread of a difference "
    "with and without pairing.",
    "arms_head": "Arms",
    "mean_correlation": "Mean correlation",
    "sd_paired": "SD paired",
    "sd_unpaired": "SD unpaired",
    "ratio": "Ratio of variances",
    "by_variant": "The claims under each variant",
    "diverged": "Runs that diverged",
    "diverged.note": "Arms without a diverged run are left out. Intervals are exact "
    "(Clopper–Pearson).",
    "arm_head": "Arm",
    "diverged_head": "Diverged",
    # Practice, limits.
    "practice": "What to do in practice",
    "practice.apart": "The data sets disagree on this; see the claim.",
    "practice.intro": "For networks and data like these; each line follows from one verdict.",
    "limits": "Limits",
    "limits.one_dataset": "One data set: nothing here speaks for data unlike {dataset}.",
    "limits.network": "One small network of {width} channels, at depth {depths}, without skip "
    "paths.",
    "limits.recipe": "One recipe: no order had its own learning rate or batch size.",
    "limits.cut": "Down-sampling by {how}: a cut also moves the pooling, so members of a class "
    "are not exactly one network.",
    "limits.untested": "Not tested here: {claims}; each says why.",
    "pool.max_pool": "max-pooling",
    "pool.average_pool": "average-pooling",
    # Reproduction.
    "reproduce": "How to reproduce it",
    "reproduce.commands": "Commands",
    "commands.whole": "the whole study, to both reports",
    "commands.alone": "this report alone",
    "cost.none": "No run is here.",
    "cost": "The {runs} took {time} by the clock, added up; jobs that share a core wait for each "
    "other.",
    "cost.speed": "The median speed was {speed} training images a second.",
    "cost.energy": "That is at most about {energy}, estimated from {watts} W a busy processor "
    "thread and {gpu} W a GPU; no meter was read.",
    "cost.seconds": "{n} seconds",
    "cost.minutes": "{n} minutes",
    "cost.hours": "{n} hours",
    "cost.watt_hours": "{n} Wh",
    "cost.kilowatt_hours": "{n} kWh",
    "provenance": "Provenance",
    "provenance.caption": "What made the runs",
    "provenance.what": "What",
    "provenance.value": "Value",
    "made.study": "Study file, SHA-256",
    "made.code_hash": "Code that decides the numbers",
    "made.data": "Data, {dataset}, SHA-256",
    "made.claims": "Claims file",
    "made.python": "Python",
    "made.torch": "PyTorch",
    "made.system": "System",
    "made.device": "Hardware",
    "made.threads": "Threads a run",
    "made.kernels": "Kernels",
    "made.bnorder": "bnorder",
    "arms": "Every arm",
    "arms.caption": "Final test accuracy of every arm",
    "runs_head": "Runs",
    "mean_percent": "Mean, %",
    "lowest": "Lowest",
    "highest": "Highest",
    "parameters": "Weights",
    "configuration": "Configuration",
    "missing": "Missing runs",
    # The plan.
    "plan": "The plan and its amendments",
    "plan.intro": "These claims, contrasts, kinds of test and margins stood in <code>{file}</code> "
    "before the runs; amendments, if there are any, stand below with their dates, and the table "
    "has the claims as amended. Each contrast is taken within a seed; above zero is what the claim "
    "says, or either side of it where the kind is two-sided.",
    "plan.caption": "The claims under test",
    "plan.contrast": "Contrast",
    "plan.type": "Kind",
    "plan.measure": "Measure",
    "plan.margin": "Margin",
    "type.direction": "direction",
    "type.two_sided": "two-sided",
    "type.interaction": "interaction",
    "type.equivalence": "equivalence",
    "type.threshold": "threshold",
    "plan.headline": "The answer opens with {claim}, chosen beforehand.",
    "amendments": "Amendments",
    "amendments.none": "None: the claims are as they were written down.",
    "references": "References",
}

ENGLISH = Language(
    code="en",
    tag="en-GB",
    decimal=".",
    templates=SENTENCES | FIGURES | PAGE,
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
        "gradient_slope@0": "absolute slope of the log gradient norm at the start",
        "gradient_slope@100": "absolute slope of the log gradient norm after 100 steps",
        "bn_input_mean_cv": "variation of the batch mean",
        "bn_input_variance_cv": "variation of the batch variance",
        "running_loss_pp": "accuracy lost by running averages",
    },
    units={"pp": " percentage points", "steps": " steps", "": ""},
)
