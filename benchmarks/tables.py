"""The tables of benchmarks/results/, which hold what several machines measured."""

from collections.abc import Iterator, Mapping, Sequence
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

    key: the columns that say what a row measured, beside the processor and the kind of kernels.
    """
    import pandas as pd

    table = pd.DataFrame([{**row, **machine} for row in rows])
    if out.exists():
        old = pd.read_csv(out)
        measured, known = ([*_keys(t, [*key, "device"])] for t in (table, old))
        table = pd.concat([old[[row not in measured for row in known]], table], ignore_index=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)


def _keys(table: Any, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """What each row measured; a table from before there were kernels of our own has torch's."""
    kernels = table["kernels"].fillna("torch") if "kernels" in table else ["torch"] * len(table)
    kinds = (str(name).split()[0] for name in kernels)
    rows = table[columns].astype(str).itertuples(index=False, name=None)
    return ((*row, kind) for row, kind in zip(rows, kinds, strict=True))
