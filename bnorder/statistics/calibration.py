"""Simulated studies, to see whether the method does what it says.

The verdicts come from the same functions as a real study's: only the runs are made up. Spread,
correlation within seeds, and steps of 1 / n_test are like those of the real runs.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bnorder.claims import ACCURACY, AXES, Claim, Claims, Part, load_claims
from bnorder.errors import UserError
from bnorder.files import replacing, write_atomically
from bnorder.log import clock
from bnorder.statistics import estimates as est
from bnorder.statistics.contrasts import (
    Grid,
    NotTested,
    check_meaning,
    crossed_weights,
    weighted_arms,
)
from bnorder.statistics.estimates import Floats
from bnorder.statistics.explore import clopper_pearson
from bnorder.statistics.mixed import mixed_model
from bnorder.statistics.verdicts import LEVEL, POWER, WORDS, PartData, decide, part_tests
from bnorder.study import Arm, describe

Effect = Callable[[Arm], float]
LEVELS = (0.05, 0.05 / 3, 0.05 / 8)
DATASETS = ("mnist", "kmnist")  # two, so that every claim of the theory can be tested


@dataclass(frozen=True)
class World:
    """How simulated runs vary, in percentage points of accuracy (or units of another measure).

    sd_seed is shared by all runs of a seed, so that pairing pays; sd_run is each run's own, and
    its distribution is normal or left-skewed (skewness -1.4), as accuracies near 100 % are.
    """

    seeds: int = 10
    sd_seed: float = 0.08
    sd_run: float = 0.1
    skewed: bool = False
    n_test: int = 10_000
    base: float = 99.0

    def noise(self, rng: np.random.Generator, size: tuple[int, ...]) -> Floats:
        if self.skewed:
            return (2 - rng.gamma(2, size=size)) / math.sqrt(2)
        return rng.normal(size=size)

    def values(self, effects: Floats, studies: int, rng: np.random.Generator) -> Floats:
        """(studies, arms, seeds) around base + effects (arms,); not yet counts."""
        shared = self.sd_seed * rng.normal(size=(studies, 1, self.seeds))
        own = self.sd_run * self.noise(rng, (studies, len(effects), self.seeds))
        return self.base + effects[None, :, None] + shared + own


@dataclass(frozen=True)
class Simulated:
    """What a claim's truth is, and what simulated studies decided about it."""

    claim: Claim
    wrong: frozenset[str]
    words: tuple[str, ...]


def article_grid(seeds: int, datasets: Sequence[str] = ("mnist",)) -> Grid:
    orderings = ("bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn", "conv-act")
    activations = ("relu", "leaky_relu", "elu")
    return Grid(tuple(datasets), orderings, activations, (2, 5), ("base",), tuple(range(seeds)))


def simulate(
    claims: Sequence[Claim],
    grid: Grid,
    world: World,
    studies: int,
    rng: np.random.Generator,
    effect: Effect = lambda arm: 0.0,
) -> list[Simulated]:
    """Verdicts on one family's claims in many studies; every measure gets the same effects."""
    arms = [
        Arm(*cell)
        for cell in itertools.product(
            grid.dataset, grid.ordering, grid.activation, grid.depth, grid.variant
        )
    ]
    effects = np.array([effect(arm) for arm in arms])
    measures = dict.fromkeys(part.measure for claim in claims for part in claim.parts)
    runs = {measure: world.values(effects, studies, rng) for measure in measures}
    flips = est.flip_signs(world.seeds, rng, max_exact=12, draws=4095)
    truths, tests = [], []
    for claim in claims:
        rows, true = [], []
        for part in claim.parts:
            simulated = runs[part.measure]
            if part.crossed:
                several = _crossed_weights(part, grid, arms)
                data = _crossed_data(part, simulated, several, world.n_test)
                true.append(float(np.abs(several @ effects).max()))
            else:
                w, scale = _scaled_weights(part, grid, arms)
                data = _part_data(part, simulated, w, scale, world.n_test)
                true.append(float(w @ (effects + world.base)) - (part.threshold or 0.0))
            rows.append(part_tests(claim, part, data, flips))
        tests.append(rows)
        truths.append(_wrong(claim, true))
    decisions = decide(claims, tests)
    return [
        Simulated(claim, wrong, tuple(WORDS[int(w)] for w in decisions.words[:, i]))
        for i, (claim, wrong) in enumerate(zip(claims, truths, strict=True))
    ]


