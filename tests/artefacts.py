"""Pictures for people to look at: kept where BNORDER_ARTEFACTS names a folder, else not made."""

import os
from collections.abc import Callable
from pathlib import Path


def keep(name: str, make: Callable[[Path], object]) -> None:
    """Have `make` write NAME.png into the folder of artefacts, if there is to be one."""
    folder = os.getenv("BNORDER_ARTEFACTS")
    if folder:
        path = Path(folder, f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
