"""What tests share: a copy of the project to run in, and what a missing tool means."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the library is used in place, not installed

# One thread, as a training job has it: its kernels are those that are then tested.
os.environ["OMP_NUM_THREADS"] = "1"

# A busy machine is slow; that is no fault of the example that it happened to be slow at.
settings.register_profile("bnorder", deadline=None)
settings.load_profile("bnorder")

# Skips that even a complete machine may have; every other one means a missing tool.
EXCUSED = ["BNORDER_DATA", "CUDA", "may not mount"]
if not os.getenv("BNORDER_REQUIRE_KUBERNETES"):  # set where the plugins have been installed
    EXCUSED.append("Kubernetes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):  # type: ignore[no-untyped-def]
    """With BNORDER_REQUIRE_TOOLS set, as in CI, a test skipped for want of a tool has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.getenv("BNORDER_REQUIRE_TOOLS"):
        reason = str(report.longrepr[-1]) if report.longrepr else ""
        if not any(word in reason for word in EXCUSED):
            report.outcome = "failed"
            report.longrepr = f"skipped, but BNORDER_REQUIRE_TOOLS is set: {reason}"
    return report


def project_files() -> list[Path]:
    """The project's files, relative to it: what git tracks or would, else all but results."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [Path(name) for name in listed.stdout.split("\0") if name]
        return [name for name in names if _is_file_or_link(REPOSITORY / name)]
    skipped = {".venv", "results", ".snakemake", ".git"}
    found = (p.relative_to(REPOSITORY) for p in REPOSITORY.rglob("*") if _is_file_or_link(p))
    return [p for p in found if not skipped.intersection(p.parts)]


def _is_file_or_link(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def copy_project(target: Path) -> Path:
    """A copy of the project in `target`, so that a test never writes into the checkout."""
    for name in project_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, target / name, follow_symlinks=False)
    return target


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, in a folder with a space in its name."""
    return copy_project(tmp_path_factory.mktemp("the project"))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Variables for commands run by tests: this Python is the active environment."""
    ours = ("MAKE", "MFLAGS", "PYTEST", "STUDY", "CORES", "CONDA_PREFIX")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    # No bytecode: an edited source of the same size and second would else be taken for the old.
    return kept | {"VIRTUAL_ENV": sys.prefix, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}


@pytest.fixture(scope="session")
def skip_without() -> Iterator[object]:
    """`skip_without("pdftotext")` skips the test where that program is not on PATH."""

    def check(program: str) -> None:
        if not shutil.which(program):
            pytest.skip(f"{program} is not on PATH")

    yield check
