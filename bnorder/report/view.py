"""What the report's templates are given: words and tables picked from the results."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import yaml

from bnorder.claims import both_signs
from bnorder.language import Language
from bnorder.language.printing import (
    mark,
    plain,
    rough,
    whole,
)
from bnorder.ordering import Ordering
from bnorder.report import look
from bnorder.report.drawing import drawn
from bnorder.report.results import Results

VERDICT_WORDS = ("supported", "contradicted", "negligible", "inconclusive", "not tested")
GLYPHS = dict(zip(VERDICT_WORDS, "✓✗≈?–", strict=True))
FEW_SEEDS = 10
FEW_TEST_IMAGES = 5000
MOST_ARMS = 300  # in the table of arms
MOST_MISSING = 300  # runs that are listed by name
Row = Mapping[str, Any]


def _dataset(results: Results, dataset: str) -> str:
    return look.dataset_words(dataset, results.words)


def notices(results: Results) -> list[dict[str, str]]:
    """What a reader must know first: runs are missing; the study is small."""
    words, facts, found = results.words, results.facts, []
    shown = drawn(results.study)
    if (shown.activations, shown.depths) != (results.study.activations, results.study.depths):
        depths = words.join(plain(d) for d in facts["grid"]["depths"] if d in shown.depths)
        activations = words.join(look.activation_words(a, words) for a in shown.activations)
        text = words.say("notice.drawn", activations=activations, depths=depths)
        found.append({"head": words.say("notice.figures"), "text": text})
    if facts["runs"]["missing"]:
        counts = {k: whole(facts["runs"][k]) for k in ("missing", "expected")}
        text = words.say("notice.missing", **counts)
        found.append({"head": words.say("notice.incomplete"), "text": text})
    seeds, reasons = facts["grid"]["seeds"], []
    if seeds < FEW_SEEDS:
        reasons.append(words.count(seeds, "seeds_of"))
    reasons += [
        words.say("test_images", n=whole(n), dataset=_dataset(results, dataset))
        for dataset, n in facts["test_images"].items()
        if n < FEW_TEST_IMAGES
    ]
    if reasons:
        text = words.say("notice.only", reasons=words.join(reasons))
        found.append({"head": words.say("notice.small"), "text": text})
    return found


def facts_line(results: Results) -> str:
    """Data, orderings, activations, depths, seeds and runs in one line."""
    words, study, facts = results.words, results.study, results.facts
    items = [
        words.join(_dataset(results, d) for d in study.datasets),
        words.count(facts["grid"]["ordering"], "orderings"),
        words.join(look.activation_words(a, words) for a in study.activations),
        words.say("fact.depths", depths=words.join(plain(d) for d in facts["grid"]["depths"])),
        words.count(facts["grid"]["seeds"], "seeds_of"),
        words.count(facts["runs"]["present"], "runs_of"),
    ]
    if facts["runs"]["diverged"]:
        items.append(words.say("fact.diverged", n=whole(facts["runs"]["diverged"])))
    return words.capital(" · ".join(items))


def families(results: Results) -> list[dict[str, Any]]:
    names = dict.fromkeys(v["family"] for v in results.claims)
    return [
        {
            "name": name,
            "words": results.words.templates.get(f"family.{name}", name),
            "claims": [v for v in results.claims if v["family"] == name],
        }
        for name in names
    ]


def grid(results: Results) -> list[dict[str, str]]:
    """One row an axis of the study's grid: its name and its levels."""
    words, study = results.words, results.study
    orders = (
        words.say(
            "grid.order",
            ordering=look.ordering_words(o),
            words=words.say(f"class.{Ordering(o).bn_class}"),
        )
        for o in look.in_order(study.orderings)
    )
    levels = {
        "data": words.join(_dataset(results, d) for d in study.datasets),
        "ordering": words.templates["semicolon"].join(orders),
        "activation": words.join(look.activation_words(a, words) for a in study.activations),
        "depth": words.join(plain(d) for d in results.facts["grid"]["depths"]),
        "seed": _seeds(results),
    }
    if len(study.variants) > 1:
        levels["variant"] = words.join(study.variants)
    return [{"axis": words.say(f"grid.{axis}"), "levels": said} for axis, said in levels.items()]


def _seeds(results: Results) -> str:
    words, facts, seeds = results.words, results.facts["grid"], results.study.seeds
    n = whole(facts["seeds"])
    if len(seeds) > 2 and all(b - a == 1 for a, b in itertools.pairwise(seeds)):
        first, last = plain(facts["first_seed"]), plain(facts["last_seed"])
        return words.say("grid.seeds", n=n, first=first, last=last)
    numbers = results.verdicts["seeds"]
    listed = words.join(plain(s) for s in numbers[:20]) + (" …" if len(seeds) > 20 else "")
    return words.say("grid.listed", n=n, seeds=listed)


