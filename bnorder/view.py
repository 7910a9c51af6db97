"""What the report's templates are given: words and tables picked from the results."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bnorder import captions, look
from bnorder.captions import listing
from bnorder.ordering import Ordering
from bnorder.printing import duration
from bnorder.provenance import Provenance
from bnorder.results import Num, Results, Table

VERDICT_WORDS = ("supported", "contradicted", "negligible", "inconclusive", "not tested")
GLYPHS = dict(zip(VERDICT_WORDS, "✓✗≈?–", strict=True))
FAMILY_WORDS = {"experiment": "the experiment", "theory": "theory"}
FEW_SEEDS = 10
FEW_TEST_IMAGES = 5000
RECIPE_WORDS = {
    "width": "Channels of every block",
    "kernel": "Side of the kernel",
    "downsampling": "Down-sampling",
    "downsample_blocks": "Blocks that halve the image",
    "stem": "Stem",
    "head": "Head",
    "final_norm_act": "Final BN and activation",
    "conv_bias": "Convolution bias",
    "scaling": "Pixels",
    "initialisation": "Initialisation",
    "bn_momentum": "BN momentum",
    "bn_eps": "BN epsilon",
    "optimiser": "Optimiser",
    "learning_rate": "Learning rate",
    "momentum": "Momentum",
    "weight_decay": "Weight decay",
    "schedule": "Schedule",
    "batch_size": "Batch size",
    "epochs": "Epochs",
    "train_images": "Training images",
    "validation_images": "Validation images",
    "precision": "Arithmetic",
}


def notices(results: Results, made: Provenance) -> list[dict[str, str]]:
    """What a reader must know first: runs are missing; the study is small."""
    found = []
    if results.missing:
        found.append(
            {
                "head": "Incomplete.",
                "text": f"{len(results.missing):,} of {results.expected:,} runs are missing; "
                "claims that need them are not tested. The missing runs are listed at the end.",
            }
        )
    reasons = []
    if len(results.study.seeds) < FEW_SEEDS:
        reasons.append(captions.count_words(len(results.study.seeds), "seed"))
    few = [(d, n) for d, n in made.n_test if n < FEW_TEST_IMAGES]
    reasons += [f"{int(n):,} test images of {look.dataset_words(d)}" for d, n in few]
    if reasons:
        text = f"Only {listing(reasons)}: it shows how the comparison works"
        found.append(
            {"head": "A small study.", "text": text + "; it does not settle the question."}
        )
    return found


def facts(results: Results, made: Provenance) -> str:
    study = results.study
    words = [
        listing(look.dataset_words(d) for d in study.datasets),
        captions.count_words(len(study.orderings), "ordering"),
        listing(look.activation_words(a) for a in study.activations),
        "depth " + listing(str(d) for d in study.depths),
        captions.count_words(len(study.seeds), "seed"),
        f"{int(made.runs):,} runs",
    ]
    if made.diverged:
        words.append(f"{int(made.diverged):,} diverged")
    text = " · ".join(words)
    return text[:1].upper() + text[1:]


def families(results: Results) -> list[dict[str, Any]]:
    names = dict.fromkeys(v["family"] for v in results.claims)
    return [
        {
            "name": name,
            "words": FAMILY_WORDS.get(name, name),
            "claims": [v for v in results.claims if v["family"] == name],
        }
        for name in names
    ]


def grid(results: Results) -> list[dict[str, str]]:
    study = results.study
    orderings = look.in_order(study.orderings)
    levels = {
        "Data": listing(look.dataset_words(d) for d in study.datasets),
        "Ordering": "; ".join(
            f"{look.ordering_words(o)} ({look.CLASS_WORDS[Ordering(o).bn_class]})"
            for o in orderings
        ),
        "Activation": listing(look.activation_words(a) for a in study.activations),
        "Depth (blocks)": listing(str(d) for d in study.depths),
        "Seed": f"{len(study.seeds)}: {_ranges(study.seeds)}",
    }
    if len(study.variants) > 1:
        levels["Variant"] = listing(study.variants)
    return [{"axis": axis, "levels": words} for axis, words in levels.items()]


def _ranges(seeds: Sequence[int]) -> str:
    first, last = seeds[0], seeds[-1]
    if len(seeds) > 2 and tuple(seeds) == tuple(range(first, last + 1)):
        return f"{first} to {last}"
    return listing(str(s) for s in seeds[:20]) + (" …" if len(seeds) > 20 else "")


def grid_sentence(results: Results, made: Provenance) -> str:
    arms, seeds = len(results.study.arms()), len(results.study.seeds)
    text = f"{captions.count_words(arms, 'arm')} × {captions.count_words(seeds, 'seed')}: "
    text += f"{captions.count_words(results.expected, 'run')}"
    if results.missing:
        text += f", of which {int(made.runs):,} are here"
    return text + "."


def recipe(results: Results) -> list[dict[str, str]]:
    from dataclasses import asdict

    values = asdict(results.study.recipe)
    if values["optimiser"] != "sgd":
        values.pop("momentum")
    return [
        {"key": RECIPE_WORDS.get(key, key.replace("_", " ")), "value": _setting(key, value)}
        for key, value in values.items()
    ]


def _setting(key: str, value: object) -> str:
    if value == 0 and key in ("train_images", "validation_images"):
        return "all" if key == "train_images" else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def variants(results: Results) -> list[dict[str, str]]:
    return [
        {"name": name, "changes": listing(f"{k} = {_setting(k, v)}" for k, v in changes.items())}
        for name, changes in results.study.variants.items()
        if changes
    ]


def survival(results: Results) -> list[dict[str, Any]]:
    """A row an arm, a cell a threshold."""
    table = results.table("survival_summary")
    rows = []
    for arm in results.study.arms():
        if arm.variant != "base":
            continue
        at = {"ordering": arm.ordering, "activation": arm.activation, "depth": arm.depth}
        found = list(table.where(dataset=arm.dataset, variant="base", **at).rows())
        cells = [_cell_at(found, t) for t in results.study.thresholds]
        if found:
            words = look.ordering_words(arm.ordering)
            if len(results.study.datasets) > 1:
                words += f" on {look.dataset_words(arm.dataset)}"
            act = look.activation_words(arm.activation)
            rows.append(
                {"ordering": words, "activation": act, "depth": found[0]["depth"], "cells": cells}
            )
    return rows


def _cell_at(rows: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, Any]:
    for row in rows:
        if row["threshold"] == threshold:
            median = row["median_steps"]
            known = isinstance(median, float) and median == median
            return {"row": row, "sort": float(median) if known else 1e12}
    return {"row": None, "sort": 1e13}


def arms(results: Results, made: Provenance) -> list[dict[str, Any]]:
    configs = dict(made.configs)
    several = len(results.study.datasets) > 1
    return [
        row
        | {
            "config": configs.get(row["arm"], ""),
            "ordering_words": look.ordering_words(row["ordering"])
            + (f" on {look.dataset_words(row['dataset'])}" if several else ""),
            "activation_words": look.activation_words(row["activation"]),
        }
        for row in results.table("arms").rows()
    ]


def statements(verdict: Mapping[str, Any]) -> dict[str, Any]:
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


def limits(results: Results, made: Provenance) -> list[str]:
    """What this study cannot say, from its own design; then the analysis's caveats."""
    study, lines = results.study, []
    if len(study.datasets) == 1:
        lines.append(
            "One data set: nothing here speaks for data unlike "
            f"{look.dataset_words(study.datasets[0])}."
        )
    depths = captions.count_words(len(study.depths), "depth").partition(" ")[2]
    lines.append(
        f"One small network of {captions.count_words(study.recipe.width, 'channel')}, at "
        f"{depths} {listing(str(d) for d in study.depths)}, "
        "without skip paths."
    )
    if len(study.variants) == 1:
        lines.append("One recipe: no order had its own learning rate or batch size.")
    if study.recipe.downsampling != "stride":
        how = study.recipe.downsampling.replace("_", "-")
        lines.append(
            f"Down-sampling by {how}: a cut also moves the pooling, so members of a class are not "
            "exactly one network."
        )
    untested = [v["id"] for v in results.claims if v["verdict"] == "not tested"]
    if untested:
        lines.append(f"Not tested here: {listing(untested)}; each says why.")
    return lines + [str(c) for c in results.verdicts.get("caveats", [])]


