"""Set-up: what the three lists of dependencies say, and what `make` does with them."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# conda-forge's names for what the package registry calls otherwise.
CONDA_NAMES = {"torch": "pytorch", "snakemake": "snakemake-minimal"}
# What conda brings beside Python's packages.
NATIVE = {"python", "pango", "harfbuzz", "make", "c-compiler"}


def project_table() -> dict[str, object]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked_versions() -> dict[str, list[tuple[str, str]]]:
    """Name → (version, marker) of each line of the lock; one name may have several."""
    found: dict[str, list[tuple[str, str]]] = {}
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    for name, version, marker in re.findall(
        r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)(?: ; ([^\\\n]+))?", text, re.M
    ):
        found.setdefault(canonicalize_name(name), []).append((version, marker.strip()))
    return found


def test_conda_environment_has_the_ranges_of_pyproject() -> None:
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    conda = {r.name: r.specifier for r in map(Requirement, listed["dependencies"])}
    project = project_table()
    wanted = {
        CONDA_NAMES.get(r.name, r.name): r.specifier
        for r in map(Requirement, project["dependencies"])
    }
    assert {name: s for name, s in conda.items() if name not in NATIVE} == wanted
    assert str(conda["python"]) == str(Requirement("x" + project["requires-python"]).specifier)
    assert "pango" in conda


def test_lock_satisfies_pyproject_and_the_conda_environment() -> None:
    project = project_table()
    locked = locked_versions()
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in requirements.lock: run `make lock`"
        for version, marker in versions:
            assert version in requirement.specifier, f"{text}: locked at {version} ({marker})"


def test_lock_has_a_hash_for_every_package_and_names_no_index() -> None:
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M)[1:]
    assert len(entries) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "index" not in text.split("==")[0]


def test_makefile_knows_every_key_of_a_study() -> None:
    schema_file = REPOSITORY / "workflow/schemas/study.schema.yaml"
    keys = yaml.safe_load(schema_file.read_text(encoding="utf-8"))["properties"]
    wanted = {*keys, *keys["recipe"]["properties"]} - {"name"}
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    listed = re.search(r"^KEYS := (.*)$", text, re.M)
    assert listed
    assert {key.lower() for key in listed[1].split()} == wanted


def test_profiles_choose_what_re_runs_a_job() -> None:
    for name in ("default", "slurm"):
        path = REPOSITORY / "workflow/profiles" / name / "config.yaml"
        text = re.sub(r"^\?if .*:$", "when_at_a_terminal:", path.read_text("utf-8"), flags=re.M)
        profile = yaml.safe_load(text)
        assert profile["rerun-triggers"] == ["mtime", "input", "params"], name
        assert profile["keep-going"], name
        assert profile["show-failed-logs"], name


# make and scripts/setup.sh, with a stand-in for uv

SetUp = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that set-up needs, in a folder with a space in its name."""
    root = tmp_path / "a checkout"
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    for folder in ("scripts", "studies"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    return root


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder that stands first on PATH; its uv notes its calls and makes a bare environment."""
    folder = tmp_path / "tools"
    folder.mkdir()
    program(
        folder / "uv",
        f"""echo "$*" >> "{tmp_path}/calls"
        [ -z "${{SLOW:-}}" ] || sleep 1
        [ -z "${{FAIL:-}}" ] || case "$*" in *sync*) exit 1;; esac
        [ "$1" != venv ] || {{ mkdir -p .venv/bin; ln -sf "{sys.executable}" .venv/bin/python; }}
        """,
    )
    return folder


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\nset -e\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def set_up(checkout: Path, tools: Path) -> SetUp:
    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG", "TMPDIR")}
        path = f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin"
        return subprocess.run(
            ["bash", str(checkout / "scripts/setup.sh"), *words],
            env=kept | {"PATH": path} | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def calls(tmp_path: Path) -> list[str]:
    noted = tmp_path / "calls"
    return noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []


def test_set_up_is_made_once_from_the_lock_and_says_so(
    set_up: SetUp, checkout: Path, tmp_path: Path
) -> None:
    done = set_up()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(checkout / ".venv/bin")
    assert "Setting up .venv from requirements.lock with uv" in done.stderr
    assert [call.split()[0:2] for call in calls(tmp_path)] == [["venv", "--quiet"], ["pip", "sync"]]
    assert "--require-hashes" in calls(tmp_path)[1]
    again = set_up()
    assert (again.stdout, again.stderr) == (done.stdout, "")
    assert len(calls(tmp_path)) == 2


def test_interrupted_set_up_is_done_again(set_up: SetUp, checkout: Path, tmp_path: Path) -> None:
    assert set_up(FAIL="1").returncode != 0
    done = set_up()
    assert done.returncode == 0, done.stderr
    assert len(calls(tmp_path)) == 4


def test_two_first_commands_at_once_make_one_set_up(
    set_up: SetUp, checkout: Path, tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(set_up, SLOW="1") for _ in range(2)]
        done = [each.result() for each in both]
    assert [each.returncode for each in done] == [0, 0]
    assert [each.stdout.strip() for each in done] == 2 * [str(checkout / ".venv/bin")]
    assert "waiting for it" in done[0].stderr + done[1].stderr
    assert len(calls(tmp_path)) == 2


def test_another_lock_makes_another_set_up(set_up: SetUp, checkout: Path, tmp_path: Path) -> None:
    set_up()
    lock = checkout / "requirements.lock"
    lock.write_text(lock.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert "Setting up" in set_up().stderr
    stamp = (checkout / ".venv/.bnorder-lock").read_text(encoding="utf-8").strip()
    assert stamp == hashlib.sha256(lock.read_bytes()).hexdigest()


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_active_environment_with_the_dependencies_is_used(
    variable: str, set_up: SetUp, checkout: Path
) -> None:
    done = set_up("dev", **{variable: sys.prefix})
    assert done.stdout.strip() == f"{sys.prefix}/bin"
    assert done.stderr == ""
    assert not (checkout / ".venv").exists()


def test_active_environment_without_them_is_named_and_left_alone(
    set_up, checkout, tmp_path
) -> None:
    bare = tmp_path / "bare"
    (bare / "bin").mkdir(parents=True)
    program(bare / "bin/python", "echo 'torch>=2.9,<3'")
    done = set_up(CONDA_PREFIX=str(bare))
    assert done.stdout.strip() == str(checkout / ".venv/bin")
    assert f"The active environment {bare} lacks torch>=2.9,<3; using .venv instead." in done.stderr


def test_foreign_environment_is_not_overwritten(set_up: SetUp, checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    program(checkout / ".venv/bin/python", "echo torch")
    done = set_up()
    assert done.returncode == 2
    assert "error: .venv was not made by this Makefile and lacks torch" in done.stderr
    assert (checkout / ".venv/bin/python").exists()


def test_no_python_that_fits_is_one_clear_line(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("python3", "python", "python3.11", "python3.12", "python3.13"):
        program(folder / name, 'echo "Python 3.9.2"; exit 1')
    for name in ("bash", "dirname", "cat"):
        (folder / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        [str(folder / "bash"), str(checkout / "scripts/setup.sh")],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no Python from 3.11 to 3.13 on PATH (Python 3.9.2)" in done.stderr
    assert "conda env create -f environment.yml" in done.stderr


def test_make_alone_lists_every_target(checkout: Path) -> None:
    done = subprocess.run(["make"], cwd=checkout, capture_output=True, text=True, check=True)
    for target in ("report", "test", "check", "lock", "clean", "setup"):
        assert re.search(rf"^  {target} +\w", done.stdout, re.M)
    assert "article" in done.stdout


@pytest.mark.parametrize("words", [["report", "TITLE=my #1"], ["publish", "STUDY=a #b"]])
def test_make_refuses_what_would_be_cut_off(words: list[str]) -> None:
    done = subprocess.run(["make", *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    name = words[1].partition("=")[0]
    assert f"{name} has a blank before #, and would be cut off there" in done.stderr
    assert "in a study's file" in done.stderr
    kept = ["make", "--dry-run", "report", "TITLE=C#"]
    done = subprocess.run(kept, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "'title=C#'" in done.stdout


@pytest.mark.parametrize("value", ["0", "", "-2", "2 3", "two", "$(x)"])
def test_make_refuses_what_is_no_number_of_cores(value: str) -> None:
    words = ["make", "--dry-run", "report", f"CORES={value}"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"CORES is {value or 'empty'}; expected all or a whole number from 1" in done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout


@pytest.mark.parametrize(
    "words, option",
    [
        (["CORES=12"], "--cores 12"),
        (["CORES=all"], "--cores all"),
        (["PROFILE=slurm", "CORES=3"], "--local-cores 3"),
        (["PROFILE=slurm", "CORES=all"], "--workflow-profile"),  # Slurm's own choice is all
    ],
)
def test_cores_reach_snakemake(words: list[str], option: str) -> None:
    make = ["make", "--dry-run", "report", *words]
    done = subprocess.run(make, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert option in done.stdout and "--local-cores all" not in done.stdout


@pytest.mark.parametrize(
    "words, said",
    [
        (["report", "RESULTS=/scratch"], "make results a link to a folder there"),
        (["publish", "ENVIRONMENT=1"], "are for `make clean` alone"),
        (["restore", "ARGS=--x"], "ARGS is not read by `make restore`"),
        (["pages", "ARGS=--x"], "ARGS is not read by `make pages`"),
        (["ARGS=--x"], "ARGS is not read by `make help`"),
    ],
)
def test_make_refuses_a_variable_that_its_target_does_not_read(words: list[str], said: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *words], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("target", ["publish", "archive", "crate", "confirm", "calibrate"])
def test_make_passes_arguments_on(target: str) -> None:
    make = ["make", "--dry-run", target, "ARGS=--out here"]
    done = subprocess.run(make, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("--out here")


def test_a_make_below_make_has_variables_of_its_own(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "python", "make --dry-run clean")
    program(checkout / "scripts/setup.sh", f'echo "{folder}"')
    make = ["make", "test", "ARGS=-x", "--assume-old=tests/browser/node_modules"]
    done = subprocess.run(make, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["report", "PROFILE=nope"], ["clean", "RESULTS=yes"]])
def test_make_refuses_a_value_that_would_be_passed_over(words: list[str]) -> None:
    done = subprocess.run(["make", *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert words[1] in done.stderr and "expected" in done.stderr


def test_a_profile_may_be_a_folder_with_a_space(tmp_path: Path) -> None:
    own = tmp_path / "my own"
    own.mkdir()
    (own / "config.yaml").touch()
    make = ["make", "--dry-run", "report", f"PROFILE={own}"]
    done = subprocess.run(make, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert f"--workflow-profile '{own}'" in done.stdout


def test_clean_says_what_it_removes_and_keeps_results(checkout: Path) -> None:
    caches = ("scripts/__pycache__", "bnorder/report/__pycache__", "workflow/a/b/__pycache__")
    for name in ("results/quick", ".ruff_cache", *caches):
        (checkout / name).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["make", "clean"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert "removing .ruff_cache" in done.stdout
    assert "keeping results (make clean RESULTS=1 removes it)" in done.stdout
    assert (checkout / "results/quick").exists()
    assert [name for name in caches if (checkout / name).exists()] == []
    assert "removing bnorder/report/__pycache__" in done.stdout
    subprocess.run(
        ["make", "clean"],
        cwd=checkout,
        env=os.environ | {"RESULTS": "1", "ENVIRONMENT": "1"},
        check=True,
        capture_output=True,
    )
    assert (checkout / "results/quick").exists()
    subprocess.run(["make", "clean", "RESULTS=1"], cwd=checkout, check=True, capture_output=True)
    assert not (checkout / "results").exists()


@pytest.mark.parametrize("own", ["", "/my/cache"])
def test_snakemake_keeps_its_cache_here_unless_told_otherwise(
    own: str, checkout: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "python", 'echo "cache: $XDG_CACHE_HOME"')
    program(checkout / "scripts/setup.sh", f'echo "{folder}"')
    shown = subprocess.run(
        ["make", "report"],
        cwd=checkout,
        env=os.environ | {"XDG_CACHE_HOME": own},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.splitlines()[0] == f"cache: {own or checkout / '.snakemake/cache'}"
    source = Path(importlib.util.find_spec("snakemake").origin).with_name("workflow.py")
    assert "get_appdirs().user_cache_dir" in source.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "keys, said",
    [
        ("executor: kubernetes", r'snakemake-executor-plugin-kubernetes; .*: pip install ".\[kub'),
        ("executor: local\ndefault-storage-provider: s3", "snakemake-storage-plugin-s3"),
        ("executor: lsf # ours", "pip install snakemake-executor-plugin-lsf"),
        ("executor: slurm", ""),
        ("executor: local", ""),
    ],
)
def test_a_profile_without_its_plugin_says_how_to_get_it(
    keys: str, said: str, checkout: Path, tmp_path: Path
) -> None:
    if said and importlib.util.find_spec("snakemake_executor_plugin_kubernetes"):
        pytest.skip("Kubernetes' plugins are installed")
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "python", f'[ "$1" != -c ] || exec {sys.executable} "$@"; echo "ran $2"')
    program(checkout / "scripts/setup.sh", f'echo "{folder}"')
    (checkout / "own profile").mkdir()
    (checkout / "own profile/config.yaml").write_text(f"{keys}\njobs: 3\n", encoding="utf-8")
    make = ["make", "report", "PROFILE=own profile/"]
    done = subprocess.run(make, cwd=checkout, capture_output=True, text=True, check=False)
    assert (done.returncode, "ran snakemake" in done.stdout) == ((2, False) if said else (0, True))
    assert re.search(said, done.stderr) and done.stderr.count("error: ") == bool(said)


def test_a_place_that_cannot_be_written_to_is_one_line(checkout: Path) -> None:
    (checkout / ".snakemake").write_text("no folder, as a disk that is read-only has none")
    program(checkout / "scripts/setup.sh", "echo too late >&2; exit 1")
    make = ["make", "report", "FROM=published"]
    done = subprocess.run(make, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ".snakemake cannot be written to; expected a place with rights" in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert lines[1:] == []


def test_values_reach_snakemake_as_they_were_typed(checkout: Path) -> None:
    shown = subprocess.run(
        [
            "make",
            "--dry-run",
            "report",
            "STUDY=article",
            "SEEDS=3",
            "TITLE=it's 'quoted', $HOME $(x)",
        ],
        cwd=checkout,
        env=os.environ | {"EPOCHS": "9", "ARGS": "-q", "CORES": "3"},  # no overrides
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "--cores all" in shown
    config = shown[shown.index("--config") + len("--config") :].splitlines()[0]
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {config}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words == ["study=article", "title=it's 'quoted', $HOME $(x)", "seeds=3"]
