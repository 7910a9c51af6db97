"""The blocks of README.md that are made from published results: the answer, costs and spread."""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

from bnorder.language import language
from bnorder.language.names import ordering_words
from bnorder.language.printing import number, p_value, signed
from bnorder.ordering import Ordering
from bnorder.publishing import confirmation
from bnorder.publishing.published import (
    PUBLISHED,
    published_studies,
    published_study,
    read_manifest,
    read_tables,
)
from bnorder.records import runs_table
from bnorder.report.look import activation_words, dataset_words
from bnorder.statistics.estimates import t_interval, tost_p

MAIN = "article"  # the study that answers, once it is published
AGAIN = "replication"  # the same with other seeds
ELSEWHERE = "fashion"  # the same on other images
TOGETHER = "datasets_fashion"  # both data sets, for T8
PIXELS = "fashion_pixels"  # two orders, with pixels that the first ReLU cuts and does not
UNCUT = ("fashion_unit", "controls_pixels")  # all orders, with pixels that no ReLU cuts
CHECK = "sanity"  # the study that checks the method
CLAIMS_PAGE = "docs/published.md"
SMALL = "digits"  # the data set that comes with scikit-learn: it shows the machinery
SAMPLED_EVERY = 30  # seconds between Snakemake's readings of a job's processor time
COST_WORDS = """\
Processor time is the workflow's own measurement of the training jobs, scaled to all runs of the
study. Snakemake reads it every half minute and so misses a quarter of a minute of a job on average,
which is added. A job uses one core, so the times on two and on eight cores are computed from it and
from the number of jobs; a busy machine takes longer, and processors differ by more than two times.
Set-up, statistics and report come on top. On one GPU it is the wall time of
`scripts/train_study.py` ([docs/speed.md](docs/speed.md)). A column that was not measured says so.
The cost that stands in a study's file was estimated before it was run, on whichever machine was at
hand."""
GPU_BENCHMARK = Path("benchmarks/results/gpu")