def commands(results: Results) -> str:
    return (
        f"make report STUDY={results.study.name}        # the whole study, to both reports\n"
        f"python scripts/render.py --study results/{results.study.name}/study.yaml \\\n"
        f"    --tables results/{results.study.name}/tables "
        f"--analysis results/{results.study.name}/analysis \\\n"
        f"    --out results/{results.study.name}/report  # this report alone"
    )


def cost_sentence(results: Results, made: Provenance) -> str:
    if not made.runs:
        return "No run is here."
    text = f"The {int(made.runs):,} runs took {duration(made.wall_seconds)} of machine time in all"
    if made.images_per_second == made.images_per_second:
        text += f", at a median of {float(made.images_per_second):,.0f} training images a second"
    return text + "."


def provenance_rows(results: Results, made: Provenance) -> list[dict[str, Any]]:

    rows = [
        ("Study file, SHA-256", (results.study_sha256,)),
        ("Code that decides the numbers", made.code_hashes),
        *((f"Data, {look.dataset_words(d)}, SHA-256", (digest,)) for d, digest in made.data),
        ("Claims file", (str(results.verdicts.get("claims_file", "")),)),
        ("torch", made.torch),
        ("Device", made.devices),
        ("Threads a run", made.threads),
    ]
    return [{"key": k, "values": v} for k, v in rows if v and all(v)]


