"""The documentation: up to date with what it is made from, and true when followed."""

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from html import unescape
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY, copy_project
from made_up_records import made_up_records
from verdict_numbers import assert_same_verdicts

from bnorder import __version__
from bnorder.claims import load_claims
from bnorder.language.names import ordering_words
from bnorder.language.printing import number as printed
from bnorder.publishing import confirmation, published
from bnorder.publishing.pages import pages, published_page, replace_block
from bnorder.publishing.published import read_tables
from bnorder.publishing.readme import (
    Published,
    answer,
    bn_first_minus_act_first,
    costs,
    elsewhere,
    in_short,
    published_runs,
    read_published,
    relu_alone,
    replicated,
)
from bnorder.records import write_selection, write_tables
from bnorder.statistics.analysis import analyse, load_inputs
from bnorder.study import load_study
from bnorder.workflow import check_claims, configured_study

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
PUBLISHED = published.published_studies(REPOSITORY / published.PUBLISHED)
names = [path.name for path in PUBLISHED]
CONFIRMED = sorted((REPOSITORY / confirmation.FOLDER).glob("*.csv"))


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


# What is made is as it would be made now


def test_pages_are_up_to_date() -> None:
    for path, text in pages(REPOSITORY).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make pages`"


def test_an_unfinished_study_says_so_where_its_answer_stands() -> None:
    first = read_published(REPOSITORY)[0]
    whole = replace(first, manifest=dict(first.manifest) | {"complete": True})
    assert "It is not finished" not in answer([whole])
    runs = first.manifest["runs"] | {"planned": 300, "published": 123}
    seeds = {"planned": list(range(10)), "reported": [0, 1, 2]}
    changed = dict(first.manifest) | {"complete": False, "runs": runs, "seeds": seeds}
    said = answer([replace(first, manifest=changed)])
    assert "123 of 300 runs are there, and 3 of 10 seeds are whole" in said


def test_the_claims_of_all_studies_stand_side_by_side() -> None:
    studies = read_published(REPOSITORY)
    lines = published_page(studies).splitlines()
    header = next(line for line in lines if line.startswith("| | `"))
    assert re.findall(r"`(\w+)`", header) == [p.folder.name for p in studies]
    body = lines[lines.index(header) + 2 :]
    rows = {
        line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in body[:18]
    }
    assert list(rows) == [claim["id"] for claim in studies[0].claims]
    for number, study in enumerate(studies):
        for claim in study.claims:
            tested = claim["verdict"] != "not tested"
            said = claim["verdict"] + "*" * claim["too_small"] if tested else "–"
            assert rows[claim["id"]][number] == said