@dataclass(frozen=True)
class Published:
    """One published study as the pages need it."""

    folder: Path
    manifest: Mapping[str, Any]
    verdicts: Mapping[str, Any]

    @property
    def claims(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.verdicts["verdicts"]
        return found

    def claim(self, name: str) -> Mapping[str, Any] | None:
        return next((c for c in self.claims if c["id"] == name), None)


def read_published(root: Path) -> list[Published]:
    """All published studies: the answer and what repeats it first, those on the digits last."""
    found = [
        Published(f, read_manifest(f), json.loads((f / "verdicts.json").read_text("utf-8")))
        for f in published_studies(root / PUBLISHED)
    ]

    order = [MAIN, AGAIN, ELSEWHERE, TOGETHER, PIXELS, *UNCUT]

    def place(p: Published) -> tuple[int, bool, str]:
        name = p.folder.name
        at = order.index(name) if name in order else len(order)
        return at, [*p.manifest["data"]] == [SMALL], name

    return sorted(found, key=place)


def _named(published: Sequence[Published], name: str) -> Published | None:
    return next((p for p in published if p.folder.name == name), None)


def tested(study: Published | None, name: str) -> Mapping[str, Any] | None:
    """A study's claim, if the study is there and could test it."""
    claim = study.claim(name) if study else None
    return claim if claim and claim["verdict"] != "not tested" else None


def answer(published: Sequence[Published]) -> str:
    """The answer, one figure, the verdicts in brief; the same of every study that is published."""
    if not published:
        return "No results are published here yet.\n"
    main = published[0]
    lines = [*in_short(published), *standing(main), ""]
    lines += [*_quote(_quoted(main.verdicts["answer"])), ""]
    lines += [
        (
            f"![Test accuracy of every run: a dot a seed, a bar its 95 % interval, by ordering]"
            f"({_link(main)}/answer.png)"
        ),
        "",
        "| | claim | verdict | effect |",
        "| --- | --- | --- | --- |",
        *(_row(claim, published) for claim in main.claims),
        "",
        (
            "Effects are in the claim's own direction, with 95 % intervals, over seeds; *p* before "
            "Holm's correction. Supported and contradicted are said after it; negligible rests on "
            "TOST as it is, whose 90 % interval lies within the margin. Of a claim of several "
            "parts, *p for all* is the one that all of them hold, *p against one* that one fails. "
            "[How a verdict is reached](docs/verdicts.md)."
        ),
        "",
        *_caveats(main),
        *replicated(published),
        *elsewhere(published),
        *_check(published),
        *_headlines(published),
        *relu_alone(published),
    ]
    return "\n".join(lines) + "\n"


def in_short(published: Sequence[Published]) -> list[str]:
    """What someone who builds a network wants to know first, while the answer is `negligible`."""
    found = [p for name in (MAIN, AGAIN) for p in published if p.folder.name == name]
    headlines = [p.claim(p.verdicts["headline"]) for p in found]
    margins = [c["margin"] for c in headlines if c and c["verdict"] == "negligible"]
    if len(margins) < 2:
        return []
    other = _named(published, ELSEWHERE)
    columns = [(f"MNIST, {_seeds(found)} seeds", _runs_of(found))]
    if other:
        columns.append((f"{data_words(other)}, {_seeds([other])} seeds", _runs_of([other])))
    lines = [
        "**In short**, for small networks like these:",
        "",
        (
            "- On MNIST it hardly matters on which side of the activation BN stands: the two sides "
            f"are shown to differ by less than {max(margins):g} percentage points (pp) of test "
            "accuracy, and again with other seeds."
        ),
        *([_elsewhere_in_short(published, other)] if other else []),
        *_pixels(published),
        ("- Conv-BN-act can be folded into the convolution for inference, Conv-act-BN cannot."),
        "",
        "| test accuracy, pp [95 % interval] | " + " | ".join(name for name, _ in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    cells = [differences(runs) for _, runs in columns]
    for label in dict.fromkeys(label for column in cells for label in column):
        lines.append(f"| {label} | " + " | ".join(c.get(label, "") for c in cells) + " |")
    lines += [
        *_uncut_table(published),
        "",
        (
            "Comparisons of single orders are exploration; no verdict rests on them. Nothing here "
            "speaks of networks with skip paths, or of much larger ones."
        ),
        "",
    ]
    return lines


def _seeds(studies: Sequence[Published]) -> int:
    return sum(len(p.manifest["seeds"]["reported"]) for p in studies)


def _runs_of(studies: Sequence[Published]) -> "pd.DataFrame":
    import pandas as pd

    return pd.concat([published_runs(p.folder) for p in studies], ignore_index=True)


def _elsewhere_in_short(published: Sequence[Published], other: Published) -> str:
    """What the other data set says of the same, and of which differences that is the mean."""
    headline = tested(other, other.verdicts["headline"])
    said = f"BN before minus after it is {headline['short']}" if headline else "it is not tested"
    if other.verdicts.get("opposite"):
        said += ", but this is the mean of two differences of opposite sign"
    t8 = tested(_named(published, TOGETHER), "T8")
    depends = ""
    if t8 and t8["verdict"] == "supported":
        depends = (
            f" How far the orders lie apart depends on the data (T8 is supported in `{TOGETHER}`); "
            "that another one comes out ahead is not shown by that."
        )
    return f"- On {data_words(other)} {said}.{depends}"


def _pixels(published: Sequence[Published]) -> list[str]:
    """What the pixels that the first ReLU cuts have to do with it, where that was shown."""
    pair, uncut = _named(published, PIXELS), _named(published, UNCUT[0])
    if not pair or not uncut:
        return []
    lag = _by_variant(pair, lambda runs: _gap(runs, PAIRS[1]))
    sides = _by_variant(uncut, bn_first_minus_act_first)
    gone = all(not _includes_zero(lag["base"] - lag[v]) for v in ("unit_pixels", "shared_stem"))
    if not gone or _includes_zero(sides["base"] - sides["unit_pixels"]):
        return []
    words = (
        "- That is the pixels' doing. Where no convolution stands before it, the first ReLU cuts "
        "off whatever in the standardised image is darker than its mean; pixels in [0, 1] it "
        "leaves as they are. With these, BN before minus after it is {uncut} instead of {cut} "
        "(with ReLU, `{study}`). BN-act-Conv minus act-BN-Conv, {lag} with two blocks, becomes "
        "{less}, and {shared} where both begin with the same convolution (`{pair}`). So let a "
        "convolution meet the pixels, and not an activation."
    )
    numbers = {"cut": sides["base"], "uncut": sides["unit_pixels"], "lag": lag["base"]}
    numbers |= {"less": lag["unit_pixels"], "shared": lag["shared_stem"]}
    said = {name: _estimate(values) for name, values in numbers.items()}
    mnist = _named(published, UNCUT[1])
    if mnist:
        sides = _by_variant(mnist, bn_first_minus_act_first)
        if _includes_zero(sides["unit_pixels"] - sides["base"]):
            words += " On MNIST the pixels are not shown to matter (`{mnist}`)."
    return [words.format(study=UNCUT[0], pair=PIXELS, mnist=UNCUT[1], **said)]


def _uncut_table(published: Sequence[Published]) -> list[str]:
    """The two factors with pixels as they were and with such as no ReLU cuts, and the change."""
    studies = [p for name in UNCUT for p in published if p.folder.name == name]
    if not studies:
        return []
    lines = [
        "",
        "| with ReLU | pixels standardised | pixels in [0, 1] | change |",
        "| --- | --- | --- | --- |",
    ]
    for p in studies:
        depths = language("en").join([str(d) for d in published_study(p.folder).depths])
        for words, contrast in (
            ("BN before − after (T5)", bn_first_minus_act_first),
            ("the convolution first − last", _first_minus_last),
        ):
            found = _by_variant(p, contrast)
            was, now = found["base"], found["unit_pixels"]
            cells = " | ".join(_interval(x) for x in (was, now, now - was))
            lines.append(f"| {words}, {data_words(p)}, {depths} blocks | {cells} |")
    return lines


def _by_variant(
    p: Published, contrast: "Callable[[pd.DataFrame], np.ndarray[Any, Any]]"
) -> dict[str, "np.ndarray[Any, Any]"]:
    """A contrast, one value a seed, under each of a study's variants."""
    runs = published_runs(p.folder)
    return {str(name): contrast(of) for name, of in runs.groupby("variant")}


def _gap(runs: "pd.DataFrame", pair: tuple[str, str]) -> "np.ndarray[Any, Any]":
    """One ordering minus another, seed by seed."""
    by_seed = runs.groupby(["seed", "ordering"])["test_accuracy_pp"].mean().unstack()
    return (by_seed[pair[0].lower()] - by_seed[pair[1].lower()]).to_numpy()


def _includes_zero(values: "np.ndarray[Any, Any]") -> bool:
    low, high = (float(x) for x in t_interval(values))
    return low <= 0 <= high


PAIRS = (("Conv-BN-act", "Conv-act-BN"), ("BN-act-Conv", "act-BN-Conv"))


def differences(runs: "pd.DataFrame") -> dict[str, str]:
    """BN before minus after at each end, the convolution first minus last, and the best order."""
    said = {}
    for (a, b), where in zip(PAIRS, ("begins", "ends"), strict=True):
        label = f"{a} − {b}: BN before − after, where a block {where} with the convolution"
        said[label] = _interval(_gap(runs, (a, b)))
    for depth, at in runs.groupby("depth"):
        said[f"the convolution first − last, {depth} blocks"] = _interval(_first_minus_last(at))
    mean = runs.groupby("ordering")["test_accuracy_pp"].mean()
    said["highest mean"] = f"{ordering_words(str(mean.idxmax()))}, {mean.max():.2f} %"
    return said


def _first_minus_last(runs: "pd.DataFrame") -> "np.ndarray[Any, Any]":
    """The convolution first minus last in test accuracy, seed by seed, of the orders with BN."""
    with_bn = runs[runs["ordering"].map(lambda name: "bn" in name.split("-"))]
    cuts = with_bn["ordering"].map(lambda name: Ordering(name).cut).rename("cut")
    by_seed = with_bn.groupby(["seed", cuts])["test_accuracy_pp"].mean().unstack()
    return (by_seed["conv_first"] - by_seed["conv_last"]).to_numpy()


def replicated(published: Sequence[Published]) -> list[str]:
    """Whether the answer came out again with other seeds, and what all seeds say together."""
    found = _held_beside(published, AGAIN)
    if not found:
        return []
    first, again, same = found
    both = np.concatenate([np.array(claim["parts"][0]["values"]) for claim in (first, again)])
    tost = p_value(float(tost_p(both, first["margin"])))
    text = (
        f"`{AGAIN}` is the same study with {again['n']} other seeds, written down before it was "
        f"run. {again['id']} came to {again['short']}, {again['verdict']}; over all {len(both)} "
        f"seeds it is {_estimate(both)}, TOST p {tost}. {same}"
    )
    return [text, ""]


def elsewhere(published: Sequence[Published]) -> list[str]:
    """Whether the answer came out on other images, and whether the two data sets differ."""
    found, other = _held_beside(published, ELSEWHERE), _named(published, ELSEWHERE)
    if not found or not other:
        return []
    _, again, same = found
    text = (
        f"`{ELSEWHERE}` is the same study on {data_words(other)}, written down before it was run. "
        f"{again['id']} came to {again['short']}, {verdict_words(again)}. {same}"
    )
    claim = tested(_named(published, TOGETHER), "T8")
    if claim:
        text += (
            f" `{TOGETHER}` holds the runs of both data sets together: {claim['id']}, "
            f"“{claim['sentence'].rstrip('.')}”, is {verdict_words(claim)} there: "
            + " ".join(part["text"] for part in claim["parts"])
        )
    return [text, ""]


def _held_beside(
    published: Sequence[Published], name: str
) -> tuple[Mapping[str, Any], Mapping[str, Any], str] | None:
    """The headline claim of the main study and of another; how many verdicts are the same."""
    main, study = _named(published, MAIN), _named(published, name)
    if not main or not study:
        return None
    first, again = (tested(p, main.verdicts["headline"]) for p in (main, study))
    if not first or not again:
        return None
    pairs = [(claim, study.claim(claim["id"])) for claim in main.claims]
    verdicts = {
        one["id"]: (one["verdict"], two["verdict"])
        for one, two in pairs
        if two and "not tested" not in (one["verdict"], two["verdict"])
    }
    changed = [f"{name} ({a}, then {b})" for name, (a, b) in verdicts.items() if a != b]
    same = (
        f"Of {len(verdicts)} claims, {len(verdicts) - len(changed)} got the same verdict again"
        + (f"; not {', '.join(changed)}." if changed else ".")
    )
    return first, again, same


def _check(published: Sequence[Published]) -> list[str]:
    """What came out where there is no activation to put before or behind, if that is published."""
    study = _named(published, CHECK)
    claim = tested(study, study.verdicts["headline"]) if study else None
    if not study or not claim:
        return []
    runs = published_runs(study.folder)
    layers = runs["ordering"].str.split("-")
    runs["left"] = layers.map(lambda names: "-".join(x for x in names if x != "act"))
    each = runs.groupby(["depth", "seed", "left"])["test_accuracy_pp"]
    apart = float((each.max() - each.min()).max())
    same = "the same to the last test image" if apart == 0 else f"within {apart:.2g} pp"
    by_seed = runs.groupby(["seed", "left"])["test_accuracy_pp"].mean().unstack()
    difference = (by_seed["conv-bn"] - by_seed["bn-conv"]).to_numpy()
    text = (
        f"As a check of the method, the study `{CHECK}` has nothing in the activation's place, so "
        f"that some orders become one network: of its {len(runs)} runs, {each.ngroups} networks "
        f"are left, and all runs of each are {same}. Of the two kinds that are left, BN behind "
        f"the convolution minus BN before it is {_estimate(difference)}; the comparison of "
        f"{claim['id']}, which holds a part of that, comes to {claim['short']}, "
        f"{claim['verdict']}."
    )
    return [text, ""]


def _estimate(values: "np.ndarray[Any, Any]") -> str:
    """The mean of percentage points, one a seed, with its 95 % interval."""
    return _interval(values).replace(" [", " pp [")


def _interval(values: "np.ndarray[Any, Any]") -> str:
    mean, low, high = (number(float(x)) for x in (values.mean(), *t_interval(values)))
    return f"{mean} [{low}, {high}]"


def _caveats(main: Published) -> list[str]:
    """What a reader must know before trusting the verdicts, and what was changed since."""
    found = [f"- {caveat}" for caveat in main.verdicts["caveats"]]
    found += [
        f"- {note['date']}, {note['claim']}: {note['text']}"
        for note in main.verdicts["notes"]
        if tested(main, note["claim"])
    ]
    return [*found, ""] if found else []


def published_runs(folder: Path) -> "pd.DataFrame":
    """The published runs, a row each."""
    return runs_table(published_study(folder), read_tables(folder))


def _headlines(published: Sequence[Published]) -> list[str]:
    """The headline claim in every published study, beside what the study has."""
    main = published[0]
    name = main.verdicts["headline"]
    claim = main.claim(name)
    sentence = f": {claim['sentence']}" if claim else ""
    return [
        f"The same question in every study that is published ([all their claims]({CLAIMS_PAGE})):",
        "",
        f"| study | data | grid | runs | {name}{sentence} | report |",
        "| --- | --- | --- | ---: | --- | --- |",
        *(_headline_row(p, name) for p in published),
        "",
        f"Where a study has several recipes, {name} is judged on its own, `base`.",
    ]


def _headline_row(p: Published, name: str) -> str:
    claim, runs = p.claim(name), p.manifest["runs"]["published"]
    said = "not tested"
    if claim and claim["verdict"] != "not tested":
        said = f"**{verdict_words(claim)}**, {claim['short']}"
    cells = [f"`{p.manifest['study']}`", data_words(p), _grid(p), f"{runs:,}", said, _reports(p)]
    return f"| {' | '.join(cells)} |"


def _grid(p: Published) -> str:
    """Orderings, activations, depths and seeds, in words."""
    seeds = p.manifest["seeds"]
    planned, reported = len(seeds["planned"]), len(seeds["reported"])
    n = f"{reported} seeds" if reported == planned else f"{reported} of {planned} seeds"
    study = published_study(p.folder)
    words = language("en")
    depths = f"depth{'s' * (len(study.depths) > 1)} {words.join([str(d) for d in study.depths])}"
    activations = words.join([activation_words(a, words) for a in study.activations])
    more = "; strides for pooling" if study.recipe.downsampling == "stride" else ""
    more += f"; {len(study.variants)} recipes" if len(study.variants) > 1 else ""
    chosen = sum(len(part.runs()) for part in study.parts()) - len(study.runs())
    n += f", and {chosen} runs that choose a recipe for each order" if chosen else ""
    return f"{len(study.orderings)} orders; {activations}; {depths}{more}; {n}"


def relu_alone(published: Sequence[Published]) -> list[str]:
    """The difference of T5 with ReLU alone, as the answer's seeds have it and as others have it."""
    names = (MAIN, AGAIN, ELSEWHERE)
    pair = [p for name in names for p in published if p.folder.name == name]
    if len(pair) < 2 or any("relu" not in published_study(p.folder).activations for p in pair):
        return []
    said = []
    for p in pair:
        runs = published_runs(p.folder)
        values = bn_first_minus_act_first(runs[runs["activation"] == "relu"])
        said.append(f"{_estimate(values)} in `{p.folder.name}`")
    return ["", f"With ReLU alone the difference of T5 is {language('en').join(said)}."]


def bn_first_minus_act_first(runs: "pd.DataFrame") -> "np.ndarray[Any, Any]":
    """BN first minus activation first in test accuracy, percentage points, one value a seed.

    Averaged over all else that the runs differ in.
    """
    classes = runs["ordering"].map(lambda name: Ordering(name).bn_class).rename("bn_class")
    by_seed = runs.groupby([runs["seed"], classes])["test_accuracy_pp"].mean().unstack()
    return (by_seed["bn_first"] - by_seed["act_first"]).to_numpy()


def data_words(p: Published) -> str:
    """The data sets of a study, as people write them."""
    return " and ".join(dataset_words(d, language("en")) for d in p.manifest["data"])


def _quoted(answer: Sequence[str]) -> list[str]:
    """Sentences as paragraphs of one quotation."""
    return "\n\n".join(answer).splitlines()


def _quote(lines: Sequence[str]) -> list[str]:
    return [f"> {line}".rstrip() for line in lines]


def standing(main: Published) -> list[str]:
    """Which study speaks, of how much of it, and what it cannot say."""
    runs, seeds = main.manifest["runs"], main.manifest["seeds"]
    text = f"**The answer of the study `{main.manifest['study']}`** on {data_words(main)}: "
    text += f"{runs['reported']:,} runs, {len(seeds['reported'])} seeds."
    if not main.manifest["complete"]:
        text += (
            f" **It is not finished:** {runs['published']:,} of {runs['planned']:,} runs are "
            f"there, and {len(seeds['reported'])} of {len(seeds['planned'])} seeds are whole."
        )
    if main.manifest["study"] != MAIN:
        text += " **It shows the machinery; the article's study on MNIST is not published yet.**"
    return [text]


def _row(claim: Mapping[str, Any], published: Sequence[Published]) -> str:
    here = claim["verdict"] != "not tested"
    effect = claim["short"] + _parts(claim) if here else _tested_in(claim, published)
    cells = [claim["id"], claim["sentence"], f"**{verdict_words(claim)}**", effect]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _tested_in(claim: Mapping[str, Any], published: Sequence[Published]) -> str:
    """Where a claim that the main study cannot test was tested, and how that came out."""
    for study in published:
        found = tested(study, claim["id"])
        if found:
            return f"in `{study.folder.name}` ({data_words(study)}): {verdict_words(found)}"
    return ""


def _parts(claim: Mapping[str, Any]) -> str:
    """What came out for each part, where that is not the same for all."""
    parts = claim["parts"]
    if len({part["verdict"] for part in parts}) < 2:
        return ""
    said = [
        f"{part['name'].partition(' (')[0]} {signed(part['mean'])} {part['unit']}".rstrip()
        + f", {part['verdict']}"
        for part in parts
    ]
    return f": {'; '.join(said)}"


def verdict_words(claim: Mapping[str, Any]) -> str:
    """A claim's verdict, and whether it is too small to matter."""
    return f"{claim['verdict']}{', and too small to matter' if claim['too_small'] else ''}"


def _reports(p: Published) -> str:
    return f"[HTML]({_link(p)}/report.html), [PDF]({_link(p)}/report.pdf)"


def publication(p: Published) -> str:
    """One study's entry in the list of docs/published.md: what it asks, and its files."""
    runs, link = p.manifest["runs"]["published"], f"../{_link(p)}"
    files = (
        ("HTML", "report.html"),
        ("PDF", "report.pdf"),
        ("records and verdicts", ""),
        ("what made them", "manifest.json"),
    )
    links = ", ".join(f"[{words}]({link}/{name})" for words, name in files)
    title = published_study(p.folder).title
    about = f"{data_words(p)}; {_grid(p)}; {runs:,} runs"
    return f"- `{p.manifest['study']}`: {title} ({about}): {links}."


def _link(p: Published) -> str:
    return f"report/published/{p.folder.name}"


def costs(published: Sequence[Published]) -> str:
    """What each published study costs to reproduce, from the processor time that was measured."""
    rows = [_cost_row(p) for p in published]
    lines = [
        "| study | runs | processor time | two cores | eight cores | one GPU | trained on |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *rows,
        "",
        COST_WORDS,
    ]
    return "\n".join(lines) + "\n"


def _cost_row(p: Published) -> str:
    cost, runs = p.manifest["cost"], p.manifest["runs"]["planned"]
    cells = ["not measured"] * 4
    if cost["measured_runs"]:
        jobs, scale = p.manifest["jobs"], runs / cost["measured_runs"]
        measured_jobs = cost.get("measured_jobs", jobs / scale)
        unseen = SAMPLED_EVERY / 2 * measured_jobs
        seconds = (cost["measured_processor_seconds"] + unseen) * scale
        seconds = min(seconds, cost["measured_job_seconds"] * scale)
        rounds = [math.ceil(jobs / cores) for cores in (2, 8)]
        cells[:3] = [_duration(seconds), *(_duration(seconds * n / jobs) for n in rounds)]
    on_gpu = [m for m in p.manifest["trained_with"] if confirmation.is_gpu(m["device"])]
    if on_gpu:
        trained = sum(m["runs"] for m in on_gpu)
        cells[3] = _duration(sum(m["run_seconds"] for m in on_gpu) * runs / trained)
    elif (benchmark := p.folder.parents[2] / GPU_BENCHMARK / f"{p.manifest['study']}.csv").exists():
        (row,) = csv.DictReader(benchmark.read_text(encoding="utf-8").splitlines())
        cells[3] = f"{_duration(float(row['wall_seconds']))} ({row['device']})"
    cells = [f"`{p.manifest['study']}`", f"{runs:,}", *cells, _trained_on(p)]
    return f"| {' | '.join(cells)} |"


def _trained_on(p: Published) -> str:
    """The processors that trained it, and how many of its runs were measured, where not all."""
    measured, runs = p.manifest["cost"]["measured_runs"], p.manifest["runs"]["planned"]
    devices = ", ".join(dict.fromkeys(made["device"] for made in p.manifest["trained_with"]))
    return devices if measured == runs else f"{devices}; {measured:,} runs measured"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


CONDITION_WORDS = {
    "again": "as it was, on the same kind of processor",
    "other_machine": "as it was, on a processor not known to be of the same kind",
    "other_threads": "with another number of threads",
    "other_kernels": "with fused kernels instead of PyTorch's own, or the reverse",
    "alone": "one seed alone instead of several as one network",
    "packed": "several seeds as one network instead of one alone",
    "other_device": "on a GPU instead of a CPU, and all that goes with it",
}


def spread(root: Path, published: Sequence[Published]) -> str:
    """How far runs that were trained again are off, by what was changed."""
    lines = [
        "| study | trained again | runs | identical to the last bit | largest difference | mean |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for path in sorted((root / confirmation.FOLDER).glob("*.csv")):
        rows = confirmation.read(path)
        for condition, words in CONDITION_WORDS.items():
            found = [row for row in rows if row.condition == condition]
            devices = sorted({row.device for row in found})
            if found and condition == "other_device":
                words = f"{words} ({', '.join(devices)})"
            if found:
                lines.append(f"| `{path.stem}` | {words} | {_spread_cells(found)} |")
    if len(lines) == 2:
        return "No published run has been trained again yet.\n"
    lines += ["", "Differences are in percentage points of test accuracy after the last epoch."]
    for p in published:
        again = confirmation.read_verdicts(root / confirmation.FOLDER / f"{p.folder.name}.json")
        lines += [f"\n{_verdicts_again(p, *one)}" for one in sorted(again.items())]
    return "\n".join(lines) + "\n"


def _verdicts_again(p: Published, devices: str, again: Mapping[str, Mapping[str, Any]]) -> str:
    """How many claims get the same verdict from the same runs on another device."""
    pairs = [(claim, again[claim["id"]]) for claim in p.claims if claim["id"] in again]
    pairs = [pair for pair in pairs if "not tested" not in (pair[0]["verdict"], pair[1]["verdict"])]
    changed = [
        f"{one['id']} ({verdict_words(one)}, then {verdict_words(two)})"
        for one, two in pairs
        if verdict_words(one) != verdict_words(two)
    ]
    said = (
        f"The runs of `{p.folder.name}` trained again on {devices}, same seeds and images, give "
        f"{len(pairs) - len(changed)} of {len(pairs)} tested claims the same verdict"
    )
    if not changed:
        return f"{said}."
    return f"{said}; not {', '.join(changed)}, which rounding alone decides."


def _spread_cells(rows: Sequence[confirmation.Comparison]) -> str:
    off = [100 * abs(row.correct_again - row.correct) / row.n_test for row in rows]
    same = sum(row.same_curve for row in rows)
    return f"{len(rows)} | {same} | {max(off):.2f} | {sum(off) / len(off):.3f}"
