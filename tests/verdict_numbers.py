"""Whether two verdicts.json say the same, in verdicts and in every number."""

import json
from pathlib import Path
from typing import Any

import pytest


def assert_same_verdicts(here: Path, there: Path, otherwise: str) -> None:
    """Fail with `otherwise` and the place at the first verdict or number that differs."""
    ours, theirs = (
        numbers(json.loads(path.read_text("utf-8"))["verdicts"]) for path in (here, there)
    )
    assert list(ours) == list(theirs), otherwise
    for key, value in ours.items():
        if isinstance(value, float):
            assert value == pytest.approx(theirs[key], rel=1e-6, abs=1e-9), f"{key}: {otherwise}"
        else:
            assert value == theirs[key], f"{key}: {otherwise}"


def numbers(value: Any, where: str = "") -> dict[str, Any]:
    """Every number and verdict of a piece of JSON by its place; sentences may be reworded."""
    if isinstance(value, dict):
        found = [numbers(v, f"{where}/{k}") for k, v in value.items()]
    elif isinstance(value, list):
        found = [numbers(v, f"{where}/{i}") for i, v in enumerate(value)]
    elif isinstance(value, str):
        return {where: value} if where.endswith(("/id", "/verdict")) else {}
    else:
        return {where: float(value) if isinstance(value, (int, float)) else value}
    return {key: v for part in found for key, v in part.items()}
