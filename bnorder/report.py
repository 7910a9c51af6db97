"""Verdicts, figures and provenance as one document: an HTML file and a tagged PDF.

The report computes no number: what it prints comes from the study's tables and analysis.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any, Literal

import jinja2
from markupsafe import Markup, escape

from bnorder import captions, ladder, lenses, look, svg, view
from bnorder.drawing import Drawing
from bnorder.figures import draw_all
from bnorder.files import write_atomically
from bnorder.printing import filters, unit_words
from bnorder.provenance import Provenance, provenance
from bnorder.results import Results, load_results
from bnorder.spark import legend, reach, spark
from bnorder.study import load_study

Medium = Literal["html", "pdf"]


@dataclass(frozen=True)
class Report:
    """What was written."""

    html: Path
    pdf: Path
    figures: tuple[Path, ...]


def render(
    study_file: Path, tables: Path, analysis: Path, out: Path, *, archive: bool = False
) -> Report:
    """Read a study's results and write report.html, report.pdf and figures/ into `out`.

    archive: write report-archive.pdf too, PDF/A-3 with the study and all tables as CSV attached.
    """
    from bnorder.pdf import write_pdf

    study = load_study(study_file)
    results = load_results(study, study_file, tables, analysis)
    made = provenance(results)
    drawings = draw_all(results)
    html = document(results, made, drawings, "html")
    images = {d.key: svg.for_pdf(d.svg) for d in drawings}
    printed = document(results, made, drawings, "pdf")
    pdf = write_pdf(printed, images)
    files = _write_figures(drawings, out / "figures")
    write_atomically(out / "report.html", html.encode("utf-8"))
    write_atomically(out / "report.pdf", pdf)
    if archive:
        attached = _tables_of(study_file, tables, analysis)
        write_atomically(out / "report-archive.pdf", write_pdf(printed, images, attached))
    return Report(out / "report.html", out / "report.pdf", tuple(files))


def _tables_of(study_file: Path, tables: Path, analysis: Path) -> dict[str, bytes]:
    """The study and its tables as text files, by name."""
    files = [study_file, *sorted(tables.glob("*.csv")), *sorted(analysis.glob("*.csv"))]
    files += sorted(analysis.glob("*.json"))
    return {file.name: file.read_bytes() for file in files}


def _write_figures(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    files = []
    for drawing in drawings:
        for suffix, content in (
            ("svg", drawing.svg.encode()),
            ("png", drawing.png),
            ("csv", drawing.data.encode()),
            ("rst", caption_rst(drawing).encode()),
        ):
            path = folder / f"{drawing.key}.{suffix}"
            write_atomically(path, content)
            files.append(path)
    for stale in sorted(set(folder.glob("*.*")) - set(files)):
        if stale.suffix in {".svg", ".png", ".csv", ".rst"}:
            stale.unlink()
    return files


def caption_rst(drawing: Drawing) -> str:
    """A figure's title and caption in reStructuredText, for `snakemake --report`."""
    title, caption = (re.sub(r"([\\*_`|])", r"\\\1", t) for t in (drawing.title, drawing.caption))
    return f"**{title}**\n\n{caption}\n\nData: {drawing.key}.csv beside it, {drawing.rows} rows.\n"


def document(
    results: Results, made: Provenance, drawings: Sequence[Drawing], medium: Medium
) -> str:
    """The report as one HTML text, for a browser or for the PDF."""
    environment = _environment(traced=medium == "html")
    context = _context(results, made, drawings, medium, environment)
    body = environment.get_template("body.html.j2").render(context)
    script = _read("report.js") if medium == "html" else ""
    return environment.get_template("report.html.j2").render(
        context,
        body=Markup(body),
        toc=contents(body),
        css=Markup(_style(medium)),
        script=Markup(script),
        csp=policy(script),
    )