def grid_sentence(results: Results) -> str:
    words, facts = results.words, results.facts
    sizes = {
        "arms": words.count(facts["grid"]["arms"], "arms_of"),
        "seeds": words.count(facts["grid"]["seeds"], "seeds_of"),
        "runs": words.count(facts["grid"]["runs"], "runs_of"),
    }
    if not facts["runs"]["missing"]:
        return words.say("grid.size", **sizes)
    return words.say("grid.size_missing", present=whole(facts["runs"]["present"]), **sizes)


def recipe(results: Results) -> list[dict[str, str]]:
    """One row a setting of the recipe, with the value that study.yaml gives it."""
    given, words = results.settings.get("recipe") or {}, results.words
    values = {key: given.get(key, value) for key, value in asdict(results.study.recipe).items()}
    if values["optimiser"] != "sgd":
        values.pop("momentum")
    return [
        {
            "key": words.templates.get(f"recipe.{key}", key.replace("_", " ")),
            "value": _setting(key, value, words),
        }
        for key, value in values.items()
    ]


def _setting(key: str, value: object, words: Language) -> str:
    if value == 0 and key in ("train_images", "validation_images"):
        return words.say("value.all" if key == "train_images" else "value.none")
    if isinstance(value, bool):
        return words.say("value.yes" if value else "value.no")
    return plain(value) if isinstance(value, float) else mark(value, str(value).replace("_", " "))


def variants(results: Results) -> list[dict[str, str]]:
    return [
        {"name": name, "changes": changes_words(results, name)}
        for name, changes in results.study.variants.items()
        if changes
    ]


def changes_words(results: Results, variant: str) -> str:
    """`learning rate = 0.003 and epochs = 8`: what a variant sets."""
    words = results.words
    given = (results.settings.get("variants") or {}).get(variant) or {}
    changes = results.study.variants.get(variant, {})
    return words.join(
        words.say(
            "setting",
            name=words.templates.get(f"recipe.{k}", k.replace("_", " ")),
            value=_setting(k, given.get(k, v), words),
        )
        for k, v in changes.items()
    )


def survival(results: Results) -> list[dict[str, Any]]:
    """A row an arm, a cell a threshold."""
    table = results.table("survival_summary")
    rows = []
    for arm in drawn(results.study).arms():
        if arm.variant != "base":
            continue
        at = {"ordering": arm.ordering, "activation": arm.activation, "depth": arm.depth}
        found = list(table.where(dataset=arm.dataset, variant="base", **at).rows())
        cells = [_cell_at(found, t) for t in results.study.thresholds]
        if found:
            act = look.activation_words(arm.activation, results.words)
            ordering, depth = look.ordering_words(arm.ordering), found[0]["depth"]
            row = {"ordering": ordering, "activation": act, "depth": depth, "cells": cells}
            rows.append(row | {"dataset": dataset_on(results, arm.dataset)})
    return rows


def dataset_on(results: Results, dataset: str) -> str:
    """A data set's name where there are several; nothing where there is one."""
    return _dataset(results, dataset) if len(results.study.datasets) > 1 else ""


def ordering_on(results: Results, row: Row) -> str:
    """An ordering, and its data set where there are several."""
    name = look.ordering_words(row["ordering"])
    if len(results.study.datasets) == 1:
        return name
    return results.words.say(
        "ordering.on", ordering=name, dataset=_dataset(results, row["dataset"])
    )


def _cell_at(rows: Sequence[Row], threshold: float) -> dict[str, Any]:
    for row in rows:
        if row["threshold"] == threshold:
            median = row["median_steps"]
            known = isinstance(median, float) and median == median
            return {"row": row, "sort": float(median) if known else 1e12}
    return {"row": None, "sort": 1e13}


def arms(results: Results) -> list[dict[str, Any]]:
    """The arms with their accuracy, number of weights and the hash of their configuration.

    MOST_ARMS of them; analysis/arms.csv has all.
    """
    facts, table = results.facts, results.table("arms")
    return [
        {
            **row,
            "config": facts["configurations"].get(row["arm"], ""),
            "parameters": facts["parameters"].get(row["arm"]),
            "dataset_words": dataset_on(results, row["dataset"]),
            "ordering_words": look.ordering_words(row["ordering"]),
            "activation_words": look.activation_words(row["activation"], results.words),
        }
        for row in table.pick(np.arange(len(table)) < MOST_ARMS).rows()
    ]


def statements(verdict: Row) -> dict[str, Any]:
    """A verdict's text, cut at its parts so that they can stand in a list; nothing is reworded."""
    text, parts = str(verdict["text"]), [str(p.get("text") or "") for p in verdict["parts"]]
    start = 0
    for part in parts:
        found = text.find(part, start) if part else -1
        if len(parts) < 2 or found < 0:
            return {"head": text, "parts": [], "tail": ""}
        start = found + len(part)
    head = text[: text.find(parts[0])].strip() if parts else text
    return {"head": head, "parts": parts, "tail": text[start:].strip() if parts else ""}