def advice(results: Results) -> list[dict[str, str]]:
    """What the verdicts mean in practice: one line a claim that this study could test."""
    known = {entry["claim"]: entry for entry in _yaml("advice.yaml")}
    lines = []
    for verdict in results.claims:
        words = known.get(verdict["sentence"], {})
        key = str(verdict["verdict"])
        if verdict["too_small"]:
            key = {"supported": "small", "contradicted": "opposite_small"}.get(key, key)
        if key in words:
            lines.append({"claim": verdict["id"], "words": words[key]})
    headline = results.verdicts.get("headline")
    return sorted(lines, key=lambda line: line["claim"] != headline)


def model(results: Results) -> dict[str, Any] | None:
    """The mixed model in words; nothing when the analysis has none."""
    found = results.mixed_model
    if not found:
        return None
    if not found.get("fitted"):
        return {
            "words": f"The mixed model was not fitted: {found.get('message', '')}",
            "warnings": [],
        }
    words = f"Formula: {found['formula']}."
    if found.get("left_out"):
        words += f" Left out: {found['left_out']}."
    return {"words": words, "warnings": list(found.get("warnings", []))}


def library() -> dict[str, Any]:
    """What the report cites: `others` found before, and the references."""
    loaded: dict[str, Any] = _yaml("references.yaml")
    return loaded


