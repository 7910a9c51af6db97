"""A user's mistake is one clear line and a non-zero exit status, never a traceback."""

import errno
import sys
from collections.abc import Callable


class UserError(Exception):
    """What was wrong, where, what was expected and what to do, in one line."""


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn a `UserError` or a storage fault into one line and status 2."""
    try:
        main()
    except UserError as error:
        _fail(" ".join(str(error).split()))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        _fail(f"{error.filename or 'output'}: {error.strerror}; free space or rights, then rerun")
    except KeyboardInterrupt:
        print("interrupted; the next run goes on from what is finished", file=sys.stderr)
        raise SystemExit(130) from None


def _fail(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)
