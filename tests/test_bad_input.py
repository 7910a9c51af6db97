"""Bad input, wholesale: one line that says where, what and what was expected; nothing written.

Every case goes through the function that the Snakefile or a script calls, and through
`exit_cleanly`, which ends both; some go through the real command lines as well.
"""

import errno
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_claims import one
from test_records import record

from bnorder import data, records, workflow
from bnorder.claims import load_claims
from bnorder.errors import LONGEST, UserError, exit_cleanly
from bnorder.statistics.analysis import load_inputs
from bnorder.study import REPOSITORY as LIBRARY
from bnorder.study import load_effective, load_study, parse_override, study_schema
from bnorder.summary import summary
from bnorder.tables import read_curves, read_runs

Check = Callable[[Callable[[], object], list[str]], str]


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Check:
    """Runs an action in an empty folder; it must end in one line with these words, and no more."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def check(action: Callable[[], object], words: list[str]) -> str:
        before = written(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            exit_cleanly(lambda: action() and None)  # type: ignore[func-returns-value]
        assert stopped.value.code == 2
        captured = capsys.readouterr()
        line = one_line(captured.err)
        assert captured.out == ""
        assert [word for word in words if word not in line] == [], line
        assert written(tmp_path) == before
        return line

    return check


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text[:2000]
    assert lines[0].startswith("error: ")
    assert lines[0].isprintable()
    assert len(lines[0]) < LONGEST + 100
    return lines[0]


class _Plain(yaml.SafeDumper):
    """Writes what stands twice twice: an alias would be refused before what is asked for here."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def as_yaml(content: object) -> str:
    return yaml.dump(content, Dumper=_Plain)


