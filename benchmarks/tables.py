"""The tables of benchmarks/results/, which hold what several machines measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def this_machine() -> dict[str, Any]:
    """What each row says of where it was measured: processor, versions, system."""
    import torch

    from bnorder.jobs import provenance

    return vars(provenance(torch.device("cpu"))) | {"threads": 1}


def write(out: Path, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> None:
    """This machine's rows, in place of those that it measured before; other machines' stay."""
    import pandas as pd

    table = pd.DataFrame([{**row, **machine} for row in rows])
    if out.exists():
        old = pd.read_csv(out)
        table = pd.concat([old[old["device"] != machine["device"]], table], ignore_index=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)
