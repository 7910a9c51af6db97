"""Damaged files on the real workflow: found, named, never used, and only what they spoil redone.

Random places come from a printed seed, as in test_faults.py.
"""

import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fault_ledger import Ledger, ledger  # noqa: F401
from fault_study import (  # noqa: F401
    SECONDS,
    Study,
    faulty_project,
    in_peace,
    kill,
    rng,
    study,
    until,
)
from undisturbed import timeless

from bnorder.records import Record

pytestmark = pytest.mark.faults
Spoil = Callable[[str, str, random.Random], str]  # a file's text and another file's


def first_line(text: str, **changes: object) -> str:
    """A file whose first record says something else, with the right checksum."""
    head, _, rest = text.partition("\n")
    return replace(Record.from_line(head), **changes).as_line() + rest  # type: ignore[arg-type]


def one_digit(text: str, other: str, rng: random.Random) -> str:
    places = [i for i, letter in enumerate(text) if letter in "123456789"]
    place = rng.choice(places)
    return text[:place] + str(int(text[place]) % 9 + 1) + text[place + 1 :]


RECORDS: dict[str, tuple[Spoil, str]] = {
    "truncated": (lambda text, other, rng: text[: rng.randrange(len(text) - 2)], ""),
    "emptied": (lambda text, other, rng: "", "records are missing"),
    "altered by a digit": (one_digit, ""),
    "duplicated": (lambda text, other, rng: text + text.splitlines(True)[-1], "a second record"),
    "foreign": (lambda text, other, rng: other, "a foreign record"),
    "of another configuration": (
        lambda text, other, rng: first_line(text, config_hash="0" * 16),
        "another configuration",
    ),
    "of other code": (lambda text, other, rng: first_line(text, code_hash="0" * 16), "other code"),
}


def test_records(
    study: Study, in_peace: dict[str, bytes], rng: random.Random, ledger: Ledger
) -> None:
    assert study.finish() == in_peace
    others = Study(study.project, study.environment, "strangers", seeds=[7, 8])
    assert others.run()[0] == 0
    for fault in rng.sample(list(RECORDS), len(RECORDS)):
        spoil, words = RECORDS[fault]
        spoilt = rng.choice(study.records())
        untouched = state_of(path for path in study.records() if path != spoilt)
        text = spoil(spoilt.read_text(), others.records()[0].read_text(), rng)
        spoilt.write_text(text, encoding="utf-8")
        status, said = study.run()
        assert status != 0, fault
        errors = [line for line in study.errors() if spoilt.name in line]
        assert errors, said
        assert f"delete {spoilt.name}" in errors[0]
        assert words in errors[0]
        assert "Traceback" not in said
        before = study.work().epochs
        study.forget(spoilt.stem)
        spoilt.unlink()
        assert study.finish() == in_peace, fault
        assert state_of(path for path in study.records() if path != spoilt) == untouched
        redone = study.work().epochs - before
        assert redone == 4 * 12, f"{fault}: {redone} epochs"  # four arms, one seed, twelve epochs
        ledger.note(f"Record {fault}", 1, "that job", f"{redone} of {2 * redone} epochs")


def state_of(paths: object) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}  # type: ignore[attr-defined]


def contents_of(paths: object) -> dict[str, bytes]:
    return {name: content for name, (content, _) in state_of(paths).items()}


def test_cache_with_a_flipped_bit(
    study: Study, in_peace: dict[str, bytes], rng: random.Random, ledger: Ledger
) -> None:
    assert study.finish() == in_peace
    study.take_away(study.records()[0])
    kept = contents_of(study.records())
    cache = study.project / "results/data/digits.pt"
    flip_a_bit(cache, rng, among=(0.1, 0.8))
    status, said = study.run()
    assert status != 0
    errors = [line for line in study.errors() if "digits.pt" in line]
    assert errors, said
    assert "a damaged data cache" in errors[0]
    assert "delete it" in errors[0]
    before = study.work().epochs
    cache.unlink()
    assert study.finish() == in_peace
    # Its job was asked again and found its runs finished; Snakemake then sets the file's time.
    assert contents_of(p for p in study.records() if p.name in kept) == kept
    redone = study.work().epochs - before
    assert redone == 4 * 12
    assert timeless(study.results) == in_peace
    ledger.note("Data cache with a flipped bit", 1, "the cache", "the cache; no finished job")


