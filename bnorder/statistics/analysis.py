"""All of a study's analysis, from its table of runs to files: verdicts first, then exploration."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from bnorder.claims import (
    ACCURACY,
    AXES,
    VERDICTS,
    Claims,
    Estimate,
    Gap,
    Moved,
    Verdict,
    load_claims,
)
from bnorder.errors import UserError
from bnorder.files import replacing, write_atomically
from bnorder.language import CODES, language
from bnorder.language.sentences import Writer
from bnorder.statistics.contrasts import Grid, RunTable, check_meaning
from bnorder.statistics.derived import (
    choices,
    chosen_runs,
    extended,
    no_choices,
    recomputed_runs,
)
from bnorder.statistics.estimates import smallest_p
from bnorder.statistics.facts import counts, facts
from bnorder.statistics.verdicts import LEVEL, POWER, RESAMPLES, judge
from bnorder.study import RECOMPUTED, load_study
from bnorder.tables import (
    measures_of,
    read_curves,
    read_runs,
    read_table,
    refuse_strangers,
    without_other_steps,
)

FORMAT = 1  # of verdicts.json; raised when a key changes its meaning


@dataclass(frozen=True)
class Inputs:
    """A checked table of runs, what it should hold, and the claims to judge."""

    study: str
    title: str
    runs: pd.DataFrame
    grid: Grid
    missing: tuple[str, ...]
    claims: Claims
    table: RunTable  # of the runs and of the variants made from them
    choices: pd.DataFrame  # of a study that has a selection


def load_inputs(
    runs: str | Path,
    claims: str | Path | None = None,
    study: str | Path | None = None,
    selection: str | Path | None = None,
) -> Inputs:
    """Read runs, claims and study; without a study the runs themselves are the grid.

    selection: the runs on which the study's selection is made.

    Raises UserError for whatever in them cannot be what was meant.
    """
    plan = load_study(study) if study else None
    if claims is None and plan is None:
        raise UserError("--claims is missing; without a study, name the claims file")
    read = load_claims(claims or (plan.claims if plan else ""))
    table = read_runs(runs, measures_of(read))
    missing: tuple[str, ...] = ()
    if plan:
        refuse_strangers(table, plan, runs)
        grid = Grid.of_study(plan)
        have = set(zip(*(table[k] for k in (*AXES, "seed")), strict=True))
        cell = attrgetter(*AXES)
        missing = tuple(r.id for r in plan.runs() if (*cell(r.arm), r.seed) not in have)
    else:
        grid = Grid.of_runs(table)
    name, title = (plan.name, plan.title) if plan else (Path(runs).stem, "")
    made = no_choices()
    derived = []
    if plan and plan.selection:
        made = choices(_selection_runs(selection, plan.name), plan.selection, grid)
        derived.append((plan.selection.name, chosen_runs(table, made)))
    recomputed = recomputed_runs(table)
    if not recomputed.empty:
        derived.append((RECOMPUTED, recomputed))
    arms = RunTable(*extended(table, grid, derived))
    check_meaning(read.claims, read.path, arms.grid)
    return Inputs(name, title, table, grid, missing, read, arms, made)


def _selection_runs(path: str | Path | None, study: str) -> pd.DataFrame:
    """The runs of a selection; none where not one of them has been trained."""
    if path is None:
        raise UserError(f"--selection is missing; {study} makes a selection: name its runs")
    frame = read_table(path)
    if frame.empty:
        return frame
    found = read_runs(path)
    if ACCURACY not in found:
        raise UserError(f"{path}: column {ACCURACY!r} is missing; a selection is made by it")
    return found


def analyse(
    inputs: Inputs,
    out: str | Path,
    *,
    curves: str | Path | None = None,
    probes: str | Path | None = None,
    resamples: int = RESAMPLES,
    explore: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> list[Verdict]:
    """Judge every claim and write verdicts.json and all tables under `out`; see docs/verdicts.md.

    Each file is written whole or not at all. Returns the verdicts.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    table = inputs.table
    seeds, claims = len(inputs.grid.seeds), inputs.claims.claims
    say(f"{len(inputs.runs)} runs, {seeds} seeds, {len(claims)} claims")
    verdicts = judge(claims, table, resamples)
    write_json(document(inputs, verdicts), folder / "verdicts.json")
    write_table(paired_table(verdicts), folder / "paired")
    if curves or explore:
        from bnorder.statistics.explore import bands, explore_tables
    if curves:
        write_table(bands(read_curves(curves)), folder / "bands")
    tables: dict[str, pd.DataFrame] = {}
    model: dict[str, Any] = {}
    if explore:
        from bnorder.statistics import otherwise, why
        from bnorder.statistics.mixed import mixed_model
        from bnorder.statistics.survival import survival_tables

        tables = explore_tables(inputs.runs, table, claims)
        tables |= survival_tables(without_other_steps(inputs.runs))
        tables |= otherwise.tables(table, tables["by_variant"]) | {"choices": inputs.choices}
        tables |= why.tables(probes, inputs.runs, inputs.grid, claims)
        for name, frame in tables.items():
            write_table(frame, folder / name)
        model = asdict(mixed_model(inputs.runs))
        write_json(model, folder / "mixed_model.json")
    write_json(
        facts(inputs.runs, inputs.grid, inputs.missing, tables, model), folder / "facts.json"
    )
    return verdicts


