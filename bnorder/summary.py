"""A finished study in a terminal: its answer, a line for each verdict, where the reports are."""

import json
import textwrap
from pathlib import Path
from typing import Any

from bnorder.errors import DELETE, UserError

WIDTH = 100


def summary(results: Path) -> str:
    """What stands in results/<study>/, as lines; empty where the study has no report yet.

    Raises UserError for damaged verdicts.
    """
    files = sorted((results / "report").glob("report*"))
    reports = [path for path in files if path.is_file() and path.suffix in (".html", ".pdf")]
    verdicts = results / "analysis" / "verdicts.json"
    if not reports or not verdicts.is_file():
        return ""
    try:
        found = json.loads(verdicts.read_text(encoding="utf-8"))
        return "\n".join([*_findings(found), "", "The report:", *map(_indent, reports)])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{verdicts}: damaged ({error!r:.160}); {DELETE}") from None


def _findings(found: dict[str, Any]) -> list[str]:
    """The answer and the verdicts of verdicts.json."""
    runs = found["runs"]
    head = f"Study {found['study']}: {runs['present']} of {runs['expected']} runs"
    head += f", {runs['diverged']} diverged." if runs["diverged"] else "."
    lines = [line for claim in found["verdicts"] for line in _verdict(claim)]
    return ["", head, *_wrapped(found["answer"][0]), "", *lines]


def _verdict(claim: dict[str, str]) -> list[str]:
    label = f"{claim['id']:<4} {claim['verdict']:<13} "
    body = claim["sentence"]
    if claim["verdict"] != "not tested":
        body += f" {claim['short']}"
    return _wrapped(label + body, indent=len(label))


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Lines of at most WIDTH, which never part a p from its value."""
    kept = text.replace("p = ", "p\xa0=\xa0").replace("p < ", "p\xa0<\xa0")
    lines = textwrap.wrap(kept, WIDTH, subsequent_indent=" " * indent)
    return [line.replace("\xa0", " ") for line in lines]


def _indent(path: Path) -> str:
    return f"  {path}"