def written(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


# Studies

STUDY = """name: tiny
datasets: [digits]
orderings: [conv-bn-act]
activations: [relu]
depths: [2]
"""


def instead(old: str, new: str) -> str:
    assert old in STUDY
    return STUDY.replace(old, new)


BOMB = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(1000))
STUDIES: dict[str, tuple[str | bytes, list[str]]] = {
    # what is no YAML, or no mapping
    "empty": ("", ["expected a mapping"]),
    "only a comment": ("# nothing\n", ["expected a mapping"]),
    "a word": ("tiny", ["expected a mapping"]),
    "null": ("null", ["expected a mapping"]),
    "a list": ("- name\n", ["expected a mapping"]),
    "open bracket": ("name: [", ["line 1, column 8", "no valid YAML"]),
    "tabs": ("name: x\n\tdatasets: [x]\n", ["line 2", "no valid YAML"]),
    "two documents": (STUDY + "---\n" + STUDY, ["another document"]),
    "YAML 9": ("%YAML 9.9\n---\n" + STUDY, ["no valid YAML"]),
    "NULs": (b"\0" * 100, ["no valid YAML", "special characters"]),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ["cannot be read", "UTF-8"]),
    "UTF-16": (STUDY.encode("utf-16"), ["cannot be read", "UTF-8"]),
    "Latin 1": (STUDY.encode() + b"title: caf\xe9\n", ["cannot be read", "UTF-8"]),
    "a gzip": (b"\x1f\x8b\x08\0\0\0\0\0", ["cannot be read"]),
    # what grows
    "10 MB of title": (STUDY + "title: " + "a" * 10_000_000, ["larger than 1,000,000 bytes"]),
    "aliases": ("a: &a [x]\nname: *a\n", ["aliases"]),
    "billion laughs": (BOMB, ["aliases"]),
    "a merge key": ("a: &a {b: 1}\n<<: *a\n", ["aliases"]),
    "anchors, deep": ("a: " + "".join(f"&a{i} [" for i in range(60_000)), ["nested too deeply"]),
    "lists, deep": ("title: " + "[" * 100_000, ["nested too deeply"]),
    "mappings, deep": ("title: " + "{a: " * 100_000, ["nested too deeply"]),
    "dashes, deep": ("- " * 100_000, ["nested too deeply"]),
    "keys, deep": ("? " * 100_000, ["nested too deeply"]),
    "a list in itself": ("&a [*a]", ["aliases"]),
    "5,000 digits": (STUDY + "seeds: " + "9" * 5000, ["no valid YAML", "5000 digits"]),
    "4,000 digits": (STUDY + "seeds: " + "9" * 4000, ["seeds is 999", "at most 100000"]),
    "a grid without end": (
        instead("[2]", str(list(range(1, 51)))) + "seeds: 100000\n",
        ["a grid of 5,000,000 runs", "at most 1,000,000"],
    ),
    # tags, which other loaders run
    "a Python object": (
        STUDY + "title: !!python/object/apply:os.system ['touch x']\n",
        ["line 6, column 8", "python/object"],
    ),
    "a tag": (STUDY + "title: !x y\n", ["line 6, column 8", "!x"]),
    "bytes": (STUDY + "title: !!binary aGVsbG8=\n", ["title is", "expected text"]),
    "a set": (STUDY + "seeds: !!set {1, 2}\n", ["seeds is", "expected"]),
    "a date": (STUDY + "title: 2020-01-01\n", ["title is", "expected text"]),
    "no date": (STUDY + "title: 2020-02-31\n", ["no valid YAML", "day is out of range"]),
    # keys
    "a key twice": (STUDY + "name: again", ["line 6", "'name' stands twice"]),
    "an unknown key": (STUDY + "dephts: [3]", ["unknown key 'dephts' (did you mean depths?)"]),
    "a number as key": (STUDY + "1: 2", ["1"]),
    "null as key": (STUDY + "null: 2", ["line 6", "a key must be a plain word"]),
    "a list as key": (STUDY + "[a]: 2", ["line 6", "a key must be a plain word"]),
    "a script as key": (STUDY + '"<script>": 2', ["unknown key '<script>'"]),
    "a command as key": (STUDY + '"$(touch x)": 2', ["unknown key '$(touch x)'"]),
    "escapes as key": (STUDY + '"a\\e[31m": 2', ["a key of the file", "U+001B"]),
    "a long key": (STUDY + "k" * 500 + ": 2", ["unknown key 'kkk"]),
    "no name": (instead("name: tiny\n", ""), ["'name' is missing"]),
    "no depths": (instead("depths: [2]", ""), ["'depths' is missing"]),
    # names
    "empty name": (instead("tiny", '""'), ['name is ""', "text like"]),
    "null name": (instead("tiny", "null"), ["name is null", "text"]),
    "number as name": (instead("tiny", "1"), ["name is 1", "text"]),
    "slash": (instead("tiny", "a/b"), ['name is "a/b"', "text like"]),
    "name that climbs": (instead("tiny", "../../x"), ['name is "../../x"', "text like"]),
    "dots": (instead("tiny", ".."), ['name is ".."', "text like"]),
    "hidden file": (instead("tiny", ".x"), ['name is ".x"', "text like"]),
    "name of a command": (instead("tiny", "$(touch x)"), ["name is", "touch", "text like"]),
    "backticks": (instead("tiny", '"`touch x`"'), ["name is", "text like"]),
    "name with a line break": (instead("tiny", '"tiny\\n"'), ['name is "tiny\\n"', "text like"]),
    "name with a NUL": (instead("tiny", '"ti\\0ny"'), ["name is", "U+0000"]),
    "dotless i": (instead("tiny", "tıny"), ['name is "tıny"', "text like"]),
    "full width": (instead("tiny", "ｔiny"), ["name is", "text like"]),
    "an option": (instead("tiny", "-rf"), ['name is "-rf"', "text like"]),
    "long name": (instead("tiny", "a" * 101), ["name is", "at most 100"]),
    "the data's folder": (instead("tiny", "data"), ["name is 'data'", "expected another"]),
    # titles
    "a title of two lines": (STUDY + 'title: "a\\nb"', ["title is", "text like"]),
    "a title that rings": (STUDY + 'title: "a\\a"', ["title is", "U+0007"]),
    "right to left": (STUDY + 'title: "a\\u202eb"', ["title is", "U+202E"]),
    "half a character": (STUDY + 'title: "a\\ud800b"', ["title is", "U+D800"]),
    "a long title": (STUDY + "title: " + "a" * 201, ["title is", "at most 200"]),
    "a title of marks": (STUDY + "title: " + "a\u0301" * 150, ["title is", "at most 200"]),
    # axes
    "null axis": (instead("[digits]", "null"), ["datasets is null", "expected a list"]),
    "empty axis": (instead("[relu]", "[]"), ["activations is []", "at least 1"]),
    "text as axis": (instead("[relu]", "relu"), ["activations is", "expected a list"]),
    "unknown data set": (instead("digits", "minst"), ['datasets[0] is "minst"', "mnist"]),
    "data set and line": (instead("digits", '"mnist\\n"'), ["datasets[0] is", "expected"]),
    "folder with a NUL": (instead("digits", '"folder:a\\0b"'), ["datasets[0]", "U+0000"]),
    "long folder": (instead("digits", "folder:" + "x" * 3000), ["datasets[0]", "2000"]),
    "unknown ordering": (instead("conv-bn-act", "conv-bm-act"), ["'conv-bm-act'", "expected"]),
    "ordering of numbers": (instead("[conv-bn-act]", "[1]"), ["orderings[0] is 1", "text"]),
    "ordering without conv": (instead("conv-bn-act", "bn-act"), ["'bn-act'", "expected conv"]),
    "long ordering": (instead("conv-bn-act", "conv-" * 200), ["orderings[0]", "at most 30"]),
    "unknown activation": (instead("relu", "rulu"), ["'rulu'", "expected one of relu"]),
    "slope that is none": (instead("relu", "leaky_relu-nan"), ["'leaky_relu-nan'", "expected"]),
    "slope of 1,000 digits": (instead("relu", "leaky_relu-" + "9" * 1000), ["activations[0]"]),
    "one slope, two names": (
        instead("relu", "leaky_relu, leaky_relu-0.01"),
        ["'leaky_relu-0.01', the same as 'leaky_relu'"],
    ),
    "depth 0": (instead("[2]", "[0]"), ["depths[0] is 0", "at least 1"]),
    "depth 51": (instead("[2]", "[51]"), ["depths[0] is 51", "at most 50"]),
    "true as depth": (instead("[2]", "[true]"), ["depths[0] is true", "a whole number"]),
    "2.0 as depth": (instead("[2]", "[2.0]"), ["depths[0] is 2.0", "a whole number"]),
    "depth in words": (instead("[2]", "[two]"), ['depths[0] is "two"', "a whole number"]),
    "depth in a list": (instead("[2]", "[[2]]"), ["depths[0] is [2]", "a whole number"]),
    "depth twice": (instead("[2]", "[2, 2]"), ["depths has 2 twice"]),
    "no seeds": (STUDY + "seeds: 0", ["seeds is 0", "at least 1"]),
    "null seeds": (STUDY + "seeds: null", ["seeds is null", "a whole number, or a list of them"]),
    "true as seeds": (STUDY + "seeds: true", ["seeds is true", "expected"]),
    "2.0 seeds": (STUDY + "seeds: 2.0", ["seeds is 2.0", "expected"]),
    "seed below 0": (STUDY + "seeds: [-1]", ["seeds[0] is -1", "at least 0"]),
    "seed too large": (STUDY + "seeds: [9999999999]", ["seeds[0] is 9999999999", "at most"]),
    "seed twice": (STUDY + "seeds: [1, 1]", ["seeds has 1 twice"]),
    # recipe and variants
    "null recipe": (STUDY + "recipe: null", ["recipe is null", "a mapping"]),
    "recipe as a list": (STUDY + "recipe: [1]", ["recipe is [1]", "a mapping"]),
    "unknown recipe key": (STUDY + "recipe: {lr: 1}", ["recipe: unknown key 'lr'"]),
    "NaN": (STUDY + "recipe: {learning_rate: .nan}", ["learning_rate is NaN", "number"]),
    "infinity": (STUDY + "recipe: {learning_rate: .inf}", ["learning_rate is Infinity"]),
    "1e400": (STUDY + "recipe: {bn_eps: 1e400}", ["bn_eps is Infinity"]),
    "negative rate": (STUDY + "recipe: {learning_rate: -1}", ["learning_rate is -1", "more than"]),
    "rate as text": (STUDY + "recipe: {learning_rate: 'x'}", ['learning_rate is "x"', "number"]),
    "rate as command": (STUDY + "recipe: {learning_rate: $(touch x)}", ["learning_rate is"]),
    "true as width": (STUDY + "recipe: {width: true}", ["width is true", "a whole number"]),
    "1.5 epochs": (STUDY + "recipe: {epochs: 1.5}", ["epochs is 1.5", "a whole number"]),
    "even kernel": (STUDY + "recipe: {kernel: 4}", ["kernel is 4", "1, 3, 5, 7"]),
    "huge images": (STUDY + "recipe: {train_images: 1000000000000}", ["train_images", "at most"]),
    "NaN threshold": (STUDY + "thresholds: [.nan]", ["thresholds[0] is NaN", "number"]),
    "threshold 101": (STUDY + "thresholds: [101]", ["thresholds[0] is 101", "at most 100"]),
    "no variants": (STUDY + "variants: {}", ["variants is {}", "at least 1 key"]),
    "variants as a list": (STUDY + "variants: [a]", ["variants is", "a mapping"]),
    "base that overrides": (STUDY + "variants: {base: {width: 8}}", ["variants.base"]),
    "variant of an axis": (STUDY + "variants: {deep: {depths: [9]}}", ["in variants.deep"]),
    "variant that climbs": (STUDY + "variants: {../x: {}}", ["a key of variants", "../x"]),
    "variant and line": (STUDY + 'variants: {"a\\n": {}}', ["a key of variants", "text like"]),
    "variant's NaN": (STUDY + "variants: {a: {momentum: .nan}}", ["momentum is NaN"]),
    # the rest
    "claims as number": (STUDY + "claims: 3", ["claims is 3", "text"]),
    "claims with a NUL": (STUDY + 'claims: "a\\0b"', ["claims is", "U+0000"]),
    "claims nowhere": (STUDY + "claims: nowhere.yaml", ["nowhere.yaml: no such file"]),
    "claims that are none": (STUDY + "claims: bad.yaml", ["bad.yaml", "unknown key"]),
    "data_dirs as text": (STUDY + "data_dirs: x", ["data_dirs is", "a list"]),
    "probes as text": (STUDY + "probes: 'yes'", ['probes is "yes"', "true or false"]),
    "probes in tf32": (
        STUDY + "probes: true\nvariants: {base: {}, fast: {precision: tf32}}",
        ["probes with precision tf32 (in variants.fast)", "float32 or bf16"],
    ),
    "no momentum": (STUDY + "recipe: {momentum: 0}", ["momentum is 0", "more than 0"]),
}