def _scaled_weights(part: Part, grid: Grid, arms: Sequence[Arm]) -> tuple[Floats, int]:
    """Each arm's weight, (arms,), and a number that makes all of them whole."""
    weights = weighted_arms(part, grid)
    scale = math.lcm(*(w.denominator for w in weights.values()))
    return np.array([float(weights.get(arm, 0)) for arm in arms]), scale


def _crossed_weights(part: Part, grid: Grid, arms: Sequence[Arm]) -> Floats:
    """Each arm's weight in each contrast of a crossed part, (k, arms)."""
    each = crossed_weights(part, grid).values()
    return np.array([[float(weights.get(arm, 0)) for arm in arms] for weights in each])


def _crossed_data(part: Part, runs: Floats, w: Floats, n_test: int) -> PartData:
    """A crossed part's contrasts, (k, studies, seeds)."""
    if part.measure == ACCURACY:
        runs = 100 * np.rint(np.clip(runs, 0, 100) / 100 * n_test) / n_test
    values = np.einsum("ca,kas->cks", w, runs)
    return PartData(values, values)


def _part_data(part: Part, runs: Floats, w: Floats, scale: int, n_test: int) -> PartData:
    """The part's contrasts, (studies, seeds); accuracies as the counts that they are."""
    offset = part.threshold or 0.0
    if part.measure != ACCURACY:
        values = np.einsum("a,kas->ks", w, runs) - offset
        return PartData(values, values)
    counts = np.rint(np.clip(runs, 0, 100) / 100 * n_test)
    values = 100 * np.einsum("a,kas->ks", w, counts) / n_test - offset
    return PartData(values, np.rint(values * scale * n_test).astype(np.int64))


def _wrong(claim: Claim, true: Sequence[float]) -> frozenset[str]:
    """The verdicts that would be wrong of a claim whose parts have these true contrasts."""
    near = 1e-9
    wrong = set()
    margins = [part.margin or 0.0 for part in claim.parts]
    if claim.type == "equivalence":
        holds = [abs(d) < m - near for d, m in zip(true, margins, strict=True)]
        fails = [abs(d) > m + near for d, m in zip(true, margins, strict=True)]
    elif claim.two_sided:
        holds, fails = [abs(d) > near for d in true], [False for _ in true]
    else:
        holds, fails = [d > near for d in true], [d < -near for d in true]
    if not all(holds):
        wrong.add("supported")
    if not any(fails):
        wrong.add("contradicted")
    if any(abs(d) >= m - near for d, m in zip(true, margins, strict=True)):
        wrong.add("negligible")
    return frozenset(wrong)


def any_wrong(simulated: Sequence[Simulated]) -> npt.NDArray[np.bool_]:
    """(studies,): did any claim of the family get a wrong verdict?"""
    wrong = [[word in s.wrong for word in s.words] for s in simulated]
    found: npt.NDArray[np.bool_] = np.any(np.array(wrong), axis=0)
    return found


def share_row(hits: npt.NDArray[np.bool_]) -> dict[str, float]:
    """A share of simulated studies with its exact 95 % interval."""
    low, high = clopper_pearson(np.array([hits.sum()]), np.array([len(hits)]))
    return {"studies": len(hits), "share": hits.mean(), "low": low[0], "high": high[0]}


# --- the tables of `make calibrate` ----------------------------------------------------------

WORLDS = {
    "normal": World(),
    "skewed": World(skewed=True),
    "no correlation within seeds": World(sd_seed=0.0),
    "strong correlation within seeds": World(sd_seed=0.3),
    "small test set (360 images)": World(n_test=360, sd_run=0.5, sd_seed=0.4),
    "6 seeds": World(seeds=6),
    "30 seeds": World(seeds=30),
}


