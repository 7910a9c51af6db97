"""Files appear whole or not at all."""

import glob
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNTOUCHED = 3600.0  # seconds after which nobody writes on: machines share folders, not processes


def temporary_folder(kind: str) -> Path:
    """The place of a folder that a user has once on each machine; what is in it may be deleted."""
    return Path(tempfile.gettempdir()) / f"bnorder-{kind}-{os.getuid()}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch path beside `path`, which takes its place when the block ends well.

    When it does not, the old file stays and nothing is left of the new one; what a process left
    that was killed meanwhile goes the next time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = path.parent / f".{path.name}.{os.getpid()}"
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Delete the scratch files of `path` that nobody has written to for an hour, on any machine."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if left.name.removeprefix(f".{path.name}.").isdecimal() and left.is_file():
            with suppress(OSError):  # another process was faster
                if time.time() - left.stat().st_mtime > UNTOUCHED:
                    left.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: the old content stays until the new one is on disk."""
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
