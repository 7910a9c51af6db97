"""The report's markup as a tagged PDF, the same bytes from the same text."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from bnorder.errors import UserError

if TYPE_CHECKING:
    import weasyprint

IDENTIFIER = b"bnorder-report"  # fixed, so that two builds are the same bytes


def write_pdf(markup: str) -> bytes:
    """Lay out the document for A4; tagged, with bookmarks, metadata and embedded fonts.

    Raises UserError when the system lacks pango. Nothing but our own fonts is ever fetched.
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
    document = weasyprint.HTML(string=markup, url_fetcher=_fetcher(), base_url="report:/")
    pdf: bytes = document.write_pdf(
        pdf_variant="pdf/ua-1",
        pdf_identifier=IDENTIFIER,
        custom_metadata=False,
    )
    return pdf


def _fetcher() -> "weasyprint.urls.URLFetcher":
    """Serves `font:NAME` from the fonts that matplotlib carries, and refuses everything else."""
    import matplotlib
    from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

    fonts = {p.name: p for p in (Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf")}

    class OwnFonts(URLFetcher):  # type: ignore[misc]
        def fetch(self, url: str, headers: object = None) -> URLFetcherResponse:
            font = fonts.get(url.removeprefix("font:"))
            if font is None:
                raise FatalURLFetchingError(f"the report may not fetch {url[:80]}")
            return URLFetcherResponse(url, font.read_bytes(), {"Content-Type": "font/ttf"})

    return OwnFonts()