# What a setting takes, by its table and its seeds; of each claim, where effects are planted. In
# seconds at 2,000 studies on one machine, but only the proportions count: for the time left.
COSTS = {
    "false_verdicts": {6: 0.3, 10: 0.8, 30: 5.2},
    "margin_edges": {6: 0.15, 10: 0.5, 30: 2.1},
    "planted_effects": {8: 0.25, 10: 0.45, 15: 2.1, 30: 2.7},
    "coverage": {5: 17.0, 10: 18.0, 30: 22.0},
}
PLANTED = tuple(itertools.product((8, 10, 15, 30), (False, True), LEVELS))
COVERED = tuple(itertools.product((5, 10, 30), (False, True)))
Done = Callable[[], None]


def settings_costs() -> dict[str, list[float]]:
    """The settings of each table, in their order, as what they cost in proportion."""
    worlds = [world.seeds for world in WORLDS.values()]
    costs = {name: [COSTS[name][n] for n in worlds] for name in ("false_verdicts", "margin_edges")}
    planted = COSTS["planted_effects"]
    costs["planted_effects"] = [planted[n] * round(LEVEL / level) for n, _, level in PLANTED]
    costs["coverage"] = [COSTS["coverage"][n] for n, _ in COVERED]
    return costs


class Pace:
    """Says how many settings are done and the time left for all tables, every five seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.costs = say, settings_costs()
        self.done = dict.fromkeys(self.costs, 0)
        self.start = self.said = time.monotonic()

    def setting_done(self, table: str) -> None:
        self.done[table] += 1
        now = time.monotonic()
        if now - self.said >= 5:
            self.said = now
            count = f"{table}: {self.done[table]} of {len(self.costs[table])} settings"
            self.say(f"{count}, {self.left(now)} left in all")

    def left(self, now: float) -> str:
        spent = sum(sum(costs[: self.done[table]]) for table, costs in self.costs.items())
        total = sum(map(sum, self.costs.values()))
        return clock((now - self.start) * (total - spent) / spent)


def nothing() -> None:
    """Nobody is told that a setting is done."""


def false_verdicts(
    claims: Sequence[Claim], studies: int, seed: int, done: Done = nothing
) -> pd.DataFrame:
    """Families without any effect: the share of studies with a wrong verdict, at most 5 %.

    All measures are simulated.
    """
    rows = []
    for number, (name, world) in enumerate(WORLDS.items()):
        grid = article_grid(world.seeds, DATASETS)
        for family in dict.fromkeys(c.family for c in claims):
            members = [c for c in claims if c.family == family]
            rng = np.random.default_rng([seed, number])
            hits = any_wrong(simulate(members, grid, world, studies, rng))
            about = {"world": name, "family": family, "claims": len(members)}
            rows.append({**about, **share_row(hits), "at_most": LEVEL})
        done()
    return pd.DataFrame(rows)


def margin_edges(
    claims: Sequence[Claim], studies: int, seed: int, done: Done = nothing
) -> pd.DataFrame:
    """True effects exactly at the margin: how often a claim passes for within it, at most 5 %.

    Each claim alone, as a family of one: no other claim shares its errors.
    """
    rows = []
    for number, (name, world) in enumerate(WORLDS.items()):
        for claim in _with_margin(claims):
            part = claim.parts[0]
            # Twice the spread, where TOST has little power; far from the ceiling of 100 %.
            run, shared = 2 * world.sd_run, 2 * world.sd_seed
            spread = replace(world, sd_run=run, sd_seed=shared, base=90.0)
            for sign in (1, -1):
                rng = np.random.default_rng([seed, number, sign + 1])
                effect = _planted(part, sign * float(part.margin or 0), world.seeds)
                grid = article_grid(world.seeds)
                found = simulate([claim], grid, spread, studies, rng, effect)[0]
                word = "supported" if claim.type == "equivalence" else "negligible"
                hits = np.array([w == word for w in found.words])
                about = {"world": name, "claim": claim.id, "verdict": word, "sign": sign}
                rows.append({**about, **share_row(hits), "at_most": LEVEL})
        done()
    return pd.DataFrame(rows)


def _with_margin(claims: Sequence[Claim]) -> list[Claim]:
    """Those in one part with a margin, at whose edge an effect can be planted."""
    singles = [c for c in claims if len(c.parts) == 1 and c.parts[0].margin]
    return [c for c in singles if c.type in ("equivalence", "direction")]


def _directional(claims: Sequence[Claim]) -> list[Claim]:
    """The first one in one part, if any: what is measured of it holds for the others."""
    return [c for c in claims if c.type == "direction" and len(c.parts) == 1][:1]


def _planted(part: Part, size: float, seeds: int) -> Effect:
    """An effect of the runs that gives this part's contrast the true value `size`."""
    weights = weighted_arms(part, article_grid(seeds))
    squares = sum(float(w) ** 2 for w in weights.values())
    return lambda arm: size * float(weights.get(arm, 0)) / squares