def document(inputs: Inputs, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """verdicts.json: the verdicts with all numbers behind them, and the sentences they give."""
    writer = Writer(language("en"))
    claims, n = inputs.claims, len(inputs.grid.seeds)
    counted = counts(inputs.runs, inputs.missing)
    headline, behind = claims.headline, _behind(inputs)
    opposite, lost = behind
    return {
        "format": FORMAT,
        "study": inputs.study,
        "title": inputs.title,
        "claims_file": claims.path,
        "source": {"name": claims.source_name, "about": claims.source_about},
        "notes": [asdict(note) for note in claims.notes],
        "level": LEVEL,
        "power": POWER,
        "ci_level": 0.95,
        "seeds": list(inputs.grid.seeds),
        "n_seeds": n,
        "smallest_p": smallest_p(n),
        "runs": {k: counted[k] for k in ("expected", "present", "diverged")}
        | {"missing": list(inputs.missing), "n_missing": len(inputs.missing)},
        "families": _families(verdicts),
        "tally": {word: sum(v.verdict == word for v in verdicts) for word in VERDICTS},
        "n_claims": len(verdicts),
        "headline": headline,
        "opposite": [asdict(gap) for gap in opposite],
        "lost_under": [asdict(moved) for moved in lost],
        "answer": writer.answer(verdicts, headline, *behind),
        "caveats": writer.caveats(verdicts, counted, n),
        "verdicts": [_verdict(v, writer) for v in verdicts],
        "translations": {
            code: translation(inputs, verdicts, behind, Writer(language(code)))
            for code in CODES
            if code != "en"
        },
    }


Behind = tuple[tuple[Gap, ...], tuple[Moved, ...]]


def _behind(inputs: Inputs) -> Behind:
    """Of a headline claim that compares classes: the opposite differences that it averages over,
    and the variants under which it would have come out otherwise."""
    from bnorder.statistics.explore import opposite_gaps
    from bnorder.statistics.otherwise import controls, lost_under

    claims = inputs.claims
    headline = next((c for c in claims.claims if c.id == claims.headline), None)
    if headline is None or not all("bn_class" in t.select for p in headline.parts for t in p.terms):
        return (), ()
    return opposite_gaps(inputs.table), lost_under(controls(inputs.table))


def translation(
    inputs: Inputs, verdicts: Sequence[Verdict], behind: Behind, writer: Writer
) -> dict[str, object]:
    """The sentences of verdicts.json in another language, under the same keys."""
    claims, n = inputs.claims, len(inputs.grid.seeds)
    counted = counts(inputs.runs, inputs.missing)
    own = writer.own
    return {
        "answer": writer.answer(verdicts, claims.headline, *behind),
        "caveats": writer.caveats(verdicts, counted, n),
        "source": {"name": own(claims.source_name), "about": own(claims.source_about)},
        "notes": [{**asdict(note), "text": own(note.text)} for note in claims.notes],
        "verdicts": [
            {
                "sentence": own(v.claim.sentence),
                "contrast": own(v.claim.contrast),
                "reason": own(v.reason),
                "note": writer.checks(v),
                "text": writer.text(v),
                "short": writer.short(v),
                "parts": [
                    {"name": own(e.name), "text": _part_text(v, e, writer)} for e in v.estimates
                ],
            }
            for v in verdicts
        ],
    }


def _families(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    return {
        family: {
            "tested": sum(v.claim.family == family and bool(v.estimates) for v in verdicts),
            "not_tested": sum(v.claim.family == family and not v.estimates for v in verdicts),
        }
        for family in dict.fromkeys(v.claim.family for v in verdicts)
    }


def _verdict(v: Verdict, writer: Writer) -> dict[str, object]:
    first = v.claim.parts[0]
    arms = dict.fromkeys(arm for e in v.estimates for arm in (*e.plus, *e.minus))
    stability = v.stability
    return {
        "id": v.claim.id,
        "family": v.claim.family,
        "who": v.claim.who,
        "sentence": v.claim.sentence,
        "type": v.claim.type,
        "two_sided": v.claim.two_sided,
        "contrast": v.claim.contrast,
        "measure": first.measure,
        "unit": first.unit,
        "margin": first.margin,
        "threshold": first.threshold,
        "verdict": v.verdict,
        "too_small": v.too_small,
        "reason": v.reason,
        "p": v.p,
        "p_adjusted": v.p_adjusted,
        "holm_level": v.holm_level,
        "n": v.n or None,
        "n_parts": len(v.estimates),
        "smallest_detectable": max((e.smallest_detectable for e in v.estimates), default=None),
        "seeds_to_settle": v.seeds_to_settle,
        "stability": stability
        and {
            "resamples": stability.resamples,
            "share": stability.shares[v.verdict],
            "shares": dict(stability.shares),
        },
        "checks_disagree": bool(v.checks_disagree),
        "note": writer.checks(v),
        "text": writer.text(v),
        "short": writer.short(v),
        "arms": list(arms),
        "plan": [
            {"name": p.name, "measure": p.measure, "unit": p.unit, "margin": p.margin}
            | {"threshold": p.threshold}
            for p in v.claim.parts
        ],
        "parts": [_part(v, e, writer) for e in v.estimates],
    }


def _part(v: Verdict, e: Estimate, writer: Writer) -> dict[str, object]:
    return {
        **asdict(e),
        "contrast": v.claim.contrast if len(v.estimates) == 1 else e.name,
        "plus": [{"arm": arm, "weight": w} for arm, w in e.plus.items()],
        "minus": [{"arm": arm, "weight": w} for arm, w in e.minus.items()],
        "text": _part_text(v, e, writer),
    }


def _part_text(v: Verdict, e: Estimate, writer: Writer) -> str:
    return writer.part(v.claim, e) if e.name else writer.text(v)


def paired_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The per-seed contrasts behind each claim, one row a claim, part and seed."""
    rows = [
        (v.claim.id, i, e.name, seed, value, e.measure, e.unit)
        for v in verdicts
        for i, e in enumerate(v.estimates)
        for seed, value in zip(e.seeds, e.values, strict=True)
    ]
    columns = ["claim", "part", "part_name", "seed", "value", "measure", "unit"]
    return pd.DataFrame(rows, columns=columns)


def write_json(value: Mapping[str, object], path: Path) -> None:
    """Strict JSON (null for what is not a number), whole or not at all."""
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_table(frame: pd.DataFrame, stem: Path) -> None:
    """The same table as stem.parquet and stem.csv."""
    for suffix, write in ((".parquet", frame.to_parquet), (".csv", frame.to_csv)):
        with replacing(stem.with_suffix(suffix)) as partial:
            write(partial, index=False)
