"""A finished study in a terminal: its answer, a line for each verdict, where the reports are."""

import json
import textwrap
from pathlib import Path
from typing import Any

from bnorder.errors import DELETE, UserError

WIDTH = 100
LONGEST = 13  # letters of a verdict, and a blank


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
        made = verdicts.stat().st_mtime
        listed = [f"  {path}{_outdated(path, made)}" for path in reports]
        return "\n".join([*_findings(found), "", "The report:", *listed])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{verdicts}: damaged ({error!r:.160}); {DELETE}") from None


def _findings(found: dict[str, Any]) -> list[str]:
    """The answer and the verdicts of verdicts.json."""
    runs = found["runs"]
    head = f"Study {found['study']}: {runs['present']} of {runs['expected']} runs"
    head += f", {runs['diverged']} diverged." if runs["diverged"] else "."
    lines = [line for claim in found["verdicts"] for line in _verdict(claim)]
    return ["", head, *_wrapped(found["answer"][0]), "", *lines]


def _verdict(claim: dict[str, Any]) -> list[str]:
    said = verdict_line(claim["verdict"], claim["too_small"], claim["sentence"], claim["reason"])
    if claim["verdict"] != "not tested":
        said += f" {claim['short']}"
    return _wrapped(f"{claim['id']:<4} {said}", indent=len(f"{'':<4} {'':<{LONGEST}} "))


def verdict_line(verdict: str, too_small: bool, sentence: str, reason: str) -> str:
    """A verdict, the claim's sentence, and why it was not tested where it was not."""
    words = f"{verdict}, and too small to matter:" if too_small else f"{verdict:<{LONGEST}}"
    return f"{words} {sentence}" + (f" ({reason})" if reason else "")


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Lines of at most WIDTH, which never part a p from its value."""
    kept = text.replace("p = ", "p\xa0=\xa0").replace("p < ", "p\xa0<\xa0")
    lines = textwrap.wrap(kept, WIDTH, subsequent_indent=" " * indent)
    return [line.replace("\xa0", " ") for line in lines]


def _outdated(report: Path, made: float) -> str:
    """How to make a report again that is older than its verdicts: one for an archive, say."""
    if report.stat().st_mtime >= made:
        return ""
    kind, _, code = report.stem.partition(".")
    ways = [f"LANG={code}"] * bool(code) + ["ARCHIVE=1"] * kind.endswith("-archive")
    return f" (older: make it again{' with ' * bool(ways)}{' '.join(ways)})"