def _yaml(name: str) -> Any:
    text = (look.TEMPLATES / name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


# --- exploration ------------------------------------------------------------------------------


def exploration(results: Results, show: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables that no verdict rests on; `show` prints numbers. Empty ones are left out."""
    makers = (_pairwise, _class_cut, _shares, _logrank, _correlation, _by_variant, _diverged)
    parts = [make(results, show) for make in makers]
    return [p for p in parts if p is not None]


def _part(
    name: str,
    title: str,
    table: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, Any, bool]],
    intro: str = "",
    note: str = "",
) -> dict[str, Any] | None:
    """A table of `rows`: columns are (heading, row -> printed cell or (printed, sort), numeric)."""
    if not table:
        return None
    rows = [[_table_cell(get(row), num) for _, get, num in columns] for row in table]
    heads = [{"words": words, "num": num} for words, _, num in columns]
    return {
        "id": name,
        "title": title,
        "columns": heads,
        "rows": rows,
        "intro": intro,
        "note": note,
    }


def _table_cell(value: Any, num: bool) -> dict[str, Any]:
    words, sort = value if isinstance(value, tuple) else (value, "")
    return {"words": words, "num": num, "sort": sort}


def _number(column: str, form: Any, *args: Any) -> Any:
    def get(row: Mapping[str, Any]) -> tuple[str, float]:
        value = row[column]
        known = isinstance(value, float) and value == value
        return form(value, *args), float(value) if known else 1e12

    return get


def _range(form: Any, *args: Any) -> Any:
    def get(row: Mapping[str, Any]) -> str:
        low, high = row["ci_low"], row["ci_high"]
        if not isinstance(low, float) or low != low:
            return "no interval"
        from markupsafe import Markup

        return Markup("[{}, {}]").format(form(low, *args), form(high, *args))

    return get


def _where(results: Results, row: Mapping[str, Any]) -> str:
    words = captions.cell_words(row, several=len(results.study.datasets) > 1)
    return words if row.get("variant", "base") == "base" else f"{words}, {row['variant']}"


def _pairwise(results: Results, show: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = [r for r in results.table("pairwise").rows() if r.get("variant", "base") == "base"]
    rows.sort(key=lambda r: r["p_holm"] if r["p_holm"] == r["p_holm"] else 2.0)
    shown = rows[:20]
    clear = sum(r["p_holm"] < 0.05 for r in rows)
    return _part(
        "pairwise",
        "Orders against each other, arm by arm",
        shown,
        [
            ("Where", lambda r: _where(results, r), False),
            ("First", lambda r: look.ordering_words(r["first"]), False),
            ("Second", lambda r: look.ordering_words(r["second"]), False),
            ("First − second, pp", _number("mean", show["signed"], "pp"), True),
            ("95 % interval", _range(show["signed"], "pp"), True),
            ("p", _number("p", show["p"]), True),
            ("p, Holm", _number("p_holm", show["p"]), True),
        ],
        intro=f"Of {len(rows):,} pairs, {clear:,} differ at the 5 % level after Holm.",
        note=f"The {len(shown)} pairs of least p. All: analysis/pairwise.csv."
        if len(rows) > 20
        else "",
    )


def _class_cut(results: Results, show: Mapping[str, Any]) -> dict[str, Any] | None:
    return _part(
        "class-cut",
        "Class and cut as two factors",
        [r for r in results.table("class_cut").rows() if _whole_grid(r)],
        [
            ("Effect", lambda r: _effect_words(r["effect"]), False),
            ("Contrast", lambda r: captions.contrast_words(r["contrast"]), False),
            ("Measure", lambda r: captions.measure_words(r["measure"]), False),
            ("Mean", lambda r: _number("mean", show["signed"], r["unit"])(r), True),
            ("95 % interval", lambda r: _range(show["signed"], r["unit"])(r), True),
            ("p", _number("p", show["p"]), True),
        ],
        intro="Averaged over the activations and depths of the grid; p not adjusted.",
    )


def _shares(results: Results, show: Mapping[str, Any]) -> dict[str, Any] | None:
    return _part(
        "shares",
        "How much of the differences between orders is class, how much cut",
        [r for r in results.table("class_cut_shares").rows() if _whole_grid(r)],
        [
            ("Effect", lambda r: _effect_words(r["effect"]), False),
            ("Measure", lambda r: captions.measure_words(r["measure"]), False),
            ("Share", _number("share", show["percent"]), True),
        ],
        intro="Of the variation between the orders' means, averaged over the grid.",
    )


def _whole_grid(row: Mapping[str, Any]) -> bool:
    everywhere = all(str(row.get(axis, "all")) == "all" for axis in ("activation", "depth"))
    return everywhere and row.get("variant", "base") == "base"


def _effect_words(effect: str) -> str:
    return str(effect).replace(" x ", " × ")


def _logrank(results: Results, show: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = list(results.table("logrank").rows())
    rows.sort(key=lambda r: r["p_holm"] if r["p_holm"] == r["p_holm"] else 2.0)
    shown = rows[:15]
    clear = sum(r["p_holm"] < 0.05 for r in rows)
    return _part(
        "logrank",
        "Speed of convergence, order against order",
        shown,
        [
            ("Where", lambda r: _where(results, r), False),
            ("Threshold, %", _number("threshold", show["plain"]), True),
            ("First", lambda r: look.ordering_words(r["first"]), False),
            ("Second", lambda r: look.ordering_words(r["second"]), False),
            ("Log-rank", _number("statistic", show["amount"], "pp"), True),
            ("p, Holm", _number("p_holm", show["p"]), True),
        ],
        intro=f"Of {len(rows):,} log-rank tests, {clear:,} reject at the 5 % level after Holm.",
        note=f"The {len(shown)} of least p. All: analysis/logrank.csv." if len(rows) > 15 else "",
    )


def _correlation(results: Results, show: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = list(results.table("correlation").rows())
    return _part(
        "pairing",
        "Does pairing by seed pay?",
        rows,
        [
            ("Measure", lambda r: captions.measure_words(r["measure"]), False),
            ("Arms", _number("arms", show["whole"]), True),
            ("Mean correlation", _number("mean_correlation", show["signed"], "pp"), True),
            ("SD paired", _number("sd_paired", show["amount"], "pp", 3), True),
            ("SD unpaired", _number("sd_unpaired", show["amount"], "pp", 3), True),
            ("Ratio", _number("ratio", show["amount"], "pp"), True),
        ],
        intro="Correlation between arms over the seeds, and the spread of a difference with and "
        "without pairing.",
    )


def _by_variant(results: Results, show: Mapping[str, Any]) -> dict[str, Any] | None:
    return _part(
        "variants",
        "The claims under each variant",
        list(results.table("by_variant").rows()),
        [
            ("Claim", lambda r: r["claim"], False),
            ("Variant", lambda r: r["variant"], False),
            ("Verdict", lambda r: r["verdict"], False),
            ("Mean", _number("mean", show["signed"], "pp"), True),
            ("95 % interval", _range(show["signed"], "pp"), True),
            ("p", _number("p", show["p"]), True),
        ],
    )


def _diverged(results: Results, show: Mapping[str, Any]) -> dict[str, Any] | None:
    from markupsafe import Markup

    table: Table = results.table("arms")
    rows = [r for r in table.rows() if isinstance(r.get("diverged"), Num) and r["diverged"] > 0]

    def between(row: Mapping[str, Any]) -> str:
        low, high = show["percent"](row["diverged_low"]), show["percent"](row["diverged_high"])
        return Markup("{} to {}").format(low, high)

    return _part(
        "diverged",
        "Runs that diverged",
        rows,
        [
            ("Arm", lambda r: r["arm"], False),
            ("Diverged", _number("diverged", show["whole"]), True),
            ("Share", _number("diverged_share", show["percent"]), True),
            ("95 % interval", between, True),
        ],
        note="Arms without a diverged run are left out. Intervals are exact (Clopper–Pearson).",
    )