@pytest.mark.parametrize("case", STUDIES)
def test_bad_study(case: str, refused: Check) -> None:
    content, words = STUDIES[case]
    Path("bad.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    )

    def read() -> None:
        _, _, study = workflow.configured_study({"study": "bad.yaml"})
        workflow.check_claims(study.claims)

    refused(read, words if case.startswith("claims nowhere") else ["bad.yaml", *words])


# Claims

TERM = {"weight": 1, "ordering": "bn-act-conv"}
LESS = {"weight": -1, "ordering": "act-bn-conv"}
CLAIMS: dict[str, tuple[dict[str, object], list[str]]] = {
    "NaN weight": ({"terms": [{**TERM, "weight": math.nan}, LESS]}, ["weight is NaN"]),
    "infinite weight": ({"terms": [{**TERM, "weight": math.inf}, LESS]}, ["weight is Infinity"]),
    "weight in words": (
        {"terms": [{**TERM, "weight": "minus one"}]},
        ['weight is "minus one"; expected a number, or a fraction such as 1/3 (other than 0)'],
    ),
    "weight 1/0": ({"terms": [{**TERM, "weight": "1/0"}, LESS]}, ['weight is "1/0"']),
    "weight of 5,000 digits": ({"terms": [{**TERM, "weight": "1/" + "9" * 5000}]}, ["weight is"]),
    "weight 1e300": ({"terms": [{**TERM, "weight": 1e300}, LESS]}, ["weight is 1e+300"]),
    "true as weight": ({"terms": [{**TERM, "weight": True}, LESS]}, ["weight is true"]),
    "weight as command": ({"terms": [{**TERM, "weight": "$(touch x)"}]}, ["weight is", "touch"]),
    "weights that leave 1": ({"terms": [TERM]}, ["claim A1", "add up to 1", "expected 0"]),
    "NaN margin": ({"margin": math.nan}, ["margin is NaN", "number"]),
    "infinite margin": ({"margin": math.inf}, ["margin is Infinity"]),
    "margin 0": ({"margin": 0}, ["margin is 0", "more than 0"]),
    "margin as text": ({"margin": "0.2"}, ['margin is "0.2"', "number"]),
    "NaN threshold": ({"type": "threshold", "threshold": math.nan}, ["threshold is NaN"]),
    "id of a script": ({"id": "<script>"}, ['id is "<script>"', "text like"]),
    "id that climbs": ({"id": "../x"}, ['id is "../x"', "text like"]),
    "id of a command": ({"id": "$(touch x)"}, ["id is", "text like"]),
    "id and line": ({"id": "A1\n"}, ['id is "A1\\n"', "text like"]),
    "long id": ({"id": "A" * 21}, ["id is", "text like"]),
    "number as id": ({"id": 1}, ["id is 1", "text"]),
    "family of markup": ({"family": "<b>"}, ['family is "<b>"', "text like"]),
    "measure of markup": ({"measure": "<b>"}, ['measure is "<b>"', "text like"]),
    "long measure": ({"measure": "a" * 61}, ["measure is", "at most 60"]),
    "nobody": ({"who": ""}, ['who is ""', "at least 1"]),
    "hidden who": ({"who": "a\x00b"}, ["who is", "U+0000"]),
    "sentence right to left": ({"sentence": "a\u202eb"}, ["sentence is", "U+202E"]),
    "long sentence": ({"sentence": "a" * 1001}, ["sentence is", "at most 1000"]),
    "type in a list": ({"type": ["direction"]}, ["type is", "expected one of"]),
    "no terms": ({"terms": []}, ["terms is []", "at least 1"]),
    "101 terms": ({"terms": [TERM] * 101}, ["terms is", "at most 100"]),
    "no parts": ({"parts": []}, ["parts is []", "at least 1"]),
    "part without a name": ({"parts": [{}]}, ["parts[0]", "'name' is missing"]),
    "where as a list": ({"where": []}, ["where is []", "a mapping"]),
    "unknown axis": ({"where": {"depths": 2}}, ["where: unknown key 'depths'"]),
    "depth in words": (
        {"where": {"depth": "most"}},
        ['"most"; expected one of least, greatest, all, or a whole number, or a list of whole num'],
    ),
    "class of no kind": (
        {"where": {"bn_class": "bnfirst"}},
        ['bn_class is "bnfirst"; expected one of bn_first, act_first, none, or a list of them'],
    ),
    "cut of no kind": (
        {"where": {"cut": "middle"}},
        ['"middle"; expected one of conv_first, conv_middle, conv_last, or a list of them'],
    ),
    "a list of no kind": ({"where": {"cut": ["middle"]}}, ['cut[0] is "middle"; expected one of']),
    "number as ordering": (
        {"where": {"ordering": 3}},
        ["ordering is 3; expected text, or a list of them"],
    ),
    "true as depth": ({"where": {"depth": True}}, ["depth is true"]),
    "2.0 as depth": ({"where": {"depth": 2.0}}, ["depth is 2.0"]),
    "huge depth": ({"where": {"depth": 10**30}}, ["depth is 1000"]),
    "no ordering": ({"where": {"ordering": []}}, ["ordering is []"]),
    "null activation": ({"where": {"activation": None}}, ["activation is null"]),
    "unknown ordering": (
        {"terms": [TERM, {**LESS, "ordering": "conv-bm"}]},
        ["claim A1", "'conv-bm'"],
    ),
    "unknown activation": ({"where": {"activation": "rulu"}}, ["claim A1", "'rulu'"]),
    "two sides as text": ({"two_sided": "yes"}, ['two_sided is "yes"', "true or false"]),
    "unknown key": ({"margins": 1}, ["unknown key 'margins'", "margin"]),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_bad_claim(case: str, refused: Check) -> None:
    changes, words = CLAIMS[case]
    Path("mine.yaml").write_text(as_yaml({"claims": [one(**changes)]}), encoding="utf-8")
    refused(lambda: workflow.check_claims("mine.yaml"), ["mine.yaml", *words])


FILES: dict[str, tuple[object, list[str]]] = {
    "a list": ([one()], ["expected a mapping"]),
    "null claims": ({"claims": None}, ["claims is null", "a list"]),
    "no claims": ({"claims": []}, ["claims is []", "at least 1"]),
    "1,001 claims": ({"claims": [{"id": "A"}] * 1001}, ["claims"]),
    "one claim twice": ({"claims": [one(), one()]}, ["claim A1", "stands twice"]),
    "headline of nobody": ({"claims": [one()], "headline": "B" * 5000}, ["headline", "A1"]),
    "notes as text": ({"claims": [one()], "notes": "x"}, ["notes is", "a list"]),
    "a thirteenth month": (
        {"claims": [one()], "notes": [{"date": "2026-13-01", "claim": "A1", "text": "x"}]},
        ["notes[0].date is", "2026-13-01"],
    ),
    "no source": ({"claims": [one()], "source": {"name": ""}}, ["source.name is"]),
    "unknown key": ({"claims": [one()], "$(touch x)": 1}, ["unknown key '$(touch x)'"]),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_claims_file(case: str, refused: Check) -> None:
    content, words = FILES[case]
    Path("mine.yaml").write_text(as_yaml(content), encoding="utf-8")
    refused(lambda: workflow.check_claims("mine.yaml"), ["mine.yaml", *words])


# Tables of runs

RUNS = """ordering,seed,test_accuracy_pp
bn-act-conv,0,98.1
act-bn-conv,0,98.0
bn-act-conv,1,98.3
act-bn-conv,1,98.2
"""
COUNTS = "ordering,seed,test_correct,n_test\nbn-act-conv,0,{correct},{n_test}\n"


def changed(old: str, new: str) -> str:
    assert old in RUNS
    return RUNS.replace(old, new, 1)


TABLES: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", ["cannot be read as csv"]),
    "header only": ("ordering,seed,test_accuracy_pp\n", ["no rows"]),
    "NULs": (b"\0" * 200, ["column 'ordering' is missing"]),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ["cannot be read as csv"]),
    "UTF-16": (RUNS.encode("utf-16"), ["cannot be read as csv"]),
    "Latin 1": (RUNS.encode() + b"\xe9,2,3\n", ["cannot be read as csv"]),
    "JSON": ('[{"ordering": 1}]', ["column 'ordering' is missing"]),
    "semicolons": (RUNS.replace(",", ";"), ["column 'ordering' is missing"]),
    "tabs": (RUNS.replace(",", "\t"), ["column 'ordering' is missing"]),
    "a row too long": (RUNS + "bn-act-conv,2,3,4,5\n", ["cannot be read as csv"]),
    "an open quote": (RUNS + '"bn-act-conv,2,98\n', ["cannot be read as csv"]),
    "no seed": (changed("seed", "sead"), ["column 'seed' is missing", "sead"]),
    "a column twice": (changed("ordering", "seed"), ["column 'seed' stands twice"]),
    "half a character": (
        changed("bn-act-conv", "bn\ud800").encode("utf-8", "surrogatepass"),
        ["cannot be read as csv"],
    ),
    "seed in words": (changed("1,98.3", "one,98.3"), ["row 3", "seed", "'one'", "number"]),
    "half a seed": (changed("1,98.3", "1.5,98.3"), ["row 3", "seed", "whole number"]),
    "no number for seed": (changed("1,98.3", "nan,98.3"), ["row 3", "seed", "whole number"]),
    "infinite seed": (changed("1,98.3", "inf,98.3"), ["row 3", "seed", "whole number"]),
    "huge seed": (changed("1,98.3", "1e300,98.3"), ["row 3", "seed", "whole number"]),
    "blank seed": (changed("1,98.3", ",98.3"), ["row 3", "seed", "whole number"]),
    "accuracy in words": (changed("98.3", "high"), ["row 3", "test_accuracy_pp", "'high'"]),
    "accuracy as command": (changed("98.3", "$(touch x)"), ["row 3", "'$(touch x)'", "number"]),
    "infinite accuracy": (changed("98.3", "inf"), ["row 3", "inf", "0 to 100"]),
    "negative accuracy": (changed("98.3", "-1"), ["row 3", "-1", "0 to 100"]),
    "accuracy of 101": (changed("98.3", "101"), ["row 3", "101", "0 to 100"]),
    "percent sign": (changed("98.3", "98.3%"), ["row 3", "'98.3%'", "number"]),
    "fractions": ("ordering,seed,test_accuracy_pp\nbn-act-conv,0,0.98\n", ["fractions"]),
    "blank ordering": (changed("bn-act-conv,1", ",1"), ["row 3", "ordering", "expected a name"]),
    "ordering of 10 MB": (RUNS + "a" * 10_000_000 + ",2,98\n", ["row 5", "200 characters"]),
    "ordering with a NUL": (changed("bn-act-conv,1", "b\0n,1"), ["row 3", "hidden"]),
    "right to left": (changed("bn-act-conv,1", "b\u202en,1"), ["row 3", "hidden"]),
    "a run twice": (RUNS + "bn-act-conv,0,98.1\n", ["row 5", "the same run as row 1"]),
    "more right than asked": (COUNTS.format(correct=11, n_test=10), ["row 1", "11", "0 to n_test"]),
    "fewer than none": (COUNTS.format(correct=-1, n_test=10), ["row 1", "-1", "0 to n_test"]),
    "half an answer": (COUNTS.format(correct=1.5, n_test=10), ["row 1", "1.5", "whole number"]),
    "no test images": (COUNTS.format(correct=0, n_test=0), ["row 1", "n_test", "above 0"]),
    "blank n_test": (COUNTS.format(correct=0, n_test=""), ["row 1", "n_test", "above 0"]),
    "infinite n_test": (COUNTS.format(correct=5, n_test="inf"), ["row 1", "n_test", "above 0"]),
    "half a test image": (COUNTS.format(correct=5, n_test=10.5), ["row 1", "n_test", "above 0"]),
    "depth in words": (
        "ordering,seed,depth,test_accuracy_pp\nbn-act-conv,0,deep,98\n",
        ["row 1", "depth", "'deep'", "number"],
    ),
    "steps in words": (
        "ordering,seed,steps,test_accuracy_pp\nbn-act-conv,0,many,98\n",
        ["row 1", "steps", "'many'", "number"],
    ),
    "loss in words": (
        "ordering,seed,test_loss,test_accuracy_pp\nbn-act-conv,0,low,98\n",
        ["row 1", "test_loss", "'low'", "number"],
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_bad_table(case: str, refused: Check) -> None:
    content, words = TABLES[case]
    Path("mine.yaml").write_text(as_yaml({"claims": [one()]}), encoding="utf-8")
    Path("runs.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: load_inputs("runs.csv", "mine.yaml"), ["runs.csv", *words])


CURVES = "ordering,seed,step,depth,test_accuracy_pp\nconv,0,0,2,9.5\nconv,0,100,2,88.5\n"
CURVES_TABLES: dict[str, tuple[str, str, list[str]]] = {
    "no step": ("step", "stop", ["column 'step' is missing", "stop"]),
    "no evaluation": (CURVES.partition("\n")[2], "", ["no rows"]),
    "blank step": ("0,100", "0,", ["row 2", "step", "whole number"]),
    "blank depth": ("100,2", "100,", ["row 2", "depth", "whole number"]),
    "half a depth": ("100,2", "100,2.5", ["row 2", "depth", "whole number"]),
    "blank seed": ("conv,0,100", "conv,,100", ["row 2", "seed", "whole number"]),
    "blank ordering": ("conv,0,100", ",0,100", ["row 2", "ordering", "expected a name"]),
    "accuracy of 101": ("88.5", "101", ["row 2", "101", "0 to 100"]),
    "an evaluation twice": ("0,100", "0,0", ["row 2", "step", "the same evaluation as row 1"]),
}


@pytest.mark.parametrize("case", CURVES_TABLES)
def test_bad_table_of_curves(case: str, refused: Check) -> None:
    old, new, words = CURVES_TABLES[case]
    assert old in CURVES
    Path("curves.csv").write_text(CURVES.replace(old, new, 1), encoding="utf-8")
    refused(lambda: read_curves("curves.csv"), ["curves.csv", *words])


PARQUET: dict[str, tuple[dict[str, object] | bytes, list[str]]] = {
    "no Parquet": (b"PAR1xxxxPAR1", ["cannot be read as parquet"]),
    "CSV": (RUNS.encode(), ["cannot be read as parquet"]),
    "text": ({"seed": ["0", "0", "a", "1"]}, ["row 3", "seed", "'a'"]),
    "null": ({"seed": [0, 0, None, 1]}, ["row 3", "seed", "whole number"]),
    "true": ({"seed": [True, True, False, False]}, ["row 1", "seed", "number"]),
    "unsigned": ({"seed": np.array([0, 0, 2**63, 1], dtype=np.uint64)}, ["row 3", "whole number"]),
    "null ordering": ({"ordering": ["a", None, "b", "c"]}, ["row 2", "ordering", "name"]),
    "lists": ({"test_accuracy_pp": [[1], [2], [3], [4]]}, ["row 1", "number"]),
    "dates": ({"test_accuracy_pp": pd.to_datetime(["2020-01-01"] * 4)}, ["row 1", "number"]),
}


@pytest.mark.parametrize("case", PARQUET)
def test_bad_parquet(case: str, refused: Check) -> None:
    content, words = PARQUET[case]
    Path("mine.yaml").write_text(as_yaml({"claims": [one()]}), encoding="utf-8")
    if isinstance(content, bytes):
        Path("runs.parquet").write_bytes(content)
    else:
        pd.read_csv(io.StringIO(RUNS)).assign(**content).to_parquet("runs.parquet")  # type: ignore[arg-type]
    refused(lambda: load_inputs("runs.parquet", "mine.yaml"), ["runs.parquet", *words])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (".", ["expected a .csv"]),
        ("runs.xlsx", ["expected a .csv"]),
        ("folder.csv", ["folder.csv", "cannot be read"]),
        ("nowhere.csv", ["nowhere.csv: no such file"]),
        ("a\0b.csv", ["cannot be read"]),
        ("x" * 5000 + ".csv", ["cannot be read", "too long"]),
    ],
)
def test_what_is_no_table_at_all(path: str, words: list[str], refused: Check) -> None:
    Path("folder.csv").mkdir()
    Path("mine.yaml").write_text(as_yaml({"claims": [one()]}), encoding="utf-8")
    refused(lambda: load_inputs(path, "mine.yaml"), words)


# Records


def altered(line: str, **changes: object) -> str:
    """A record with other content and the checksum that belongs to it."""
    content = json.loads(line) | changes
    content.pop("checksum")
    checksum = records._checksum(json.dumps(content))
    return json.dumps(content | {"checksum": checksum}) + "\n"


RECORDS: dict[str, tuple[Callable[[str], str | bytes], list[str]]] = {
    "empty": (lambda line: "", ["records are missing"]),
    "a record too few": (lambda line: line, ["records are missing"]),
    "binary": (lambda line: b"\xff\xfe\0", ["unreadable records"]),
    "half": (lambda line: line[: len(line) // 2], ["line 1", "truncated"]),
    "altered": (lambda line: line.replace('"seed": 0', '"seed": 1'), ["line 1", "altered"]),
    "twice": (lambda line: line * 2, ["line 2", "a second record"]),
    "null": (lambda line: "null\n", ["line 1", "no record of format"]),
    "a list": (lambda line: "[]\n", ["line 1", "no record of format"]),
    "deep": (lambda line: "[" * 100_000, ["line 1", "damaged record"]),
    "5,000 digits": (lambda line: "9" * 5000, ["line 1", "damaged record"]),
    "of tomorrow": (lambda line: altered(line, format=2), ["line 1", "no record of format"]),
    "of another configuration": (
        lambda line: altered(line, config_hash="0" * 16),
        ["line 1", "another configuration"],
    ),
    "of other code": (lambda line: altered(line, code_hash="0" * 16), ["line 1", "other code"]),
    "of no run": (
        lambda line: altered(line, run=json.loads(line)["run"] | {"seed": 99}),
        ["line 1", "a foreign record"],
    ),
    "with a key too many": (lambda line: altered(line, extra=1), ["line 1", "damaged record"]),
    "with a run of text": (lambda line: altered(line, run="$(touch x)"), ["line 1", "damaged"]),
}


@pytest.mark.parametrize("case", RECORDS)
def test_bad_record(case: str, refused: Check) -> None:
    spoil, words = RECORDS[case]
    study = load_study(REPOSITORY / "studies/quick.yaml", {"seeds": 2})
    job = study.jobs()[0]
    content = spoil(record(study, job.runs[0]).as_line())
    path = Path(f"{job.name}.jsonl")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: records.collect(study, Path()), [path.name, "delete", *words])


# What the workflow made, and a disk or a hand spoilt

WAY_OUT = "delete it, and the same command makes it again"
MADE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "emptied study": ("study.yaml", load_effective),
    "half a study": ("study.yaml", load_effective),
    "half a table": ("tables/runs.parquet", read_runs),
    "half a table of curves": ("tables/curves.parquet", read_curves),
    "half the verdicts": ("analysis/verdicts.json", lambda path: summary(path.parents[1])),
    "emptied verdicts": ("analysis/verdicts.json", lambda path: summary(path.parents[1])),
    "another JSON": ("analysis/verdicts.json", lambda path: summary(path.parents[1])),
}


@pytest.mark.parametrize("case", MADE)
def test_damaged_file_that_was_made_says_the_way_out(case: str, refused: Check) -> None:
    name, read = MADE[case]
    path = Path("results/quick", name)
    for file in (path, path.parents[len(Path(name).parts) - 1] / "report/report.html"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    whole = {".yaml": STUDY, ".json": '{"study": "quick", "runs": {}}'}.get(path.suffix, "PAR1")
    half = "" if "emptied" in case else whole[: None if "another" in case else len(whole) // 2]
    path.write_text(half, encoding="utf-8")
    refused(lambda: read(path), [str(path), WAY_OUT])


# Command lines: what stands behind `--config`, and behind `make report KEY=value`

CONFIGS: dict[str, tuple[dict[str, object], list[str]]] = {
    "no such study": ({"study": "nope"}, ["studies/nope.yaml: no such file"]),
    "study that climbs": ({"study": "../../../etc/passwd"}, ["etc/passwd"]),
    "study as command": ({"study": "$(touch x)"}, ["studies/$(touch x).yaml: no such file"]),
    "study as script": ({"study": "<script>"}, ["<script>.yaml: no such file"]),
    "study with a NUL": ({"study": "a\0b"}, ["cannot be read"]),
    "long study": ({"study": "a" * 100_000}, ["aaa"]),
    "study as folder": ({"study": "./"}, ["cannot be read"]),
    "name": ({"name": "x"}, ["name", "cannot be overridden"]),
    "unknown key": ({"layers": 3}, ["unknown key 'layers'", " kernel,", " seeds,", " lang)"]),
    "command as key": ({"$(touch x)": 3}, ["unknown key '$(touch x)'"]),
    "long key": ({"k" * 5000: 3}, ["unknown key 'kkk"]),
    "number as key": ({3: 4}, ["3"]),
    "a key nearly": ({"seed": 3}, ["unknown key 'seed' (did you mean seeds?)"]),
    "a recipe's key nearly": ({"epoch": 3}, ["unknown key 'epoch' (did you mean epochs?)"]),
    "seeds in words": (
        {"seeds": "x"},
        ["the command line (over ", 'quick.yaml): seeds is "x"', "a whole number, or a list of"],
    ),
    "seeds below 0": ({"seeds": "-1"}, ["seeds is -1"]),
    "seeds without end": ({"seeds": "9" * 5000}, ["seeds is"]),
    "seeds that are no number": ({"seeds": "nan"}, ["seeds is NaN"]),
    "seeds of nothing": ({"seeds": ","}, ["seeds is []"]),
    "depths in words": ({"depths": "two"}, ['depths[0] is "two"']),
    "no depths": ({"depths": "[]"}, ["depths is []"]),
    "half a mapping": ({"variants": "{a: "}, ["--config", "no valid YAML"]),
    "aliases": ({"variants": "&a [*a]"}, ["--config", "aliases"]),
    "brackets": ({"variants": "[" * 50_000}, ["--config", "nested too deeply"]),
    "recipe as text": ({"recipe": "x"}, ["recipe is 'x'", "mapping"]),
    "recipe as list": ({"recipe": [1]}, ["recipe is '[1]'", "mapping"]),
    "width in words": ({"recipe": "{width: wide}"}, ['width is "wide"', "a whole number"]),
    "rate without end": ({"learning_rate": "inf"}, ["learning_rate is Infinity"]),
    "rate that is none": ({"learning_rate": "nan"}, ["learning_rate is NaN"]),
    "10 MB of title": ({"title": "a" * 10_000_000}, ["title is", "at most 200"]),
    "title of two lines": ({"title": "a\nb"}, ["title is", "text like"]),
    "title that Snakemake splits": (
        {"title": {"A": "b"}},
        ["title is {'A': 'b'}", "in a study's file"],
    ),
    "claims that Snakemake splits": ({"claims": ["a"]}, ["claims is ['a']", "in a study's file"]),
    "data set": ({"datasets": "minst"}, ['datasets[0] is "minst"']),
    "orderings": ({"orderings": "bn,conv"}, ["'bn'", "expected conv"]),
    "activation twice": ({"activations": "relu,relu"}, ["twice"]),
    "threshold": ({"thresholds": "101"}, ["thresholds[0] is 101"]),
    "claims nowhere": ({"claims": "nope.yaml"}, ["nope.yaml: no such file"]),
    "claims as folder": ({"claims": "."}, ["cannot be read"]),
    "long claims": ({"claims": "x" * 5000}, ["cannot be read"]),
    "maybe": ({"allow_missing": "maybe"}, ["allow_missing is 'maybe'", "expected"]),
    "GPUs below 0": ({"gpu": "-1"}, ["gpu is -1", "expected"]),
    "half a GPU": ({"gpu": "1.5"}, ["gpu is 1.5", "expected"]),
    "no number of GPUs": ({"gpu": "nan"}, ["gpu is nan", "expected"]),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_command_line(case: str, refused: Check) -> None:
    config, words = CONFIGS[case]

    def read() -> None:
        quick = str(LIBRARY / "studies/quick.yaml")
        _, _, study = workflow.configured_study({"study": quick} | config)
        workflow.check_claims(study.claims if "claims" in config else str(LIBRARY / study.claims))
        workflow.setting(config, "allow_missing")
        workflow.setting(config, "gpu", 1)

    refused(read, words)


@pytest.mark.parametrize(
    "text", ["seeds", "seeds=[", "variants=&a [*a]", "seeds=" + "9" * 5000, "a=" + "[" * 50_000]
)
def test_bad_override_of_a_script(text: str, refused: Check) -> None:
    refused(lambda: parse_override(text), ["--set"])


@pytest.mark.parametrize("name", ["folder:/nowhere", "folder:$(touch x)", "folder:a\0"])
def test_bad_folder_of_images(name: str, refused: Check) -> None:
    refused(lambda: data.prepare(name), ["no such folder"])
    refused(lambda: workflow.check_folders(["digits", name]), [name[:8], "no such folder"])


def test_lack_of_memory_says_what_to_lower(refused: Check) -> None:
    def on_a_cpu() -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"
        )

    def on_a_gpu() -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def in_python() -> None:
        raise MemoryError

    for lacking in (on_a_cpu, on_a_gpu, in_python):
        refused(lacking, ["out of memory", "lower BATCH_SIZE", "CORES"])


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.EIO, "disk is sound"),
        (errno.ENOENT, "another path"),
        (errno.EEXIST, "another path"),
        (errno.ENOSPC, "free space"),
    ],
)
def test_what_a_file_system_says_is_one_line(number: int, words: str, refused: Check) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "from", None, "to")

    refused(fail, [f"to: {os.strerror(number)}", words])