def plan(results: Results) -> list[dict[str, Any]]:
    """Every claim as it was planned: its contrast, kind of test, measures and margins."""
    words = results.words
    rows = []
    for verdict in results.claims:
        parts = verdict["plan"]
        measures = dict.fromkeys(look.measure_words(p["measure"], words) for p in parts)
        each = {(p["measure"], p["margin"], p["threshold"]): p for p in reversed(parts)}
        bounds = [_bound(p, words, named=len(measures) > 1) for p in reversed(each.values())]
        kind = "two_sided" if verdict["two_sided"] else verdict["type"]
        rows.append(
            {
                **verdict,
                "kind": words.say(f"type.{kind}"),
                "measures": words.join(measures),
                "bounds": words.templates["semicolon"].join(b for b in bounds if b),
            }
        )
    return rows


def _bound(part: Row, words: Language, *, named: bool) -> str:
    """A part's margin, or its threshold; named: with the measure that it is of."""
    unit = words.say(f"short_unit.{part['unit']}")
    if part["threshold"] is not None:
        return f"≥ {plain(part['threshold'])}" + (
            words.say("percent") if part["unit"] == "pp" else unit
        )
    if part["margin"] is None:
        return ""
    of = look.measure_words(part["measure"], words) + words.templates["colon"] if named else ""
    return f"{of}±{plain(part['margin'])}{unit}"


def limits(results: Results) -> list[str]:
    """What this study cannot say, from its own design; the analysis's caveats stand beside it."""
    study, words, lines = results.study, results.words, []
    if len(study.datasets) == 1:
        only = _dataset(results, study.datasets[0])
        lines.append(words.say("limits.one_dataset", dataset=only))
    width = (results.settings.get("recipe") or {}).get("width", study.recipe.width)
    depths = words.join(plain(d) for d in results.facts["grid"]["depths"])
    lines.append(words.say("limits.network", width=plain(width), depths=depths))
    if len(study.variants) == 1:
        lines.append(words.say("limits.recipe"))
    if study.recipe.downsampling != "stride":
        how = words.say(f"pool.{study.recipe.downsampling}")
        lines.append(words.say("limits.cut", how=how))
    untested = [v["id"] for v in results.claims if v["verdict"] == "not tested"]
    if untested:
        lines.append(words.say("limits.untested", claims=words.join(untested)))
    return lines


def commands(results: Results) -> str:
    """What to type; the name of a study with overrides is spelt out as its overrides.

    Where they are but a digest, the effective study gets a name of its own.
    """
    words, name = results.words, results.study.name
    base, *overrides = name.split("+")
    given = " ".join(f"{k.upper()}={v}" for k, _, v in (o.partition("=") for o in overrides))
    make_lang, lang = ("", "")
    if words.code != "en":
        make_lang, lang = f" LANG={words.code}", f" --lang {words.code}"
    whole_study = f"make report STUDY={base} {given}".strip() + make_lang
    if not all("=" in override for override in overrides):
        whole_study = (
            f"sed 's/^name: .*/name: mine/' results/{name}/study.yaml > mine.yaml\n"
            f"make report STUDY=mine.yaml{make_lang}"
        )
    return (
        f"{whole_study}  # {words.say('commands.whole')}\n"
        f"python scripts/render.py --study results/{name}/study.yaml \\\n"
        f"    --tables results/{name}/tables --analysis results/{name}/analysis \\\n"
        f"    --out results/{name}/report{lang}  # {words.say('commands.alone')}"
    )


def cost_sentences(results: Results) -> str:
    """How long the runs took on their machines, and about how much energy."""
    words, cost = results.words, results.facts["cost"]
    if not cost:
        return words.say("cost.none")
    unit = next(u for u, least in _UNITS if cost[u] >= least)
    runs = words.count(results.facts["runs"]["present"], "runs_of")
    time = words.say(f"cost.{unit}", n=rough(cost[unit]))
    said = [words.say("cost", runs=runs, time=time)]
    if cost.get("images_per_second"):
        said.append(words.say("cost.speed", speed=whole(cost["images_per_second"])))
    if cost.get("watt_hours"):
        unit = "kilowatt_hours" if cost["kilowatt_hours"] >= 1 else "watt_hours"
        energy = words.say(f"cost.{unit}", n=rough(cost[unit]))
        watts, gpu = plain(cost["watts_a_thread"]), plain(cost["watts_a_gpu"])
        said.append(words.say("cost.energy", energy=energy, watts=watts, gpu=gpu))
    return words.templates["space"].join(said)


_UNITS = (("hours", 1.5), ("minutes", 1.5), ("seconds", 0.0))