def planted_effects(
    claims: Sequence[Claim], studies: int, seed: int, done: Done = nothing
) -> pd.DataFrame:
    """Directional claims with a true effect: verdicts found against the power predicted.

    The effect is what n seeds should find with 50, 80 and 95 % power at each level of Holm's;
    reversed, the claim must be contradicted as often as it was supported.
    """
    (claim,) = _directional(claims)
    rows = []
    for n, skewed, level in PLANTED:
        world = World(seeds=n, skewed=skewed, base=97.0)
        grid, sd = article_grid(n), _sd_of(claim.parts[0], world)
        for power, sign in itertools.product((0.5, POWER, 0.95), (1, -1)):
            size = est.smallest_detectable(sd, n, level, power)
            if math.isnan(size):
                continue
            rng = np.random.default_rng([seed, n, skewed, sign + 1, int(1e6 * level * power)])
            effect = _planted(claim.parts[0], sign * size, n)
            family = [claim] * round(LEVEL / level)  # Holm's first step is then at `level`
            found = simulate(family, grid, world, studies, rng, effect)[0]
            right, other = ("supported", "contradicted")[::sign]
            hits = np.array([w == right for w in found.words])
            about = {"seeds": n, "skewed": skewed, "level": level, "sign": sign}
            row = {**about, **share_row(hits), "predicted": power}
            rows.append({**row, "wrong_side": np.mean([w == other for w in found.words])})
        done()
    return pd.DataFrame(rows)


def _sd_of(part: Part, world: World) -> float:
    """The true spread of a part's contrast: what the seed shares cancels, rounding adds."""
    weights = weighted_arms(part, article_grid(world.seeds))
    run = world.sd_run**2 + (100 / world.n_test) ** 2 / 12
    return math.sqrt(sum(float(w) ** 2 for w in weights.values()) * run)


def coverage(studies: int, seed: int, slow: int = 2000, done: Done = nothing) -> pd.DataFrame:
    """How often each printed interval holds the truth, at n = 5, 10, 30, normal and skewed.

    slow: at most this many studies for effect sizes, and a fifth of it for mixed models.
    """
    rows = []
    for n, skewed in COVERED:
        rng = np.random.default_rng([seed, n, skewed])
        world = World(seeds=n, skewed=skewed)
        for name, level, hits in _intervals(world, studies, slow, rng):
            about = {"interval": name, "nominal": level, "seeds": n, "skewed": skewed}
            rows.append({**about, **share_row(hits)})
        done()
    return pd.DataFrame(rows)


Hits = tuple[str, float, npt.NDArray[np.bool_]]


