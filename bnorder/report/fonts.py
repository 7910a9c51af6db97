"""Which fonts on this machine have a language's characters, asked of fontconfig."""

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

from bnorder.errors import UserError
from bnorder.language import Language


@dataclass(frozen=True)
class Fonts:
    """Families that stand behind the report's own fonts, and a file of the first for figures."""

    sans: str
    serif: str
    file: str


@cache
def fonts_for(tag: str) -> Fonts | None:
    """The fonts that a language needs beside the report's own; None where those have it all.

    tag: `<html lang>`. Raises UserError, naming the package, where this machine has none.
    """
    if not tag.startswith("zh"):
        return None
    sans, serif = _match("sans-serif", "zh-cn"), _match("serif", "zh-cn")
    if sans is None:
        raise UserError(
            "the Chinese report needs a font with Chinese characters, and fontconfig finds none; "
            "install one with `sudo apt-get install fontconfig fonts-noto-cjk` (macOS has one: "
            "`brew install fontconfig`), then rerun"
        )
    return Fonts(sans[0], serif[0] if serif else sans[0], sans[1])


def require_fonts(words: Language) -> None:
    """Raise UserError where the report's PDF would lack characters."""
    fonts_for(words.tag)


def _match(family: str, lang: str) -> tuple[str, str] | None:
    """The best family and its file, if it has the language's characters at all."""
    if shutil.which("fc-match") is None:
        return None
    asked = ["fc-match", "-f", "%{family[0]}\n%{file}\n%{lang}", f"{family}:lang={lang}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, encoding="utf-8")
    name, file, langs = (done.stdout.split("\n") + ["", "", ""])[:3]
    return (name, file) if lang in langs.split("|") else None
