"""Verdicts, figures and provenance as one document: an HTML file and a tagged PDF.

The report computes no number: what it prints comes from the study's tables and analysis.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from bnorder import __version__, dictionary
from bnorder.files import write_atomically
from bnorder.language import Language, language
from bnorder.language.printing import FILTERS, OPEN, SHUT
from bnorder.report import exploration, ladder, lenses, look, svg, tracing, view
from bnorder.report.drawing import Drawing
from bnorder.report.figures import draw_all
from bnorder.report.fonts import Fonts, fonts_for
from bnorder.report.results import Results, files_of, load_results
from bnorder.report.spark import legend, reach, spark
from bnorder.study import load_study

Medium = Literal["html", "pdf"]
MOST_DATA = 150_000  # characters of a figure's table that the page itself holds


@dataclass(frozen=True)
class Report:
    """What was written."""

    html: Path
    pdf: Path
    figures: tuple[Path, ...]


def render(
    study_file: Path,
    tables: Path,
    analysis: Path,
    out: Path,
    *,
    lang: str = "en",
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Read a study's results and write report.html, report.pdf and figures/ into `out`.

    lang: en, or zh for report.zh.html, report.zh.pdf and figures.zh/. say: told of each step.
    Raises Untraced when a number of the page stands in no results file.
    """
    from bnorder.report.pdf import write_pdf

    study = load_study(study_file)
    results = load_results(study, study_file, tables, analysis, language(lang))
    drawings = draw_all(results)
    say(f"{len(drawings)} figures drawn")
    html = document(results, drawings, "html")
    quoted = fixed(results, len(drawings))
    tracing.check(html, tracing.Places(files_of(study_file, tables, analysis)), quoted)
    say("page written, its numbers traced to their files")
    images = {d.key: svg.for_pdf(d.svg) for d in drawings}
    printed = document(results, drawings, "pdf")
    pdf = write_pdf(printed, images)
    mine = "" if lang == "en" else f".{lang}"
    files = _write_figures(drawings, out / f"figures{mine}")
    write_atomically(out / f"report{mine}.html", html.encode("utf-8"))
    write_atomically(out / f"report{mine}.pdf", pdf)
    return Report(out / f"report{mine}.html", out / f"report{mine}.pdf", tuple(files))


def render_archive(
    study_file: Path, tables: Path, analysis: Path, out: Path, *, lang: str = "en"
) -> Path:
    """Write report-archive.pdf: PDF/A-3 with the study, its tables (CSV) and verdicts attached."""
    from bnorder.report.pdf import write_pdf

    results = load_results(load_study(study_file), study_file, tables, analysis, language(lang))
    drawings = draw_all(results)
    images = {d.key: svg.for_pdf(d.svg) for d in drawings}
    attached = _tables_of(study_file, tables, analysis)
    pdf = write_pdf(document(results, drawings, "pdf"), images, attached)
    path = out / f"report-archive{'' if lang == 'en' else f'.{lang}'}.pdf"
    write_atomically(path, pdf)
    return path


def fixed(results: Results, figures: int = 0) -> tracing.Fixed:
    """The texts whose numbers report nothing: the language's own, names, and quotations."""
    return tracing.Fixed([*results.words.fixed(), *view.names(results, figures)])


def _tables_of(study_file: Path, tables: Path, analysis: Path) -> dict[str, bytes]:
    """The study, its tables and what their columns mean, as text files by name."""
    files = [study_file, *sorted(tables.glob("*.csv")), *sorted(analysis.glob("*.csv"))]
    files += sorted(analysis.glob("*.json"))
    content = {file.name: file.read_bytes() for file in files}
    return content | {"data-dictionary.md": dictionary.as_markdown().encode()}


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
    title, caption = (
        re.sub(r"([\\*_`|])", r"\\\1", tracing.plain(t)) for t in (drawing.title, drawing.caption)
    )
    return f"**{title}**\n\n{caption}\n\nData: {drawing.key}.csv beside it, {drawing.rows} rows.\n"