def provenance_rows(results: Results, version: str) -> list[dict[str, Any]]:
    """Checksums, versions and hardware; several values where the runs differ."""
    words, made = results.words, results.facts["made_by"]
    data = (
        (words.say("made.data", dataset=_dataset(results, d)), (digest,))
        for d, digest in results.facts["data"].items()
    )
    rows = [
        (words.say("made.study"), (results.study_sha256,)),
        (words.say("made.code_hash"), made["code_hash"]),
        *data,
        (words.say("made.claims"), (str(results.verdicts.get("claims_file", "")),)),
        (words.say("made.bnorder"), (version,)),
        *((words.say(f"made.{k}"), made[k]) for k in _VERSIONS),
    ]
    return [{"key": k, "values": v} for k, v in rows if v and all(v)]


_VERSIONS = ("python", "torch", "system", "device", "threads", "kernels")


def advice(results: Results) -> list[dict[str, str]]:
    """What the verdicts mean in practice: one line a claim that this study could test."""
    known = {entry["claim"]: entry for entry in _yaml("advice.yaml")}
    lines = []
    for verdict in results.verdicts["verdicts"]:
        advised = known.get(verdict["sentence"], {})
        key = str(verdict["verdict"])
        if key == "inconclusive" and any(p["verdict"] == "supported" for p in verdict["parts"]):
            key = "mixed" if "mixed" in advised else key
        if verdict["too_small"]:
            key = {"supported": "small", "contradicted": "opposite_small"}.get(key, key)
        if verdict["id"] == results.verdicts.get("headline") and results.verdicts.get("opposite"):
            key = "opposite" if "opposite" in advised else key
        if key in advised:
            said = results.words.own(advised[key])
            more = [results.words.say("practice.apart")] if _apart(verdict) else []
            line = results.words.templates["space"].join([said, *more])
            lines.append({"claim": verdict["id"], "words": line})
    headline = results.verdicts.get("headline")
    return sorted(lines, key=lambda line: line["claim"] != headline)


def _apart(verdict: Row) -> bool:
    """Do two data sets speak against each other, each by its own interval?"""
    each = [i for part in verdict["parts"] for i in part.get("by_dataset") or ()]
    apart = both_signs((i["ci_low"], i["ci_high"]) for i in each)
    return apart and verdict["type"] == "direction"


def model(results: Results) -> dict[str, Any] | None:
    """The mixed model in words; nothing when the analysis has none."""
    words, found = results.words, results.mixed_model
    if not found:
        return None
    if not found.get("fitted"):
        message = words.own(str(found.get("message", "")))
        said = words.say("model.not_fitted", message=message)
        return {"formula": "", "words": said, "warnings": []}
    return {
        "formula": found["formula"],
        "words": words.say("model.used", n=whole(found["n_runs"]), seeds=whole(found["n_seeds"])),
        "warnings": [str(warning).rstrip(".") for warning in found.get("warnings", [])],
    }


def library(words: Language) -> dict[str, Any]:
    """What the report cites: `others` found before, and the references."""
    loaded: dict[str, Any] = _yaml("references.yaml")
    others = [{k: words.own(str(v)) for k, v in other.items()} for other in loaded["others"]]
    return {**loaded, "others": others}


def _yaml(name: str) -> Any:
    text = (look.TEMPLATES / name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def names(results: Results, figures: int = 0) -> Iterator[str]:
    """Names that hold numbers and are none: of figures and arms, of what others wrote, of quotes.

    figures: how many the report has.
    """
    words, study = results.words, results.study
    for n in range(1, figures + 1):
        yield words.say("figure.ref", number=n)
        yield from (words.say("of_pages", number=i, pages=n) for i in range(1, n + 1))
    yield from (look.activation_words(a, words) for a in study.activations)
    yield from (_dataset(results, d) for d in study.datasets)
    yield from (look.depth_words(d, words) for d in study.depths)
    yield from (study.name, study.title, words.own(study.title))
    cited = library(words)
    yield from (text for other in cited["others"] for text in other.values())
    yield from (entry["text"] for entry in cited["references"])
    for tree in (results.verdicts, results.mixed_model):
        yield from _quotable(tree)
    yield from (note["text"].rstrip(".。") for note in results.said["notes"])
    for claim in results.claims:
        yield from (look.measure_words(part["measure"], words) for part in claim["plan"])


# Sentences whose numbers are looked up one by one are not quoted as a whole.
_SENTENCES = frozenset({"text", "short", "answer", "caveats"})


def _quotable(node: Any) -> Iterator[str]:
    """The texts of a results file that the page may quote word for word."""
    if isinstance(node, str):
        yield node.strip().rstrip(".。")
    elif isinstance(node, Mapping):
        for key, child in node.items():
            if key not in _SENTENCES:
                yield from _quotable(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _quotable(child)