def test_the_headline_of_every_study_stands_in_a_row_with_its_reports() -> None:
    studies = read_published(REPOSITORY)
    rows = [line for line in answer(studies).splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [p.folder.name for p in studies]
    for row, study in zip(rows, studies, strict=True):
        headline = study.claim("T5")
        assert headline and f"**{headline['verdict']}" in row and headline["short"] in row
        assert ("too small to matter" in row) == headline["too_small"]
        assert f"| {study.manifest['runs']['published']:,} |" in row
        assert f"report/published/{study.folder.name}/report.pdf" in row


def text_of_report(study: str) -> str:
    page = (REPOSITORY / published.PUBLISHED / study / "report.html").read_text("utf-8")
    page = re.sub(r"<svg.*?</svg>", "", page, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def readme_says(*parts: str) -> None:
    said = " ".join((REPOSITORY / "README.md").read_text(encoding="utf-8").split())
    assert [part for part in parts if part not in said] == []


def test_what_readme_says_of_strides_stands_in_the_published_report() -> None:
    readme_says("(−0.043 pp [−0.14, 0.054], p = .355)")
    assert "−0.043 [ −0.14 , +0.054 ] .355 3 of 10" in text_of_report("controls_stride")


def test_the_networks_with_strides_were_trained_in_two_published_studies() -> None:
    readme_says("120 of its 140 networks are those of the variant with strides")
    readme_says("(T6 in `mechanism_relu`, and with strides in `controls_stride`)")
    folders = [REPOSITORY / published.PUBLISHED / n for n in ("mechanism_relu", "controls_stride")]
    bare, variants = map(published.published_study, folders)
    assert bare.recipe_for("base") == variants.recipe_for("stride")
    ids = [{record.run.id for record in read_tables(folder)} for folder in folders]
    both = {run.replace(".base.", ".stride.") for run in ids[0]} & ids[1]
    assert (len(both), len(ids[0])) == (120, 140)
    studies = {p.folder.name: p for p in read_published(REPOSITORY)}
    there = studies["mechanism_relu"].claim("T6")
    assert there and there["verdict"] == "supported"
    text = text_of_report("controls_stride")
    assert "T6 , ≈ negligible on the study's own recipe: ? inconclusive under “Down-" in text


def test_what_readme_says_of_the_inside_of_the_network_is_so() -> None:
    readme_says("(T3 is supported)", "(T2 is contradicted)", "T4 is inconclusive. T7 needs other")
    study = next(p for p in read_published(REPOSITORY) if p.folder.name == "mechanism_relu")
    found = {name: study.claim(name) for name in ("T2", "T3", "T4", "T5", "T7")}
    assert all(found.values())
    words = {name: claim["verdict"] for name, claim in found.items() if claim}
    untold = {"T7": "not tested", "T5": "contradicted"}
    assert words == {"T2": "contradicted", "T3": "supported", "T4": "inconclusive"} | untold
    parts = [part["verdict"] for part in (found["T2"] or {})["parts"]]
    assert parts == ["supported", "contradicted"]  # at the start, after 100 steps


def test_the_same_runs_get_two_verdicts_by_holm_s_correction() -> None:
    readme_says("(E7 in `article` and `controls_rate`)")
    both = [p for p in read_published(REPOSITORY) if p.folder.name in ("article", "controls_rate")]
    claims = [p.claim("E7") for p in both]
    assert all(claims) and len({claim["p"] for claim in claims if claim}) == 1
    assert len({claim["verdict"] for claim in claims if claim}) == 2


def test_what_readme_says_of_the_studies_that_contradict_is_so() -> None:
    studies = {p.folder.name: p for p in read_published(REPOSITORY)}
    seeds = {n: p.manifest["seeds"]["reported"] for n, p in studies.items()}
    contradict = []
    for name, p in studies.items():
        claim = p.claim("T5")
        if claim and claim["verdict"] == "contradicted" and "mnist" in p.manifest["data"]:
            contradict.append(name)
            assert published.published_study(p.folder).activations == ("relu",)
            assert seeds[name] == seeds["article"]
    parts = ["controls_pixels", "controls_rate", "controls_stride"]
    assert sorted(contradict) == [*parts, "mechanism_relu"]
    assert not set(seeds["replication"]) & set(seeds["article"])
    runs = {n: {r.run.id for r in read_tables(p.folder)} for n, p in studies.items()}
    base = {run for run in runs["controls_stride"] if ".base." in run}
    assert (len(base & runs["article"]), len(base - runs["article"])) == (80, 40)
    same = [{run for run in runs[name] if ".base." in run} for name in parts[:2]]
    assert same[0] <= same[1] & runs["article"] and len(same[0]) == 40
    readme_says("80 of `quick`'s runs are `controls_digits`' as well")
    quick, controls = (
        {(r.run.id, r.config_hash) for r in read_tables(studies[n].folder)}
        for n in ("quick", "controls_digits")
    )
    assert len(quick & controls) == 80


def test_the_difference_with_relu_alone_is_that_of_the_headline_claim() -> None:
    studies = read_published(REPOSITORY)
    main = next(p for p in studies if p.folder.name == "article")
    headline = main.claim("T5")
    assert headline
    runs = published_runs(main.folder)
    everything = bn_first_minus_act_first(runs)
    np.testing.assert_allclose(everything, headline["parts"][0]["values"], atol=1e-9)
    relu = printed(float(bn_first_minus_act_first(runs[runs["activation"] == "relu"]).mean()))
    assert f"With ReLU alone the difference of T5 is {relu} pp [" in answer(studies)
    assert relu_alone([main]) == []


def test_what_readme_says_of_the_learning_rate_stands_in_the_published_report() -> None:
    readme_says(
        "+0.13 pp [0.085, 0.18], p = .008 after Holm", "(+0.028 pp [−0.035, 0.091], p = .355)"
    )
    text = text_of_report("controls_rate")
    differ = re.search(r"After Holm these differ from the study's own recipe: ([^.]*)", text)
    assert differ and "BN first − activation first under “Learning rate" in differ[1]
    assert "+0.13 [ +0.085 , +0.18 ] .008" in text and "+0.028 [ −0.035 , +0.091 ] .355" in text


def test_the_caveats_of_the_answer_stand_below_its_verdicts() -> None:
    studies = read_published(REPOSITORY)
    assert studies[0].verdicts["caveats"]
    for caveat in studies[0].verdicts["caveats"]:
        assert f"\n- {caveat}\n" in answer(studies)


def test_the_check_of_the_method_stands_beside_the_answer_once_it_is_published() -> None:
    studies = read_published(REPOSITORY)
    (check,) = (p for p in studies if p.folder.name == "sanity")
    headline = check.claim("T5")
    said = answer(studies)
    assert headline and f"comes to {headline['short']}, {headline['verdict']}." in said
    # Six orders without an activation are two networks; of both "activations" the same.
    runs = len(read_tables(check.folder))
    assert f"of its {runs} runs, {runs // 6} networks are left" in said
    assert "all runs of each are the same to the last test image" in said
    assert "check of the method" not in answer([p for p in studies if p is not check])


def made_again(
    study: Published, shift: float, name: str = "replication", **changes: str
) -> Published:
    """A published study as if run again: T5's values moved, some claims with another verdict."""
    claims = [dict(c) | {"verdict": changes.get(c["id"], c["verdict"])} for c in study.claims]
    headline = next(c for c in claims if c["id"] == "T5")
    part = headline["parts"][0]
    headline["parts"] = [part | {"values": [value + shift for value in part["values"]]}]
    folder = study.folder.with_name(name)
    return replace(study, folder=folder, verdicts=dict(study.verdicts) | {"verdicts": claims})


def test_the_same_study_with_other_seeds_is_held_beside_the_answer() -> None:
    study = next(p for p in read_published(REPOSITORY) if p.folder.name == "article")
    again = made_again(study, 0.01, E2="inconclusive", T2="supported")
    said, _ = replicated([study, again])
    tested = sum(claim["verdict"] != "not tested" for claim in study.claims)
    assert f"Of {tested} claims, {tested - 1} got the same verdict again; not E2" in said
    assert "E2 (supported, then inconclusive)." in said  # T2, which one of them cannot test, is out
    values = study.claim("T5")["parts"][0]["values"]
    mean = np.mean([*values, *(value + 0.01 for value in values)])
    assert f"over all 20 seeds it is {printed(float(mean))} pp [" in said
    assert replicated([study]) == []


def test_the_same_study_on_other_images_is_held_beside_the_answer() -> None:
    article = next(p for p in read_published(REPOSITORY) if p.folder.name == "article")
    other = made_again(article, 0.01, "fashion", T6="supported")
    other = replace(other, manifest=dict(other.manifest) | {"data": {"fashion_mnist": {}}})
    said, _ = elsewhere([article, other])
    assert said.startswith("`fashion` is the same study on Fashion-MNIST, written down before")
    assert "not T6 (negligible, then supported)." in said and "T8" not in said
    asked = article.claim("T8")
    assert asked
    part = {"text": "Order by data set: what came out."}
    answered = asked | {"verdict": "supported", "parts": [part]}
    claims = [answered if c["id"] == "T8" else c for c in article.claims]
    both = replace(
        article,
        folder=article.folder.with_name("datasets_fashion"),
        verdicts=dict(article.verdicts) | {"verdicts": claims},
    )
    said, _ = elsewhere([article, other, both])
    assert said.endswith("is supported there: Order by data set: what came out.")
    assert elsewhere([article, both]) == elsewhere([other]) == []


def test_what_a_builder_wants_to_know_opens_the_answer() -> None:
    studies = read_published(REPOSITORY)
    pair = [p for p in studies if p.folder.name in ("article", "replication")]
    said = in_short(studies)
    runs = pd.concat([published_runs(p.folder) for p in pair])
    mean = runs.groupby("ordering")["test_accuracy_pp"].mean()
    rows = [line.split(" | ") for line in said if line.startswith("| ") and "--- |" not in line]
    head, begins, ends, shallow, _, best = rows[:6]
    assert head[1] == "MNIST, 20 seeds"
    first = mean["conv-bn-act"] - mean["conv-act-bn"]
    last = mean["bn-act-conv"] - mean["act-bn-conv"]
    for row, value in ((begins, first), (ends, last)):
        assert row[1].startswith(f"{printed(float(value))} [")
    two = runs[runs["depth"] == 2].groupby("ordering")["test_accuracy_pp"].mean()
    first, last = two[["conv-bn-act", "conv-act-bn"]], two[["bn-act-conv", "act-bn-conv"]]
    assert shallow[1].startswith(f"{printed(float(first.mean() - last.mean()))} [")
    assert best[0] == "| highest mean"
    assert best[1] == f"{ordering_words(str(mean.idxmax()))}, {mean.max():.2f} %"
    assert answer(studies).startswith("\n".join(said))
    assert in_short(pair[:1]) == []
    verdicts = [dict(c) | {"verdict": "supported"} for c in pair[1].claims]
    shown = replace(pair[1], verdicts=dict(pair[1].verdicts) | {"verdicts": verdicts})
    assert in_short([pair[0], shown]) == []


def test_what_the_pixels_do_is_said_where_it_was_shown() -> None:
    studies = read_published(REPOSITORY)
    (pixels,) = (p for p in studies if p.folder.name == "fashion_pixels")
    runs = published_runs(pixels.folder)
    by_seed = runs.groupby(["variant", "ordering"])["test_accuracy_pp"].mean().unstack()
    lag = by_seed["bn-act-conv"] - by_seed["act-bn-conv"]
    (line,) = (line for line in in_short(studies) if "the pixels' doing" in line)
    for variant in ("base", "unit_pixels", "shared_stem"):
        assert f"{printed(float(lag[variant]))} pp [" in line
    # All four orders: the sides, and what a block's beginning gains, with the change of both.
    uncut = next(p for p in studies if p.folder.name == "fashion_unit")
    runs = published_runs(uncut.folder)
    means = {v: bn_first_minus_act_first(of).mean() for v, of in runs.groupby("variant")}
    change = means["unit_pixels"] - means["base"]
    row = next(line for line in in_short(studies) if line.startswith("| BN before − after (T5), F"))
    assert re.search(rf"\| {printed(float(change))} \[\S+, \S+\] \|$", row)
    assert f"is {printed(float(means['unit_pixels']))} pp [" in line
    # docs/compare.md says that our orders lean opposite ways there.
    fashion = next(p for p in studies if p.folder.name == "fashion")
    gaps = {gap["first"]: gap["mean"] for gap in fashion.verdicts["opposite"]}
    assert gaps["conv-bn-act"] < 0 < gaps["bn-act-conv"]
    # The report of the study tests each change from its own recipe.
    text = text_of_report("fashion_pixels")
    assert re.search(r"After Holm these differ from the study's own recipe: .* and .*\.", text)


def test_a_claim_that_the_answer_cannot_test_says_where_it_was_tested() -> None:
    studies = read_published(REPOSITORY)
    said = answer(studies)
    for name in ("T2", "T3", "T4", "T7", "T8"):
        (row,) = (line for line in said.splitlines() if line.startswith(f"| {name} |"))
        where, verdict = re.findall(r"in `(\w+)` .*: ([\w, ]+) \|", row)[0]
        claim = next(p for p in studies if p.folder.name == where).claim(name)
        assert claim and claim["verdict"] in verdict


def test_dated_changes_stand_beside_the_answer_where_their_claim_was_tested() -> None:
    main = read_published(REPOSITORY)[0]
    assert {note["claim"] for note in main.verdicts["notes"]} == {"E6", "E3"}
    untested = [dict(c) | {"verdict": "not tested"} for c in main.claims if c["id"] == "E3"]
    others = [c for c in main.claims if c["id"] != "E3"]
    without = replace(main, verdicts=dict(main.verdicts) | {"verdicts": [*others, *untested]})
    for study, dated in ((main, 2), (without, 1)):
        assert answer([study]).count("\n- 2026-11-2") == dated


def test_parts_that_came_out_otherwise_are_told_apart_in_the_table() -> None:
    (row,) = (line for line in answer(read_published(REPOSITORY)).splitlines() if "| T1 |" in line)
    assert re.search(
        r"for all: faster \+\S+ pp, supported; more accurate \+\S+ pp, negligible", row
    )


def test_costs_are_shared_among_cores_job_by_job(tmp_path: Path) -> None:
    elsewhere = tmp_path / "report" / "published" / "article"
    first = replace(read_published(REPOSITORY)[0], folder=elsewhere)
    seconds = {"measured_processor_seconds": 3600.0, "measured_job_seconds": 4000.0}
    cost = {"measured_runs": 50} | seconds
    changed = dict(first.manifest) | {"jobs": 3, "cost": cost, "trained_with": []}
    changed["runs"] = first.manifest["runs"] | {"planned": 150}
    row = costs([replace(first, manifest=changed)]).splitlines()[2]
    assert "| 150 | 3.0 h | 2.0 h | 60 min | not measured | " in row
    assert row.endswith("; 50 runs measured |")
    sized = changed | {"cost": cost | {"measured_jobs": 120}}  # larger jobs than were measured
    assert "| 150 | 3.3 h |" in costs([replace(first, manifest=sized)])
    # What Snakemake's readings miss is added, and no more than the clock has.
    seconds |= {"measured_processor_seconds": 1.0, "measured_job_seconds": 11.0}
    for by_the_clock, said in ((11.0, "33 s"), (600.0, "48 s")):
        seconds["measured_job_seconds"] = by_the_clock
        short = changed | {"cost": {"measured_runs": 50} | seconds}
        assert f"| 150 | {said} |" in costs([replace(first, manifest=short)])


def test_what_a_study_takes_on_a_gpu_is_measured_by_its_runs_or_by_the_benchmark(
    tmp_path: Path,
) -> None:
    elsewhere = tmp_path / "report" / "published" / "article"
    first = replace(read_published(REPOSITORY)[0], folder=elsewhere)
    table = tmp_path / "benchmarks" / "results" / "gpu" / "article.csv"
    table.parent.mkdir(parents=True)
    table.write_text("wall_seconds,device\n58.7,A GPU\n")
    assert "| 59 s (A GPU) |" in costs([first])
    made_by = [{"device": "NVIDIA H100", "runs": 150, "run_seconds": 20.0}]
    trained = dict(first.manifest) | {"trained_with": made_by}
    assert "| 40 s | NVIDIA H100 |" in costs([replace(first, manifest=trained)])


def test_a_block_without_its_markers_is_refused() -> None:
    with pytest.raises(Exception, match="expected the markers"):
        replace_block("no markers", "answer", "text")


@pytest.mark.parametrize("folder", PUBLISHED, ids=names)
def test_published_files_are_those_of_their_sums_and_small(folder: Path) -> None:
    published.verify(folder)
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert listed == {path.relative_to(folder).as_posix() for path in files} - {"SHA256SUMS"}
    probed = (folder / published.PROBES).exists()
    assert sum(path.stat().st_size for path in files) < (7e6 if probed else 3e6)


@pytest.mark.parametrize("folder", PUBLISHED, ids=names)
def test_a_table_that_a_published_page_names_is_published(folder: Path) -> None:
    for named in tables_named(folder):
        assert (folder / named).is_file()


def test_a_published_page_names_a_table_beside_it() -> None:
    assert any(map(tables_named, PUBLISHED))


def tables_named(folder: Path) -> set[str]:
    page = (folder / "report.html").read_text(encoding="utf-8")
    return set(re.findall(r"Data: (figures/[\w.-]+\.csv)", page))


@pytest.mark.parametrize("path", CONFIRMED, ids=[path.stem for path in CONFIRMED])
def test_what_was_trained_again_is_held_to_the_records_that_are_published(path: Path) -> None:
    folder = REPOSITORY / published.PUBLISHED / path.stem
    records = {confirmation.digest(record) for record in published.read_tables(folder)}
    assert {row.record for row in confirmation.read(path)} <= records


@pytest.mark.parametrize("folder", PUBLISHED, ids=names)
def test_published_verdicts_are_what_this_code_makes_of_the_published_records(
    folder: Path, tmp_path: Path
) -> None:
    study = published.published_study(folder)
    write_tables(study, published.published_records(study, folder), tmp_path)
    selection = tmp_path / "selection.parquet" if study.selecting else None
    if study.selecting:
        records = published.published_records(study.selecting, folder)
        write_selection(study.selecting, records, tmp_path)
    runs = tmp_path / "runs.parquet"
    inputs = load_inputs(runs, study=folder / "study.yaml", selection=selection)
    analyse(inputs, tmp_path, explore=False)
    due = f"make publish STUDY={folder.name} FROM=published, then make pages"
    assert_same_verdicts(tmp_path / "verdicts.json", folder / "verdicts.json", due)


# What it says is there, is there


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)#:\s]*)(?:#[^)\s]*)?\)", text):
        assert not link or (page.parent / link).exists(), f"{page.name}: {link}"


def commands() -> list[str]:
    """The commands of all fenced blocks, one a line, without their comments; each once."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^ *```(?:console|bash)?\n(.*?)^ *```", text, re.M | re.S):
            lines = block.replace("\\\n", " ").splitlines()
            found += [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    known = ("make ", "python ", "snakemake ")
    return list(dict.fromkeys(c for c in found if c.startswith(known)))


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 15


@pytest.mark.parametrize("command", commands())
def test_commands_are_ones_that_the_project_knows(command: str) -> None:
    """Costly ones are not run: make says what it would do, and the study must load."""
    words = shlex.split(command)
    if words[0] == "python":
        options = subprocess.run(
            [sys.executable, words[1], "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in options, f"{words[1]} has no {option}"
        return
    if words[0] == "make":
        done = subprocess.run(
            ["make", "--dry-run", *words[1:]], capture_output=True, text=True, check=True
        )
        words = shlex.split(done.stdout.partition("--config")[2].partition("\n")[0])
    else:
        words = words[words.index("--config") + 1 :]
    config = dict(word.partition("=")[::2] for word in words if re.match(r"[a-z_]+=", word))
    if config:
        configured_study(config | {"study": config["study"]})


# How to add something, as README.md says it


def readme_block(language: str, holding: str) -> str:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    found = [block for block in blocks if holding in block]
    assert len(found) == 1
    return found[0]


def test_an_ordering_is_added_by_its_name() -> None:
    (line,) = [c for c in commands() if "ORDERINGS=conv-bn-act,bn-conv-act" in c]
    pairs = dict(word.partition("=")[::2] for word in line.split()[2:])
    study = configured_study({key.lower(): value for key, value in pairs.items()})[2]
    import torch

    from bnorder.network import Network

    for arm in study.arms():
        network = Network(arm, study.recipe_for("base"), (1, 8, 8), 10, [0])
        assert network(torch.zeros(2, 1, 8, 8)).shape == (1, 2, 10)


def test_a_data_set_is_added_as_a_folder(tmp_path: Path) -> None:
    from PIL import Image

    from bnorder.data import prepare

    assert "DATASETS=folder:/path/to/images" in "\n".join(commands())
    rng = np.random.default_rng(1)
    for kind in ("cats", "dogs"):
        (tmp_path / kind).mkdir()
        for i in range(6):
            pixels = rng.integers(0, 256, (12, 10), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    dataset = prepare(f"folder:{tmp_path}")
    assert dataset.classes == ("cats", "dogs")
    assert len(dataset.train_labels) + len(dataset.test_labels) == 12


def test_a_claim_is_added_as_an_entry_and_gets_a_verdict(tmp_path: Path) -> None:
    claims = tmp_path / "claims.yaml"
    text = (REPOSITORY / "claims/article.yaml").read_text(encoding="utf-8")
    claims.write_text(f"{text}\n{readme_block('yaml', 'M1')}", encoding="utf-8")
    check_claims(str(claims))
    assert load_claims(claims).claims[-1].id == "M1"
    study = load_study(REPOSITORY / "studies/quick.yaml")
    write_tables(study, made_up_records(study), tmp_path)
    inputs = load_inputs(tmp_path / "runs.parquet", claims, REPOSITORY / "studies/quick.yaml")
    verdict = analyse(inputs, tmp_path, explore=False, resamples=20)[-1]
    assert (verdict.claim.id, len(verdict.estimates)) == ("M1", 1)


def test_an_activation_is_added_by_two_lines(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    diff = readme_block("diff", "Mish")
    subprocess.run(
        ["git", "apply", "--whitespace=error"],
        cwd=project,
        input=diff,
        text=True,
        check=True,
    )
    build = (
        "import torch\nfrom bnorder.network import Network\nfrom bnorder.study import load_study\n"
        "study = load_study('studies/quick.yaml', {'activations': ['mish']})\n"
        "network = Network(study.arms()[0], study.recipe, (1, 8, 8), 10, [0])\n"
        "assert any(isinstance(layer, torch.nn.Mish) for layer in network.modules())\n"
    )
    subprocess.run([sys.executable, "-c", build], cwd=project, check=True)


# For those who cite or list it

CITATION_SCHEMA = {  # the part of the Citation File Format 1.2.0 that is used here
    "type": "object",
    "additionalProperties": False,
    "required": ["cff-version", "message", "title", "authors"],
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "type": {"enum": ["software", "dataset"]},
        "version": {"type": "string"},
        "keywords": {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
        "authors": {
            "type": "array",
            "minItems": 1,
            "items": {  # an entity
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {"name": {"type": "string", "minLength": 1}},
            },
        },
    }
    | {key: {"type": "string", "minLength": 1} for key in ("message", "title", "abstract")}
    | {"license": {"const": "MIT"}},
}


def test_citation_is_valid_and_of_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    jsonschema.validate(citation, CITATION_SCHEMA)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["version"] == project["version"] == __version__
    assert citation["license"] == project["license"]
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {__version__}\n" in changes


def test_the_workflow_catalogue_gets_what_it_reads() -> None:
    text = (REPOSITORY / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8")
    usage = yaml.safe_load(text)["usage"]
    assert set(usage) <= {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"]["conda"] is True
    assert (REPOSITORY / "environment.yml").exists()


def test_every_evidence_of_the_checklist_is_there() -> None:
    items = yaml.safe_load((REPOSITORY / "docs/checklist.yaml").read_text(encoding="utf-8"))
    for item in items:
        assert item["evidence"]
        for path in item["evidence"]:
            assert (REPOSITORY / path).exists(), path
