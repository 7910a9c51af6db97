"""A user's mistake is one clear line and a non-zero exit status, never a traceback."""

import errno
import io
import os
import select
import sys
from collections.abc import Callable

# What a file system may say that is no mistake of the program's, and what to do about it.
STORAGE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
        "free space or rights, then rerun",
    ),
    **dict.fromkeys(
        (errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EBUSY),
        "name another path, then rerun",
    ),
    errno.EIO: "see whether the disk is sound, then rerun",
}
# How torch words it, on a GPU and on a CPU; its errors have no type of their own on the latter.
NO_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory")
# The way out of a damaged file that the workflow made: it makes again what is not there.
DELETE = "delete it, and the same command makes it again"
LONGEST = 1200  # characters of a line; the file that was read may have more
CLOSED = 141  # the exit status that shells give to what a closed pipe ended
LESS_MEMORY = (
    "lower BATCH_SIZE, WIDTH or SEEDS_PER_JOB (seeds that train together on a GPU), or CORES (jobs "
    "at once)"
)


class UserError(Exception):
    """What was wrong, where, what was expected and what to do, in one line."""


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn a `UserError`, a bad path or want of memory into one line.

    The exit status is then 2; a programming error keeps its traceback. What the locale has no
    letters for is printed escaped, as Python does on standard error. Where nobody reads the output
    to its end (`| head -1`), it ends in silence.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        print(end="", flush=True)
    except BrokenPipeError:
        if not _drop_unread():
            raise
        raise SystemExit(CLOSED) from None
    except UserError as error:
        _fail(_one_line(error))
    except OSError as error:
        if error.errno not in STORAGE:
            raise
        where = error.filename2 or error.filename or "output"
        _fail(f"{where}: {error.strerror}; {STORAGE[error.errno]}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(w in str(error) for w in NO_MEMORY):
            raise
        _fail(f"out of memory ({_one_line(error)[:160] or 'no more to be had'}); {LESS_MEMORY}")
    except KeyboardInterrupt:
        print("interrupted; the next run goes on from what is finished", file=sys.stderr)
        raise SystemExit(130) from None


def _drop_unread() -> bool:
    """Send output whose reader has gone nowhere, so that Python's exit does not try it again.

    False where every output has its reader: then another pipe broke.
    """
    watch = select.poll()
    for number in (1, 2):  # standard output and error
        watch.register(number, 0)
    unread = [
        number for number, event in watch.poll(0) if event & (select.POLLERR | select.POLLHUP)
    ]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in unread:
        os.dup2(nowhere, number)
    os.close(nowhere)
    return bool(unread)


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    words = words if len(words) <= LONGEST else words[:LONGEST] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def _fail(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)
