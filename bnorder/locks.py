"""One process at a time: locks that the kernel releases, however the process ends.

Snakemake's own lock is a file that outlives a SIGKILL and then refuses the user's next command;
it also refuses two studies that read the same data set. These do neither.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO

from bnorder.errors import UserError

# What a file system says that knows no locks; then there is none, and the work goes on.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def check_results(folder: Path) -> None:
    """Raise UserError where a file, or a link to nothing, has the name of the folder of results."""
    if folder.is_dir() or not os.path.lexists(folder):
        return
    if folder.is_symlink():
        raise UserError(
            f"{folder} is a link to {os.readlink(folder)}, which is no folder; expected a folder "
            f"or a link to one: make that folder (mkdir), or delete the link"
        )
    raise UserError(f"{folder} is a file; expected a folder or a link to one: move the file away")


def hold_study(folder: Path) -> IO[str]:
    """Be the only run of the study in `folder` until the process ends; keep what it returns.

    Raises UserError where another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _hold(folder / ".lock", lambda holder: _refuse(folder, holder))


def _refuse(folder: Path, holder: str) -> None:
    raise UserError(
        f"{folder}: another run of this study is at work ({holder}); wait for it, or stop it with "
        f"Ctrl-C there{_kill(holder)}; nothing was changed"
    )


def _kill(holder: str) -> str:
    """The command that stops `process PID on HOST`, if it is on this machine."""
    words = holder.split()
    here = words[0::2] == ["process", "on"] and words[3:] == [socket.gethostname()]
    return f" or `kill {words[1]}`" if here else ""


def hold_job(path: Path) -> tuple[IO[str], bool]:
    """Be the only process that does a job: the lock to keep, and whether it had to be waited for.

    A training process may outlive its Snakemake, and the next Snakemake starts its job again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    waited: list[str] = []

    def wait(holder: str) -> None:
        print(f"waiting for another process that does this job ({holder})", flush=True)
        waited.append(holder)

    return _hold(path, wait), bool(waited)


def _hold(path: Path, when_held: Callable[[str], None]) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            if not lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                file.seek(0)
                when_held(file.read().strip() or "unknown")
                lock(file, fcntl.LOCK_EX)
        except BaseException:
            file.close()
            raise
        if _is_there(path, file):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()  # its last holder has deleted it


def lock(file: IO[str], how: int) -> bool:
    """Lock an open file; False where another process has it and `how` does not wait.

    True as well where the file system knows no locks: then nothing keeps two processes apart.
    """
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def _is_there(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
