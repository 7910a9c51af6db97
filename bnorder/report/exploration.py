"""The report's tables that no verdict rests on: what the analysis explored."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bnorder.claims import unit_of
from bnorder.language import Language
from bnorder.language.printing import Num, amount, p_text, percent, plain, signed, whole
from bnorder.report import captions, look
from bnorder.report.results import Results

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], Any], bool]  # key of its heading, row -> cell, numeric


def tables(results: Results) -> list[dict[str, Any]]:
    """Tables that no verdict rests on. Empty ones are left out."""
    makers = (_pairwise, _class_cut, _shares, _logrank, _correlation, _by_variant, _diverged)
    return [part for make in makers if (part := make(results)) is not None]


def _part(
    results: Results,
    name: str,
    table: Sequence[Row],
    columns: Sequence[Column],
    intro: str = "",
    note: str = "",
) -> dict[str, Any] | None:
    """A table of `rows`; a cell is text, or text and what to sort it by."""
    if not table:
        return None
    rows = [[_table_cell(get(row), num) for _, get, num in columns] for row in table]
    heads = [{"words": results.words.say(key), "num": num} for key, _, num in columns]
    return {
        "id": name.replace("_", "-"),
        "title": results.words.say(name),
        "columns": heads,
        "rows": rows,
        "intro": intro,
        "note": note,
    }


def _table_cell(value: Any, num: bool) -> dict[str, Any]:
    text, sort = value if isinstance(value, tuple) else (value, "")
    return {"words": text, "num": num, "sort": sort}


def _number(
    column: str, form: Callable[..., str], *args: Any
) -> Callable[[Row], tuple[str, float]]:
    def get(row: Row) -> tuple[str, float]:
        value = row[column]
        known = isinstance(value, float) and value == value
        return form(value, *args), float(value) if known else 1e12

    return get


def _range(words: Language, form: Callable[..., str], *args: Any) -> Callable[[Row], str]:
    def get(row: Row) -> str:
        low, high = row["ci_low"], row["ci_high"]
        if not isinstance(low, float) or low != low:
            return words.say("no_interval")
        return words.say("interval", low=form(low, *args), high=form(high, *args))

    return get


def _where(results: Results, row: Row) -> str:
    several = len(results.study.datasets) > 1
    cell = captions.cell_words(row, results.words, several=several)
    if row.get("variant", "base") == "base":
        return cell
    return results.words.say("cell.variant", cell=cell, variant=row["variant"])


def _pairwise(results: Results) -> dict[str, Any] | None:
    words = results.words
    rows = [r for r in results.table("pairwise").rows() if r.get("variant", "base") == "base"]
    rows.sort(key=_least_p)
    return _part(
        results,
        "pairwise",
        rows[:20],
        [
            ("where", lambda r: _where(results, r), False),
            ("first", lambda r: look.ordering_words(r["first"]), False),
            ("second", lambda r: look.ordering_words(r["second"]), False),
            ("first_second", _number("mean", signed, "pp"), True),
            ("interval_head", _range(words, signed, "pp"), True),
            ("p_head", _number("p", p_text), True),
            ("p_holm", _number("p_holm", p_text), True),
        ],
        intro=_clear(results, "pairwise"),
        note=_rest(results, "pairwise", len(rows) > 20),
    )


def _least_p(row: Row) -> float:
    return float(row["p_holm"]) if row["p_holm"] == row["p_holm"] else 2.0


def _clear(results: Results, name: str) -> str:
    """How many of how many rows are clear, as the analysis counted them."""
    counts = results.facts["exploration"].get(name)
    if not counts:
        return ""
    numbers = {k: whole(counts[k]) for k in ("rows", "clear")}
    return results.words.say(f"{name}.intro", **numbers)


def _rest(results: Results, name: str, cut: bool) -> str:
    return results.words.say("least_p", file=f"analysis/{name}.csv") if cut else ""


def _class_cut(results: Results) -> dict[str, Any] | None:
    words = results.words
    rows = [r for r in results.table("class_cut").rows() if _whole_grid(r)]
    return _part(
        results,
        "class_cut",
        rows,
        [
            *_varying(results, rows),
            ("effect_head", lambda r: _effect_words(r["effect"], words), False),
            ("contrast_head", lambda r: captions.contrast_words(r["contrast"], words), False),
            ("measure_head", lambda r: _measure(r, words), False),
            ("mean", lambda r: _number("mean", signed, r["unit"])(r), True),
            ("interval_head", lambda r: _range(words, signed, r["unit"])(r), True),
            ("p_head", _number("p", p_text), True),
        ],
        intro=words.say("class_cut.intro"),
    )


def _shares(results: Results) -> dict[str, Any] | None:
    words = results.words
    rows = [r for r in results.table("class_cut_shares").rows() if _whole_grid(r)]
    return _part(
        results,
        "shares",
        rows,
        [
            *_varying(results, rows),
            ("effect_head", lambda r: _effect_words(r["effect"], words), False),
            ("measure_head", lambda r: look.measure_words(r["measure"], words), False),
            ("share", _number("share", percent), True),
        ],
        intro=words.say("shares.intro"),
    )


def _whole_grid(row: Row) -> bool:
    everywhere = all(str(row.get(axis, "all")) == "all" for axis in ("activation", "depth"))
    return everywhere and row.get("variant", "base") == "base"


def _effect_words(effect: str, words: Language) -> str:
    return words.templates.get(f"effect.{effect}", str(effect).replace(" x ", " × "))


def _logrank(results: Results) -> dict[str, Any] | None:
    rows = sorted(results.table("logrank").rows(), key=_least_p)
    return _part(
        results,
        "logrank",
        rows[:15],
        [
            ("where", lambda r: _where(results, r), False),
            ("threshold_head", _number("threshold", plain), True),
            ("first", lambda r: look.ordering_words(r["first"]), False),
            ("second", lambda r: look.ordering_words(r["second"]), False),
            ("logrank_head", _number("statistic", amount, "pp"), True),
            ("p_holm", _number("p_holm", p_text), True),
        ],
        intro=_clear(results, "logrank"),
        note=_rest(results, "logrank", len(rows) > 15),
    )


def _correlation(results: Results) -> dict[str, Any] | None:
    words, rows = results.words, list(results.table("correlation").rows())
    return _part(
        results,
        "pairing",
        rows,
        [
            *_varying(results, rows),
            ("measure_head", lambda r: _measure(r, words), False),
            ("arms_head", _number("arms", whole), True),
            ("mean_correlation", _number("mean_correlation", signed, "pp"), True),
            ("sd_paired", _number("sd_paired", amount, "pp", 3), True),
            ("sd_unpaired", _number("sd_unpaired", amount, "pp", 3), True),
            ("ratio", _number("ratio", amount, "pp"), True),
        ],
        intro=words.say("pairing.intro"),
    )


def _measure(row: Row, words: Language) -> str:
    """A measure with its unit, where it has one."""
    unit = words.say(f"short_unit.{unit_of(row['measure'])}").strip()
    name = look.measure_words(row["measure"], words)
    return words.say("measure_unit", measure=name, unit=unit) if unit else name


def _varying(results: Results, rows: Sequence[Row]) -> Iterator[Column]:
    """Columns of data set and variant, of each that is not the same in all rows."""

    def dataset(row: Row) -> str:
        return look.dataset_words(row["dataset"], results.words)

    if len({row["dataset"] for row in rows}) > 1:
        yield "axis.dataset_head", dataset, False
    if len({row["variant"] for row in rows}) > 1:
        yield "variant", lambda r: r["variant"], False


def _by_variant(results: Results) -> dict[str, Any] | None:
    words = results.words
    return _part(
        results,
        "by_variant",
        list(results.table("by_variant").rows()),
        [
            ("head.claim", lambda r: r["claim"], False),
            ("part_head", lambda r: words.own(str(r["part"])), False),
            ("variant", lambda r: r["variant"], False),
            ("head.verdict", lambda r: words.say(f"verdict.{r['verdict']}"), False),
            ("mean", _number("mean", signed, "pp"), True),
            ("interval_head", _range(words, signed, "pp"), True),
            ("p_head", _number("p", p_text), True),
        ],
    )


def _diverged(results: Results) -> dict[str, Any] | None:
    words = results.words
    table = results.table("arms").rows()
    rows = [r for r in table if isinstance(r.get("diverged"), Num) and r["diverged"] > 0]

    def between(row: Row) -> str:
        low, high = percent(row["diverged_low"]), percent(row["diverged_high"])
        return words.say("to", low=low, high=high)

    return _part(
        results,
        "diverged",
        rows,
        [
            ("arm_head", lambda r: captions.arm_words(r, words), False),
            ("diverged_head", _number("diverged", whole), True),
            ("share", _number("diverged_share", percent), True),
            ("interval_head", between, True),
        ],
        note=words.say("diverged.note"),
    )
