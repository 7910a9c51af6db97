"""A matplotlib SVG made fit for the report: its own ids, the page's colours, and few elements."""

import itertools
import re
from html import escape
from xml.etree import ElementTree as ET

from bnorder.report import look

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
# what a figure's fixed colours are called in the page's style sheet
CSS_NAMES = {look.INK: "currentColor", look.RULE: "var(--rule)", look.BAND: "var(--band)"} | {
    colours[0]: f"var(--o-{ordering})" for ordering, colours in look.COLOURS.items()
}
CSS_NAMES[look.PAPER] = "var(--paper)"
_COLOUR = re.compile("|".join(CSS_NAMES))
COORDINATES = {"d", "x", "y", "points"}  # in points, where a hundredth is finer than any screen
_FINE = re.compile(r"-?\d+\.\d{3,}")
_FONT = re.compile(r"font-family: [^;]+;? ?")


def for_page(svg: str, *, prefix: str, alt: str) -> str:
    """Markup to stand in an HTML page, its alternative text as a label.

    prefix: keeps the drawing's ids apart from other drawings'. Colours follow the page's scheme,
    and the sheet is left out: the page's own shows that there is more to scroll to.
    """
    root = _slim(svg)
    if root[0].get("style") == f"fill: {look.PAPER}":
        root.remove(root[0])
    for node in root.iter():
        for name in ("id", HREF, "clip-path"):
            if name in node.attrib:
                node.set(name, _own(node.attrib[name], prefix))
        if HREF in node.attrib:
            node.set("href", node.attrib.pop(HREF))
        if "style" in node.attrib:
            node.set(
                "style",
                _FONT.sub("", _COLOUR.sub(lambda m: CSS_NAMES[m[0]], node.get("style", ""))),
            )
    text = "".join(ET.tostring(child, encoding="unicode") for child in root)
    text = text.replace(' xmlns:ns0="http://www.w3.org/2000/svg"', "").replace("ns0:", "")
    box, label = root.get("viewBox", ""), escape(alt, quote=True)
    return f'<svg viewBox="{box}" role="img" aria-label="{label}">{text}</svg>'


def for_pdf(svg: str) -> bytes:
    """The drawing as an image of its own, with fixed colours and marks that share a path.

    A path for all the marks of a series is what makes the PDF quick: each `<use>` costs as much
    as a line of text.
    """
    root = _slim(svg)
    paths = {node.get("id"): node.get("d", "") for node in root.iter(SVG + "path")}
    for group in root.iter(SVG + "g"):
        _merge_marks(group, paths)
    image: bytes = ET.tostring(root, encoding="utf-8")
    return image


def _merge_marks(group: ET.Element, paths: dict[str | None, str]) -> None:
    marks = [node for node in group if node.tag == SVG + "use"]
    looks = {(node.get(HREF), node.get("style")) for node in marks}
    if len(marks) < 3 or len(looks) > 1 or len(marks) < len(group):
        return
    href, style = next(iter(looks))
    shape = paths.get((href or "")[1:], "")
    moved = [_moved(shape, float(n.get("x", "0")), float(n.get("y", "0"))) for n in marks]
    group[:] = [ET.Element(SVG + "path", {"d": " ".join(moved), "style": style or ""})]


def _moved(path: str, x: float, y: float) -> str:
    """A path of absolute coordinates, moved by (x, y)."""
    by = itertools.cycle((x, y))
    return " ".join(
        part if part.isalpha() else f"{float(part) + next(by):.2f}" for part in path.split()
    )


def _own(value: str, prefix: str) -> str:
    if "#" in value:
        return value.replace("#", f"#{prefix}-")
    return f"{prefix}-{value}"


def _slim(svg: str) -> ET.Element:
    """The drawing without metadata, unused ids and groups that group nothing."""
    root = ET.fromstring(svg)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    _visit(root, used)
    return root


def _visit(parent: ET.Element, used: set[str]) -> None:
    children: list[ET.Element] = []
    for child in parent:
        if child.tag in {SVG + "metadata", SVG + "style", SVG + "title"}:
            continue
        _visit(child, used)
        _mend(child, used)
        empty = child.tag in {SVG + "g", SVG + "defs"} and not len(child)
        if child.tag == SVG + "g" and not child.attrib:
            children += child
        elif not empty:
            children.append(child)
    parent[:] = children
    parent.text = parent.text.strip() if parent.text and parent.tag != SVG + "text" else parent.text
    parent.tail = None


def _mend(node: ET.Element, used: set[str]) -> None:
    name = node.attrib.pop("id", "")
    if name.startswith("o:"):
        node.set("data-o", name[2:])
    elif name in used:
        node.set("id", name)
    if node.get("transform", "").startswith("rotate(-0 "):
        del node.attrib["transform"]
    for name in COORDINATES & node.attrib.keys():
        shorter = _FINE.sub(
            lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), node.attrib[name]
        )
        node.set(name, re.sub(r"\s+", " ", shorter).strip())