def document(results: Results, drawings: Sequence[Drawing], medium: Medium) -> str:
    """The report as one HTML text, for a browser or for the PDF."""
    environment = _environment(results)
    context = _context(results, drawings, medium)
    body = environment.get_template("body.html.j2").render(context)
    script = _script(results.words) if medium == "html" else ""
    page = environment.get_template("report.html.j2").render(
        context,
        body=Markup(body),
        toc=contents(body),
        css=Markup(_style(medium, results.words)),
        script=Markup(script),
        csp=policy(script),
    )
    return tracing.as_markup(page, traced=medium == "html")


def _environment(results: Results) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(look.TEMPLATES),
        autoescape=True,  # always: a study's title is anyone's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    environment.filters |= {"slug": look.slug, "sentence": results.words.capital}
    environment.filters["said"] = partial(said, quoted=fixed(results))
    return environment


def _context(results: Results, drawings: Sequence[Drawing], medium: Medium) -> dict[str, Any]:
    keys, words, html = [d.key for d in drawings], results.words, medium == "html"
    return {
        "html": html,
        "words": words,
        "t": partial(_text, words),
        "title": words.own(results.study.title)
        or words.say("title.default", study=results.study.name),
        "description": " ".join(results.said["answer"])[:300],
        "study": results.study,
        "study_hash": results.study_sha256[:12],
        "version": __version__,
        "numbers": {key: i for i, key in enumerate(keys, 1)},
        "drawings": {d.key: d for d in drawings},
        "keys": lambda start: [k for k in keys if k == start or k.startswith(start + "-")],
        "inline": lambda d: Markup(svg.for_page(d.svg, prefix=d.key, alt=d.alt)),
        "data_uri": data_uri,
        "spark": partial(spark, scale=reach(results.claims)),
        "statements": view.statements,
        "legend": lambda: legend(results.study.orderings, words) if html else "",
        "glyphs": view.GLYPHS,
        "dataset_words": lambda dataset: look.dataset_words(dataset, words),
        "measure_words": lambda measure: look.measure_words(measure, words),
        **_words(results),
        **_tables(results),
    }


def _text(words: Language, key: str, /, **fields: object) -> Markup:
    """A text of the language, which may hold markup; its fields may not."""
    return Markup(words.templates[key]).format(**fields)


def _words(results: Results) -> dict[str, Any]:
    library = view.library(results.words)
    verdicts, quoted = results.verdicts, fixed(results)
    around = {k: v for k, v in verdicts.items() if k not in ("verdicts", "translations")}
    headline = [v for v in results.claims if v["id"] == verdicts["headline"]]
    about = {"name": results.words.say("a_source"), "about": ""}
    return {
        "notices": view.notices(results),
        "facts": view.facts_line(results),
        "answer": [
            said(s, headline, around, results.claims, quoted=quoted) for s in results.said["answer"]
        ],
        "source": about | dict(results.said.get("source") or {}),
        "others": library["others"],
        "references": library["references"],
        "grid_sentence": view.grid_sentence(results),
        "limits": view.limits(results),
        "caveats": [said(c, around, quoted=quoted) for c in results.said["caveats"]],
        "advice": view.advice(results),
        "notes": results.said["notes"],
        "headline": verdicts["headline"],
        "claims_file": verdicts["claims_file"],
        "commands": view.commands(results),
        "cost_sentences": view.cost_sentences(results),
        "level": verdicts["level"],
        "n_seeds": verdicts["n_seeds"],
        "smallest_p": verdicts["smallest_p"],
    }


def _tables(results: Results) -> dict[str, Any]:
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
        "thresholds": results.settings.get("thresholds") or results.study.thresholds,
        "model": view.model(results),
        "exploration": exploration.tables(results),
        "why": lenses.page(results),
        "otherwise": ladder.page(results),
        "provenance_rows": view.provenance_rows(results, __version__),
        "plan": view.plan(results),
        "planned": {row["id"]: row for row in view.plan(results)},
        "arms": view.arms(results),
        "arms_left_out": len(results.table("arms")) > view.MOST_ARMS,
        "missing": results.missing[: view.MOST_MISSING],
        "missing_left_out": len(results.missing) > view.MOST_MISSING,
    }


