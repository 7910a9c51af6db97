"""Everything needed to reproduce, as one file for a deposit."""

import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from bnorder import __version__
from bnorder.errors import UserError
from bnorder.files import replacing

LEFT_OUT = {".git", ".venv", ".venv.lock", "results", ".snakemake", "artefacts", "node_modules"}
LEFT_OUT |= {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
EPOCH = 0  # the time of every file in the archive: the same content gives the same bytes


def project_files(root: Path) -> list[Path]:
    """The project's files relative to `root`: what git tracks, else all but results and caches."""
    found = _tracked(root) or [
        path.relative_to(root)
        for path in root.rglob("*")
        if not LEFT_OUT.intersection(path.relative_to(root).parts)
    ]
    return sorted(p for p in found if (root / p).is_symlink() or (root / p).is_file())


def _tracked(root: Path) -> list[Path]:
    """What git tracks; nothing without git, or where it knows nothing of the project."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return []
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    return [Path(name) for name in names if name]


def write_archive(root: Path, path: Path) -> int:
    """Write bnorder-VERSION/… as .tar.gz, whole or not at all; return the number of files.

    Raises UserError where no results are published, since the archive would hold no answer.
    """
    files = project_files(root)
    if not any(file.is_relative_to("report/published") for file in files):
        raise UserError(
            "report/published: no results to archive; publish a study first (make publish), and "
            "add it to git"
        )
    with replacing(path) as partial, partial.open("wb") as raw:
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=EPOCH)
        with packed, tarfile.open(fileobj=packed, mode="w") as archive:
            _add(archive, root, files)
    return len(files)


def _add(archive: tarfile.TarFile, root: Path, files: Iterable[Path]) -> None:
    for file in files:
        member = archive.gettarinfo(root / file, arcname=f"bnorder-{__version__}/{file}")
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = EPOCH
        member.mode = 0o755 if member.mode & 0o100 else 0o644
        content = (root / file).read_bytes() if member.isreg() else b""
        archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
