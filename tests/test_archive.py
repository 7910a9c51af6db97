"""Deposits: an archive that gives the report elsewhere, and a crate that describes a run."""

import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY, copy_project
from verdict_numbers import assert_same_verdicts

from bnorder import __version__
from bnorder.errors import UserError
from bnorder.publishing.archive import project_files, write_archive
from bnorder.publishing.crate import write_crate
from bnorder.publishing.published import sha256

QUICK = REPOSITORY / "report/published/quick"


def test_unpacked_elsewhere_the_archive_gives_the_published_verdicts(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for name in ("one.tar.gz", "two.tar.gz"):
        write_archive(REPOSITORY, tmp_path / name)
    assert sha256(tmp_path / "one.tar.gz") == sha256(tmp_path / "two.tar.gz")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    unpack = ["tar", "-xzf", str(tmp_path / "one.tar.gz"), "-C", str(elsewhere)]
    subprocess.run(unpack, check=True)  # as its reader would; Python 3.11.2 has no safe way
    project = tmp_path / "else where" / f"bnorder-{__version__}"
    done = subprocess.run(
        ["make", "report", "STUDY=quick", "FROM=published", "CORES=2"],
        cwd=project,
        env=environment | {"BNORDER_DATA": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    results = project / "results/quick+published"
    assert_same_verdicts(
        results / "analysis/verdicts.json",
        QUICK / "verdicts.json",
        "make publish STUDY=quick FROM=published, then make pages",
    )
    assert (results / "report/report.pdf").stat().st_size > 10_000
    assert not (project / "results/data").exists()


def test_a_project_without_published_results_is_not_archived(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing else")
    with pytest.raises(UserError, match="no results to archive"):
        write_archive(tmp_path, tmp_path / "archive.tar.gz")
    assert not (tmp_path / "archive.tar.gz").exists()


def test_an_archive_made_outside_git_leaves_results_out(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    (project / "results/quick").mkdir(parents=True)
    (project / "results/quick/study.yaml").write_text("mine")
    write_archive(project, tmp_path / "archive.tar.gz")
    with tarfile.open(tmp_path / "archive.tar.gz") as archive:
        names = archive.getnames()
    assert f"bnorder-{__version__}/Snakefile" in names
    assert not [name for name in names if "/results/" in name]


def test_without_git_all_but_results_and_caches_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Snakefile", "results/a", ".venv.lock", ".mypy_cache/b", "bnorder/__pycache__/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert project_files(tmp_path) == [Path("Snakefile")]


def test_the_crate_describes_a_run_and_names_only_what_it_holds(tmp_path: Path) -> None:
    write_crate(REPOSITORY, QUICK, tmp_path / "crate.zip")
    with zipfile.ZipFile(tmp_path / "crate.zip") as crate:
        entities = json.loads(crate.read("ro-crate-metadata.json"))["@graph"]
        held = set(crate.namelist())
        sums = {e["@id"]: e["sha256"] for e in entities if "sha256" in e}
        packed = [(info.compress_size, info.file_size) for info in crate.infolist()]
        modes = {info.filename: info.external_attr >> 16 for info in crate.infolist()}
        crate.extractall(tmp_path / "crate")
    assert (modes["README.md"], modes["ro-crate-metadata.json"]) == (0o100644, 0o100644)
    assert modes[".ci/run"] == 0o100755
    assert sum(size for size, _ in packed) < 0.8 * sum(size for _, size in packed)
    profile = Path("profiles/default/config.yaml")  # where a plain `snakemake` looks for it
    assert (tmp_path / "crate" / profile).read_bytes() == (REPOSITORY / profile).read_bytes()
    known = {e["@id"]: e for e in entities}
    assert len(known) == len(entities)
    for entity in entities:
        if "File" in entity["@type"]:
            assert entity["@id"] in held
        for name in references(entity):
            assert name in known or name.startswith("https://"), name
    assert sums
    for name, digest in sums.items():
        assert sha256(tmp_path / "crate" / name) == digest
    action = known[known["./"]["mentions"]["@id"]]
    assert action["@type"] == "CreateAction"
    assert action["instrument"] == known["./"]["mainEntity"] == {"@id": "Snakefile"}
    assert {"@id": "report/published/quick/study.yaml"} in action["object"]
    assert {"@id": "report/published/quick/verdicts.json"} in action["result"]


def references(value: object) -> list[str]:
    """Every @id that an entity points to."""
    if isinstance(value, list):
        return [name for item in value for name in references(item)]
    if isinstance(value, dict):
        if set(value) == {"@id"}:
            return [value["@id"]]
        return [name for item in value.values() for name in references(item)]
    return []
