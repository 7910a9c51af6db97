"""The report's markup as a tagged PDF, the same bytes from the same text."""

import datetime
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bnorder.errors import UserError

if TYPE_CHECKING:
    import weasyprint

IDENTIFIER = b"bnorder-report"  # fixed, so that two builds are the same bytes


def write_pdf(
    markup: str, images: Mapping[str, bytes], tables: Mapping[str, bytes] | None = None
) -> bytes:
    """Lay out the document for A4; tagged, with bookmarks, metadata and embedded fonts.

    images: SVG by name, for `figure:NAME` in the markup. Nothing else is fetched but our own
    fonts. tables: files to attach by name; the PDF is then the archive's edition (PDF/A-3) in
    place of the accessible one. Raises UserError when the system lacks pango.
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
        pdf_variant="pdf/a-3u" if attached else "pdf/ua-1",
        pdf_identifier=IDENTIFIER,
        attachments=attached or None,
        custom_metadata=False,
    )
    return pdf


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