def _environment(*, traced: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(look.TEMPLATES),
        autoescape=True,  # always: a study's title is anyone's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters(traced=traced)
    environment.filters |= {"slug": look.slug, "said": said, "sentence": _capital}
    return environment


def _context(
    results: Results,
    made: Provenance,
    drawings: Sequence[Drawing],
    medium: Medium,
    environment: jinja2.Environment,
) -> dict[str, Any]:
    keys = [d.key for d in drawings]
    title = (
        results.study.title
        or f"Batch normalisation before or after the activation: {results.study.name}"
    )
    html = medium == "html"
    verdicts = results.verdicts
    return {
        "html": html,
        "title": title,
        "description": " ".join(verdicts["answer"])[:300],
        "study": results.study,
        "study_hash": results.study_sha256[:12],
        "version": _version(),
        "numbers": {key: i for i, key in enumerate(keys, 1)},
        "drawings": {d.key: d for d in drawings},
        "keys": lambda start: [k for k in keys if k == start or k.startswith(start + "-")],
        "inline": lambda d: Markup(svg.for_page(d.svg, prefix=d.key, alt=d.alt)),
        "data_uri": data_uri,
        "spark": partial(spark, scale=reach(results.claims)),
        "statements": view.statements,
        "legend": lambda: legend(results.study.orderings) if html else "",
        "glyphs": view.GLYPHS,
        "unit_words": unit_words,
        "measure_words": captions.measure_words,
        **_words(results, made),
        **_tables(results, made, environment.filters),
    }


def _words(results: Results, made: Provenance) -> dict[str, Any]:
    library = view.library()
    verdicts = results.verdicts
    return {
        "notices": view.notices(results, made),
        "facts": view.facts(results, made),
        "answer": verdicts["answer"],
        "source": {"name": "A source", "about": ""} | dict(verdicts.get("source") or {}),
        "others": library["others"],
        "references": library["references"],
        "grid_sentence": view.grid_sentence(results, made),
        "limits": view.limits(results, made),
        "advice": view.advice(results),
        "notes": verdicts.get("notes", []),
        "commands": view.commands(results),
        "cost_sentence": view.cost_sentence(results, made),
        "level": verdicts["level"],
        "n_seeds": verdicts["n_seeds"],
        "smallest_p": verdicts.get("smallest_p"),
    }


def _tables(results: Results, made: Provenance, show: Mapping[str, Any]) -> dict[str, Any]:
    present = {v["verdict"] for v in results.claims}
    return {
        "claims": results.claims,
        "families": view.families(results),
        "verdict_words_present": [w for w in view.VERDICT_WORDS if w in present],
        "verdict_rank": {w: i for i, w in enumerate(view.VERDICT_WORDS)},
        "grid": view.grid(results),
        "recipe": view.recipe(results),
        "variants": view.variants(results),
        "survival": view.survival(results),
        "thresholds": [f"{t:g}" for t in results.study.thresholds],
        "model": view.model(results),
        "exploration": view.exploration(results, show),
        "why": lenses.page(results),
        "otherwise": ladder.page(results),
        "provenance_rows": view.provenance_rows(results, made),
        "arms": view.arms(results, made),
        "missing": results.missing,
    }


def said(text: str) -> Markup:
    """A generated sentence as markup: p in italics, numbers kept with their units."""
    kept = re.sub(
        r"\b(p|n) (=|&lt;) ([\d.,]*\d)",
        r'<span class="nowrap"><i>\1</i> \2 \3</span>',
        str(escape(text)),
    )
    return Markup(re.sub(r"(\d) (%|percentage)", r"\1&nbsp;\2", kept))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def contents(body: str) -> list[dict[str, Any]]:
    """The table of contents: every h2 with an id, and the h3 beneath it."""
    entries: list[dict[str, Any]] = []
    for level, name, words in re.findall(r'<h([23]) id="([^"]+)">(.*?)</h\1>', body, re.S):
        plain = unescape(re.sub(r"<[^>]+>", "", words)).strip()
        entry = {"id": name.removeprefix("h-"), "words": plain, "under": []}
        if level == "2":
            entries.append(entry)
        elif entries:
            entries[-1]["under"].append(entry)
    return entries


def policy(script: str) -> str:
    """The page's content security policy: nothing from anywhere, and this one script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def data_uri(drawing: Drawing) -> str:
    encoded = base64.b64encode(drawing.data.encode()).decode()
    return f"data:text/csv;charset=utf-8;base64,{encoded}"


def _style(medium: Medium) -> str:
    if medium == "pdf":
        return _read("pdf.css")
    light = "".join(f"--o-{o}:{c[0]};" for o, c in look.COLOURS.items())
    dark = "".join(f"--o-{o}:{c[1]};" for o, c in look.COLOURS.items())
    night = (
        "color-scheme:dark;--paper:#15171a;--ink:#e8e6e1;--soft:#b3b0a8;--rule:#3d4046;"
        "--band:#2e3138;--wash:#1f2227;--link:#8ec5ff;--focus:#ffb066;--good:#7fd79b;"
        f"--bad:#ff9d94;--small:#a9c4f5;--open:#f0c36a;--none:#b3b0a8;{dark}"
    )
    colours = (
        f":root{{{light}}}"
        f"@media screen and (prefers-color-scheme:dark)"  # never in print: paper is white
        f"{{:root:not([data-scheme=light]){{{night}}}}}"
        f"@media screen{{:root[data-scheme=dark]{{{night}}}}}"
    )
    return _read("screen.css").replace("/*colours*/", colours)


def _read(name: str) -> str:
    return (look.TEMPLATES / name).read_text(encoding="utf-8")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("bnorder")
    except PackageNotFoundError:
        return ""
