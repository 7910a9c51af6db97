"""The tables of benchmarks/results/, which hold what several machines measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def this_machine() -> dict[str, Any]:
    """What each row says of where it was measured: processor, versions, system."""
    import torch

    from bnorder.jobs import provenance

    return vars(provenance(torch.device("cpu"))) | {"threads": 1}


def write(
    out: Path, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], key: Sequence[str]
) -> None:
    """This machine's rows, each in place of the one that it measured before; all others stay.

    key: the columns that say what a row measured.
    """
    import pandas as pd

    table = pd.DataFrame([{**row, **machine} for row in rows])
    if out.exists():
        old, columns = pd.read_csv(out), [*key, "device"]
        measured = set(table[columns].astype(str).itertuples(index=False, name=None))
        known = old[columns].astype(str).itertuples(index=False, name=None)
        table = pd.concat([old[[row not in measured for row in known]], table], ignore_index=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)