def test_what_the_locale_cannot_print_is_escaped() -> None:
    program = "from bnorder.errors import exit_cleanly; exit_cleanly(lambda: print('±0.2 pp'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"\\xb10.2 pp\n"


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_to_its_end_ends_in_silence(
    lines: int, stream: str, unbuffered: str
) -> None:
    program = "import sys; from bnorder.errors import exit_cleanly; sys.stdin.read(); "
    program += f"exit_cleanly(lambda: [print(n, file=sys.{stream}) for n in range({lines})])"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as started:
        read = {"stdout": started.stdout, "stderr": started.stderr}
        pipe, other = read.pop(stream), *read.values()
        assert started.stdin and pipe and other
        pipe.close()
        started.stdin.close()
        assert other.read() == b""
        assert started.wait() == 141


def test_another_pipe_that_breaks_keeps_its_traceback() -> None:
    def fail() -> None:
        raise BrokenPipeError(errno.EPIPE, "of a worker")

    with pytest.raises(BrokenPipeError, match="of a worker"):
        exit_cleanly(fail)


def test_process_that_the_kernel_ended_is_said(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 3\n")
    assert workflow.memory_kills(tmp_path / "vmstat") == 3
    assert workflow.memory_kills(tmp_path / "none") == 0
    assert workflow.short_of_memory(3, 3) == []
    (said,) = workflow.short_of_memory(3, 4)  # another program's, perhaps
    assert "error" not in said and "Perhaps" in said and "if it was one of these jobs" in said
    assert "lower BATCH_SIZE" in said


# Generated from the schemas

TEXTS = st.text(max_size=30) | st.sampled_from(
    ["$(touch x)", "../../x", "<script>", "a\n", "", "null", "1e400", "&a [*a]", "\ud800", "-rf"]
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.integers(10**30, 10**31)
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
QUICKLY = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def near(rules: dict[str, object]) -> st.SearchStrategy[object]:
    """Values at and about the limits that a schema sets for one key."""
    limits = [rules[key] for key in rules if "imum" in key]
    edges = [limit + step for limit in limits for step in (-1, 0, 1)]  # type: ignore[operator]
    values: list[object] = [*edges, *rules.get("enum", []), None]  # type: ignore[misc]
    single = st.sampled_from(values)
    return st.lists(near(rules["items"]), max_size=3) | single if "items" in rules else single  # type: ignore[arg-type]


@st.composite
def any_study(draw: st.DrawFn) -> dict[str, object]:
    """A study with one to three keys of the schema given values near its limits, or anything."""
    keys = study_schema()["properties"]
    study = yaml.safe_load(STUDY)
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(sorted(keys)))
        rules, place = keys[key], study
        if key == "recipe" and draw(st.booleans()):
            rules, place = rules["properties"], study.setdefault("recipe", {})
            key = draw(st.sampled_from(sorted(rules)))
            rules = rules[key]
        if isinstance(place, dict):
            place[key] = draw(near(rules) | ANYTHING)
    return study


@QUICKLY
@given(any_study())
def test_any_study_loads_or_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, study: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("any") / "bad.yaml"
    path.write_text(as_yaml(study), encoding="utf-8", errors="surrogatepass")
    try:
        loaded = load_study(path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert 0 < len(loaded.arms()) * len(loaded.seeds) <= 1_000_000
        assert load_again(path.with_name("again.yaml"), loaded.as_yaml()) == loaded


def load_again(path: Path, text: str) -> object:
    path.write_text(text, encoding="utf-8")
    return load_study(path)


@st.composite
def any_claims(draw: st.DrawFn) -> dict[str, object]:
    keys = ["id", "family", "who", "sentence", "type", "measure", "margin", "threshold"]
    keys += ["two_sided", "where", "terms", "parts", "$(touch x)"]
    changes = {draw(st.sampled_from(keys)): draw(ANYTHING) for _ in range(draw(st.integers(1, 2)))}
    claims: dict[str, object] = {"claims": [{**one(), **changes}]}
    if draw(st.booleans()):
        claims[draw(st.sampled_from(["source", "headline", "notes", "claims"]))] = draw(ANYTHING)
    return claims


@QUICKLY
@given(any_claims())
def test_any_claims_load_or_are_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, claims: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("any") / "bad.yaml"
    path.write_text(as_yaml(claims), encoding="utf-8", errors="surrogatepass")
    try:
        assert load_claims(path).claims
    except UserError as error:
        assert str(path) in str(error)


@QUICKLY
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_any_file_is_no_study_and_says_so(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "bad.yaml"
    path.write_bytes(content)
    for read in (load_study, load_claims):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(path) in str(caught.value)


# The real command lines

QUICK = str(REPOSITORY / "report/published/quick")
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "study": (["study.py", "--study", "bad.yaml", "--out", "x"], ["bad.yaml", "depths[0] is NaN"]),
    "collect": (
        ["collect.py", "--study", "bad.yaml", "--records", ".", "--out", "x"],
        ["bad.yaml"],
    ),
    "train": (
        ["train.py", "--study", "bad.yaml", "--job", "j", "--data", "d", "--out", "x"],
        ["bad.yaml"],
    ),
    "data": (["data.py", "--dataset", "folder:$(touch x)", "--out", "x"], ["no such folder"]),
    "no data set": (["data.py", "--dataset", "foo", "--out", "x"], ["'foo'", "mnist|", "folder:"]),
    "a folder as output": (["archive.py", "--out", "."], [".: ", "name another path"]),
    "a file as the folder of output": (
        ["collect.py", "--study", f"{QUICK}/study.yaml", "--records", QUICK, "--out", "bad.yaml"],
        ["bad.yaml", "name another path"],
    ),
    "analyse": (
        ["analyse.py", "--runs", "runs.csv", "--claims", "mine.yaml", "--out", "x"],
        ["runs.csv", "row 1", "'<script>'"],
    ),
    "render": (
        ["render.py", "--study", "bad.yaml", "--tables", ".", "--analysis", ".", "--out", "x"],
        ["bad.yaml"],
    ),
    "summary": (["summary.py", "study=bad.yaml"], ["bad.yaml"]),
    "a bare word": (["crate.py", "article"], ["'article'", "expected study=VALUE"]),
    "a key that is not taken": (["confirm.py", "seeds=3"], ["'seeds=3'", "expected study=VALUE"]),
    "no runs": (["confirm.py", "--runs", "0"], ["--runs is 0", "at least 1"]),
    "no workers": (["confirm.py", "--workers", "0"], ["--workers is 0", "at least 1"]),
    "publish": (["publish.py", "article"], ["'article'", "expected KEY=VALUE"]),
    "nothing to publish": (
        ["publish.py", f"study={REPOSITORY}/studies/quick.yaml", "depths=2", "title=a b"],
        ["no records", f"make report STUDY={REPOSITORY}/studies/quick.yaml DEPTHS=2 TITLE='a b'"],
    ),
    "restore": (["restore.py", "article"], ["'article'", "expected KEY=VALUE"]),
}


@pytest.mark.parametrize("script", COMMANDS)
def test_bad_input_of_a_script(script: str, tmp_path: Path) -> None:
    words, expected = COMMANDS[script]
    (tmp_path / "bad.yaml").write_text(instead("[2]", "[.nan]"))
    (tmp_path / "mine.yaml").write_text(as_yaml({"claims": [one()]}))
    (tmp_path / "runs.csv").write_text("ordering,seed,test_accuracy_pp\nbn-act-conv,<script>,1\n")
    before = written(tmp_path)
    done = run(tmp_path, sys.executable, str(REPOSITORY / "scripts" / words[0]), *words[1:])
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert [word for word in expected if word not in line] == [], line
    assert written(tmp_path) == before


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_names_from_files_stay_text_in_shells_and_below_results(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The workflow runs on a study whose every name is a command, and none of them is run."""
    name = "$(touch hacked) '; touch hacked; `touch hacked` \"&& touch hacked"
    images = tmp_path / name  # without a class
    images.mkdir()
    hostile = yaml.safe_load(STUDY) | {
        "title": f"<script>{name}</script>",
        "datasets": [f"folder:{images}"],
        "data_dirs": [f"../../{name}"],
    }
    path = project / "studies" / f"{name.replace('/', '')}.yaml"
    path.write_text(as_yaml(hostile), encoding="utf-8")
    before = set(project.rglob("*"))
    command = [sys.executable, "-m", "snakemake", "--cores=1", "--until", "study", "data"]
    config = [f"study={path}", f"title={name}"]
    done = subprocess.run(
        [*command, "--config", *config],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "has 0 class folders; expected two" in said, said
    assert "/logs/ (of data sets: results/data/logs/)." in said
    assert "Traceback" not in said
    new = {str(p.relative_to(project)) for p in set(project.rglob("*")) - before}
    assert not [p for p in new if not p.startswith(("results", ".snakemake"))]
    assert not list(project.rglob("hacked"))
    assert list(tmp_path.rglob("*")) == [images]
    effective = list(project.glob("results/tiny+*/study.yaml"))
    assert len(effective) == 1
    assert yaml.safe_load(effective[0].read_text())["title"] == name
