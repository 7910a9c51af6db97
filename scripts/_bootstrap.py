"""Imported first by every script: the library is found from wherever the script is started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
