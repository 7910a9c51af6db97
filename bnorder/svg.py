"""A matplotlib SVG made fit to stand inside a page: own ids, page colours, no second alternative."""

import re
from html import escape
from typing import Literal

from bnorder import look

Medium = Literal["html", "pdf"]

# what a figure's fixed colours are called in the page's style sheet
CSS_NAMES = {look.INK: "currentColor", look.RULE: "var(--rule)", look.BAND: "var(--band)"} | {
    colours[0]: f"var(--o-{ordering})" for ordering, colours in look.COLOURS.items()
}
_COLOUR = re.compile("|".join(CSS_NAMES))
_REFERENCE = re.compile(r'(?:url\(|href=")#([^")]+)')


def inline(svg: str, *, prefix: str, alt: str, medium: Medium) -> str:
    """The drawing as markup for the page; `prefix` keeps its ids apart from other figures'.

    In HTML colours follow the page's scheme and the alternative text is a label; in the PDF they
    stay fixed and it is the `<title>`, which is what the tagged PDF reads.
    """
    opening, body = re.match(r".*?(<svg[^>]*>)(.*)</svg>", svg, re.S).groups()  # type: ignore[union-attr]
    body = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<title>.*?</title>", "", body, flags=re.S
    )
    used = set(_REFERENCE.findall(body))
    body = re.sub(r' id="([^"]+)"', lambda m: _identity(m[1], prefix, used), body)
    body = _REFERENCE.sub(lambda m: m[0].replace("#", f"#{prefix}-"), body)
    body = body.replace(f"fill: {look.PAPER}", "fill: var(--paper)") if medium == "html" else body
    body = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    width, height = (
        float(v) for v in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening).groups()
    )  # type: ignore[union-attr]
    box = f'viewBox="0 0 {width:g} {height:g}" xmlns:xlink="http://www.w3.org/1999/xlink"'
    if medium == "pdf":
        size = f'width="{width:g}pt" height="{height:g}pt" xmlns="http://www.w3.org/2000/svg"'
        return f"<svg {box} {size}><title>{escape(alt)}</title>{body}</svg>"
    body = _COLOUR.sub(lambda m: CSS_NAMES[m[0]], body)
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)
    body = body.replace("xlink:href", "href")
    label = escape(alt, quote=True)
    return f'<svg {box.partition(" xmlns")[0]} role="img" aria-label="{label}">{body}</svg>'


def _identity(name: str, prefix: str, used: set[str]) -> str:
    if name.startswith("o:"):
        return f' data-o="{name[2:]}"'
    return f' id="{prefix}-{name}"' if name in used else ""