def _intervals(world: World, studies: int, slow: int, rng: np.random.Generator) -> Iterator[Hits]:
    n, effect = world.seeds, 0.1
    x = world.values(np.array([effect, 0.0]), studies, rng)
    plus, minus = x[:, 0], x[:, 1]
    for name, sample, truth, level in (
        ("mean of an arm, t", plus, world.base + effect, 0.95),
        ("paired difference, t", plus - minus, effect, 0.95),
        ("paired difference, t (TOST)", plus - minus, effect, 0.90),
    ):
        low, high = est.t_interval(sample, level)
        yield name, level, (low <= truth) & (truth <= high)
    spread = math.hypot(world.sd_seed, world.sd_run)
    sizes = [est.hedges_g_av(a, b) for a, b in zip(plus[:slow], minus[:slow], strict=True)]
    yield "Hedges' g_av, noncentral t", 0.95, _holds(sizes, effect / spread)
    yield (
        "mixed model's class effect",
        0.95,
        _mixed_model_holds(world, min(studies, slow // 5), rng),
    )
    for share in (0.05, 0.5):
        events = rng.binomial(n, share, size=studies)
        low, high = clopper_pearson(events.astype(np.float64), np.full(studies, float(n)))
        held = (low <= share) & (share <= high)
        yield f"share diverged, Clopper-Pearson ({share:g})", 0.95, held


def _mixed_model_holds(
    world: World, studies: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Does the interval of the class effect (half the difference) hold its truth, here 0.05?"""
    axes: dict[str, tuple[str | int, ...]] = {
        "dataset": ("mnist",),
        "ordering": CROSSED,
        "activation": ("relu",),
        "depth": (2,),
    }

    def effect(arm: Arm) -> float:
        return 0.05 if describe(arm.ordering)["bn_class"] == "bn_first" else -0.05

    held = []
    arms = [Arm("mnist", ordering, "relu", 2, "base") for ordering in CROSSED]
    frame = simulated_runs(axes, rng, seeds=world.seeds)
    for x in world.values(np.array([effect(a) for a in arms]), studies, rng):
        fit = mixed_model(frame.assign(test_accuracy_pp=x.reshape(-1)))
        row = next(e for e in fit.effects if e.term == "class[bn_first]")
        held.append(row.ci_low <= 0.05 <= row.ci_high)
    return np.array(held)


CROSSED = ("bn-act-conv", "act-bn-conv", "conv-bn-act", "conv-act-bn")


def _holds(sizes: Sequence[est.EffectSize], truth: float) -> npt.NDArray[np.bool_]:
    return np.array([size.low <= truth <= size.high for size in sizes])


def calibrate(
    claims: str | Path,
    out: str | Path,
    studies: int,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, pd.DataFrame]:
    """Write every calibration table and the findings in words under `out`; returns the tables.

    Raises UserError for claims that the simulated studies cannot test.
    """
    if studies < 100:
        raise UserError(f"--studies is {studies}; expected at least 100")
    checked = load_claims(claims)
    _check_testable(checked)
    read, folder = checked.claims, Path(out)
    makers: dict[str, Callable[..., pd.DataFrame]] = {
        "false_verdicts": partial(false_verdicts, read, studies, seed),
        "margin_edges": partial(margin_edges, read, studies, seed),
        "planted_effects": partial(planted_effects, read, 4 * studies, seed),
        "coverage": partial(coverage, studies, seed),
    }
    tables, pace = {}, Pace(say)
    for name, make in makers.items():
        say(f"{name}: {studies} studies a setting")
        tables[name] = make(done=partial(pace.setting_done, name))
        with replacing(folder / f"{name}.csv") as file:
            tables[name].round(5).to_csv(file, index=False)
    text = "\n".join(findings(tables)) + "\n"
    write_atomically(folder / "findings.txt", text.encode("utf-8"))
    return tables


def _check_testable(read: Claims) -> None:
    """Raise UserError where the simulated studies cannot test a claim, or have none to plant."""
    both, alone = article_grid(2, DATASETS), article_grid(2)
    check_meaning(read.claims, read.path, both)
    edges, power = _with_margin(read.claims), _directional(read.claims)
    for claim in read.claims:
        _check_claim(claim, both, read.path)
        if claim in (*edges, *power):
            _check_claim(claim, alone, read.path)
    if not edges:
        raise UserError(
            f"{read.path}: no claim in one part has a margin; expected at least one of type "
            "direction or equivalence that has, to plant effects at its edge"
        )
    if not power:
        raise UserError(
            f"{read.path}: no claim of type direction in one part; expected at least one, to plant "
            "effects and see how often they are found"
        )


def _check_claim(claim: Claim, grid: Grid, path: str) -> None:
    for part in claim.parts:
        weigh = crossed_weights if part.crossed else weighted_arms
        try:
            weigh(part, grid)
        except NotTested as error:
            axes = (f"{axis} {', '.join(map(str, grid.values(axis)))}" for axis in AXES)
            raise UserError(
                f"{path}: claim {claim.id}: {error.reason}; expected a claim on what is simulated: "
                f"{'; '.join(axes)}"
            ) from None


def findings(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """The worst figure of each table, in a line each."""
    false, edges = tables["false_verdicts"], tables["margin_edges"]
    power, held = tables["planted_effects"], tables["coverage"]
    off = (power["share"] - power["predicted"]).abs()
    lines = [
        _worst("wrong verdicts in a family without effect", false, "world", "family"),
        _worst("passed for within the margin at its edge", edges, "world", "claim"),
        f"power, normal spread: at most {100 * off[~power.skewed].max():.1f} points from predicted",
        f"power, skewed spread: at most {100 * off[power.skewed].max():.1f} points from predicted",
        f"verdicts on the wrong side of a planted effect: at most {power.wrong_side.max():.2%}",
    ]
    for (name, skewed), group in held.groupby(["interval", "skewed"], sort=False):
        spread = "skewed" if skewed else "normal"
        least = group.sort_values("share").iloc[0]
        lines.append(
            f"coverage of {name} ({least.nominal:.0%}), {spread}: least {least.share:.1%}, "
            f"at {least.seeds} seeds"
        )
    return lines


def _worst(what: str, frame: pd.DataFrame, *where: str) -> str:
    worst = frame.sort_values("share").iloc[-1]
    at = ", ".join(str(worst[column]) for column in where)
    interval = f"[{worst.low:.1%}, {worst.high:.1%}]"
    return f"{what}: at most {worst.share:.1%} {interval} ({at}); allowed {worst.at_most:.0%}"


# --- a table of runs, made up ----------------------------------------------------------------


def simulated_runs(
    axes: Mapping[str, tuple[str | int, ...]],
    rng: np.random.Generator,
    *,
    seeds: int = 10,
    n_test: int = 10_000,
    sd_seed: float = 0.08,
    sd_run: float = 0.1,
    base: float = 98.9,
    effect: Effect = lambda arm: 0.0,
) -> pd.DataFrame:
    """A table of runs as this workflow's own would be: accuracy = base + effect + seed + run.

    sd_seed is shared by all runs of a seed (so pairing pays), sd_run is each run's own; points.
    Accuracies are whole counts out of n_test. Columns as in tables/runs.parquet.
    """
    arms = [
        Arm(str(d), str(o), str(a), int(p), str(v))
        for d in axes["dataset"]
        for o in axes["ordering"]
        for a in axes["activation"]
        for p in axes["depth"]
        for v in axes.get("variant", ("base",))
    ]
    shared = rng.normal(0, sd_seed, size=seeds)
    rows = []
    for arm in arms:
        noise = rng.normal(0, sd_run, size=seeds)
        accuracy = np.clip(base + effect(arm) + shared + noise, 0, 100)
        for seed in range(seeds):
            rows.append(_row(arm, seed, float(accuracy[seed]), n_test, rng))
    return pd.DataFrame(rows)


def _row(
    arm: Arm, seed: int, accuracy: float, n_test: int, rng: np.random.Generator
) -> dict[str, object]:
    correct = round(accuracy / 100 * n_test)
    error = 100 - 100 * correct / n_test
    area = max(0.0, error + 3.0 + rng.normal(0, 0.2))
    scale = 60 + 40 * area
    steps = {t: float(round(scale * k + abs(rng.normal(0, 30)))) for t, k in STEPS.items()}
    reached = {f"steps_to_{t}": s if s <= 2345 else np.nan for t, s in steps.items()}
    return {
        "run": f"{arm.id}.s{seed}",
        **describe(arm.ordering),
        "dataset": arm.dataset,
        "ordering": arm.ordering,
        "activation": arm.activation,
        "depth": arm.depth,
        "variant": arm.variant,
        "seed": seed,
        "status": "finished",
        "diverged_step": np.nan,
        "n_test": n_test,
        "test_correct": correct,
        "test_accuracy_pp": 100 * correct / n_test,
        "test_loss": error / 30 + rng.normal(0, 0.002),
        "train_accuracy_pp": min(100.0, accuracy + 0.6),
        "train_loss": error / 60,
        "test_error_area": area,
        "steps": 2345,
        "parameters": 10_000 * arm.depth,
        **reached,
        "wall_seconds": 20.0 + rng.normal(),
        "train_seconds": 17.0,
        "evaluate_seconds": 3.0,
        "images_per_second": 15_000.0,
        "threads": 1,
        "device": "cpu",
        "torch": "2.9.0",
        "config_hash": "0" * 16,
        "code_hash": "0" * 16,
        "data_sha256": "0" * 64,
    }


STEPS = {97: 1.0, 98: 2.5, 99: 12.0}