# What a contrast lists seed by seed and arm by arm: no sentence says these numbers.
UNSAID = ("values", "seeds", "plus", "minus", "plan")


def said(text: str, *nodes: Any, quoted: tracing.Fixed | None = None) -> Markup:
    """A generated sentence as markup: p in italics, numbers kept with their units.

    nodes: where the sentence has its numbers from; those that it prints are traced to there.
    """
    if nodes:
        numbers = [n for node in nodes for n in tracing.numbers_in(node, UNSAID)]
        text = tracing.link(text, numbers, quoted or tracing.Fixed([]))
    kept = re.sub(
        rf"\b([pn]) (?:(=) )?(?=[\d.{OPEN}]|&lt;)",
        lambda m: f"<i>{m[1]}</i>&nbsp;" + ("=&nbsp;" if m[2] else ""),
        str(escape(text)),
    )
    return Markup(re.sub(rf"([\d{SHUT}]) (%|percentage)", r"\1&nbsp;\2", kept))


def _script(words: Language) -> str:
    """The page's script with the few words that it says."""
    keys = {
        "system": "scheme",
        "light": "scheme.light",
        "dark": "scheme.dark",
        "count": "verdicts.count",
        "highlight": "highlight",
        "enlarge": "figure.enlarge",
        "enlargeLabel": "figure.enlarge_label",
        "enlarged": "figure.enlarged",
        "close": "figure.close",
    }
    said_by_script = {name: words.templates[key] for name, key in keys.items()}
    return _read("report.js").replace("/*words*/{}", json.dumps(said_by_script, ensure_ascii=False))


def contents(body: str) -> list[dict[str, Any]]:
    """The table of contents: every h2 with an id, and the h3 beneath it."""
    entries: list[dict[str, Any]] = []
    for level, name, words in re.findall(r'<h([23]) id="([^"]+)">(.*?)</h\1>', body, re.S):
        plain = tracing.plain(unescape(re.sub(r"<[^>]+>", "", words))).strip()
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
    """The figure's table as a link's target; none for a large one, which its file has."""
    if len(drawing.data) > MOST_DATA:
        return ""
    return "data:text/csv;charset=utf-8," + quote(drawing.data, safe=",:;()+=@/")


def _style(medium: Medium, words: Language) -> str:
    if medium == "pdf":
        css = re.sub(r'"(page\.\w+)"', lambda m: f'"{words.templates[m[1]]}"', _read("pdf.css"))
        return _with_fonts(css, fonts_for(words.tag))
    light = "".join(f"--o-{o}:{c[0]};" for o, c in look.COLOURS.items())
    dark = "".join(f"--o-{o}:{c[1]};" for o, c in look.COLOURS.items())
    night = (
        "color-scheme:dark;--paper:#15171a;--ink:#e8e6e1;--soft:#b3b0a8;--rule:#3d4046;"
        "--band:#2e3138;--wash:#1f2227;--shade:#ffffff4d;--link:#8ec5ff;--focus:#ffb066;--good:#7fd79b;"
        f"--bad:#ff9d94;--small:#a9c4f5;--open:#f0c36a;--none:#b3b0a8;{dark}"
    )
    colours = (
        f":root{{{light}}}"
        f"@media screen and (prefers-color-scheme:dark)"  # never in print: paper is white
        f"{{:root:not([data-scheme=light]){{{night}}}}}"
        f"@media screen{{:root[data-scheme=dark]{{{night}}}}}"
    )
    return _read("screen.css").replace("/*colours*/", colours)


def _with_fonts(css: str, fonts: Fonts | None) -> str:
    """The style sheet with the language's own fonts behind the project's."""
    if fonts is None:
        return css
    behind = {'"Report Serif"': fonts.serif, '"DejaVu Sans"': fonts.sans}
    behind['"DejaVu Sans Mono"'] = fonts.sans
    lines = css.split("\n")
    for own, family in behind.items():
        lines = [
            line if line.startswith("@font-face") else line.replace(own, f'{own}, "{family}"')
            for line in lines
        ]
    return "\n".join(lines)


def _read(name: str) -> str:
    return (look.TEMPLATES / name).read_text(encoding="utf-8")