def flip_a_bit(path: Path, rng: random.Random, among: tuple[float, float] = (0, 1)) -> None:
    """One bit of a file, and its time as it was: what a disk does."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    place = rng.randrange(int(among[0] * len(content)), int(among[1] * len(content)))
    content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def noise(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(path.stat().st_size))


def half(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def another_jobs(path: Path, rng: random.Random) -> None:
    """The one job's checkpoint under the other's name."""
    other = next(p for p in path.parent.glob("*.checkpoint.pt") if p != path)
    shutil.copy(other, path)


def flipped(path: Path, rng: random.Random) -> None:
    flip_a_bit(path, rng, among=(0.1, 0.6))


@pytest.mark.parametrize("damage", [noise, half, flipped, another_jobs])
def test_checkpoint(
    damage: Callable[[Path, random.Random], None],
    study: Study,
    in_peace: dict[str, bytes],
    rng: random.Random,
    ledger: Ledger,
) -> None:
    def checkpoints() -> list[Path]:
        return sorted(study.results.glob("checkpoints/*.checkpoint.pt"))

    study.start()
    assert until(lambda: len(checkpoints()) == 2), study.text()
    kill(study.processes(""))
    assert until(lambda: not study.processes(""), 30)
    if len(checkpoints()) < 2:
        pytest.skip("a run ended just then; try another seed")
    spoilt = rng.choice(checkpoints())
    damage(spoilt, rng)
    study.forget(spoilt.name.removesuffix(".checkpoint.pt"))  # it may begin anew
    assert study.finish() == in_peace
    if damage is not another_jobs:  # that one is whole, and of other runs
        assert f"{spoilt.name} is not used" in study.said_of_jobs()
    redone = study.work().epochs - 2 * 4 * 12
    name = damage.__name__.replace("_jobs", " job's")
    ledger.note(f"Checkpoint: {name}", 1, "that checkpoint", f"{redone} of 96 epochs")


# Time


@pytest.mark.parametrize("years", [-30, 30])
def test_clock_that_jumped(
    years: int, study: Study, in_peace: dict[str, bytes], rng: random.Random, ledger: Ledger
) -> None:
    """A study half of which was made in another year: times in files, and of the machine."""
    process = study.start()
    assert until(lambda: study.records() or process.poll() is not None), study.text()
    kill(study.processes(""))
    process.wait(timeout=SECONDS)
    done = contents_of(study.records())
    for path in study.results.rglob("*"):
        then = time.time() + years * 31_557_600 * rng.random()
        os.utime(path, (then, then))
    assert study.finish() == in_peace
    assert done.items() <= contents_of(study.records()).items()
    assert study.finish() == in_peace
    ledger.note(f"Files up to {years:+d} years off", 1, "nothing", study.redone())


@pytest.mark.parametrize("when", ["+400d", "-400d"])
def test_clock_of_the_machine(
    when: str,
    study: Study,
    in_peace: dict[str, bytes],
    skip_without: Callable[[str], None],
    ledger: Ledger,
) -> None:
    skip_without("faketime")
    study.under = ["faketime", "-f", when]
    process = study.start()
    assert until(lambda: study.records() or process.poll() is not None), study.text()
    kill(study.processes(""))
    process.wait(timeout=SECONDS)
    study.under = []
    assert study.finish() == in_peace
    ledger.note(f"Clock set by {when}, then back", 1, "nothing", study.redone())


# Memory


LIMITED = """
def limited(content):  # half a GB more than a job has by now: the network below asks for more
    import resource

    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**29,) * 2)
    return content


def main"""


def test_out_of_memory_says_what_to_lower(
    study: Study, in_peace: dict[str, bytes], ledger: Ledger
) -> None:
    wide = Study(study.project, study.environment, "wide", recipe={"width": 4096, "epochs": 1})
    script = study.project / "scripts/train.py"
    original = script.read_text(encoding="utf-8")
    load = "data.load(arguments.data)"
    assert load in original
    limited = original.replace(load, f"limited({load})").replace("\ndef main", LIMITED, 1)
    script.write_text(limited, encoding="utf-8")
    try:
        status, said = wide.run()
        assert study.finish() == in_peace, "a study that fits is none the worse for it"
    finally:
        script.write_text(original, encoding="utf-8")
    assert status != 0
    errors = [line for line in wide.errors() if "out of memory" in line]
    assert errors, said
    assert "lower BATCH_SIZE, WIDTH" in errors[0]
    assert "Traceback" not in said
    assert not wide.records()
    ledger.note("Out of memory, on one machine", 1, "that job; the line says what to lower", "0")
