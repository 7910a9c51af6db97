"""The benchmarks still run: rehearsed with tiny numbers, and nothing is timed here."""

import csv
import subprocess
import sys
from pathlib import Path

from bnorder import data


def test_the_gpu_measurements_are_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    cache = tmp_path / "digits.pt"
    data.save(data.prepare("digits"), cache)
    command = [sys.executable, "benchmarks/gpu.py", "--rehearse", "--rounds", "2"]
    command += ["--data", str(cache), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {path.stem: list(csv.DictReader(path.open())) for path in tmp_path.glob("*.csv")}
    assert set(rows) == {"checks", "training", "replicas", "article"}
    same = [row for row in rows["checks"] if row["captured_against"] != "bf16"]
    assert same and all(float(row["max_accuracy_difference_pp"]) < 0.5 for row in same)
    assert all(float(row["relative_error"]) < 1e-4 for row in rows["replicas"])
    assert float(rows["training"][0]["captured_per_tutorial"]) > 0
    assert int(rows["article"][0]["runs"]) == 2
