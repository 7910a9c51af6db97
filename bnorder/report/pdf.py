"""The report's markup as a tagged PDF, the same bytes from the same text."""

import datetime
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnorder.errors import UserError

if TYPE_CHECKING:
    import weasyprint

IDENTIFIER = b"bnorder-report"  # fixed, so that two builds are the same bytes


def write_pdf(
    markup: str, images: Mapping[str, bytes], tables: Mapping[str, bytes] | None = None
) -> bytes:
    """Lay out the document for A4; tagged, with bookmarks, metadata and embedded fonts.

    images: SVG by name, for `figure:NAME` in the markup. Nothing else is fetched but our own
    fonts. tables: files to attach by name; the PDF is then the archive's edition (PDF/A-3a, tagged
    as well) in place of the one for reading (PDF/UA-1). Raises UserError when pango is missing.
    """
    try:
        import weasyprint
    except OSError as error:
        raise UserError(
            f"the PDF needs the system library pango ({str(error).splitlines()[0]}); on Debian: "
            "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
        ) from None
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    document = weasyprint.HTML(string=markup, url_fetcher=_fetcher(images), base_url="report:/")
    long_ago = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # never the time of the build
    attached = [
        weasyprint.Attachment(
            file_obj=io.BytesIO(content),
            name=name,
            description=f"Table {name}",
            created=long_ago,
            modified=long_ago,
            relationship="Data",
        )
        for name, content in (tables or {}).items()
    ]
    pdf: bytes = document.write_pdf(
        pdf_variant="pdf/a-3a" if attached else "pdf/ua-1",
        finisher=_complete_tags,
        pdf_identifier=IDENTIFIER,
        attachments=attached or None,
        custom_metadata=False,
    )
    return pdf


def _complete_tags(_document: object, pdf: Any) -> None:
    """Mend what WeasyPrint 70 leaves out of the tags: a header's scope, a figure's box in points.

    Source: ISO 32000-1, 14.8.5.4.3 (BBox, in default user space) and 14.8.5.7 (Scope).
    """

    def named(reference: bytes) -> Any:
        return pdf.objects[int(reference.split()[0])]

    for element in pdf.objects:
        kind = element.get("S") if isinstance(element, dict) else None
        if kind == "/TH":
            section = named(named(element["P"])["P"])["S"]
            element["A"]["Scope"] = "/Column" if section == "/THead" else "/Row"
        elif kind == "/Figure":
            height = named(element["Pg"])["MediaBox"][3]
            x1, y1, x2, y2 = (pixels * 0.75 for pixels in element["A"]["BBox"])
            element["A"]["BBox"][:] = [x1, height - y2, x2, height - y1]


def _fetcher(images: Mapping[str, bytes]) -> "weasyprint.urls.URLFetcher":
    """Serves `font:NAME` from matplotlib's own fonts and `figure:NAME`; refuses all else."""
    import matplotlib
    from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

    fonts = {p.name: p for p in (Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf")}

    class OwnFiles(URLFetcher):  # type: ignore[misc]
        def fetch(self, url: str, headers: object = None) -> URLFetcherResponse:
            scheme, _, name = url.partition(":")
            if scheme == "font" and name in fonts:
                return URLFetcherResponse(
                    url, fonts[name].read_bytes(), {"Content-Type": "font/ttf"}
                )
            if scheme == "figure" and name in images:
                return URLFetcherResponse(url, images[name], {"Content-Type": "image/svg+xml"})
            raise FatalURLFetchingError(f"the report may not fetch {url[:80]}")

    return OwnFiles()
