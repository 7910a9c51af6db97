"""Where a study's time goes: training steps, evaluation, probes, and everything else.

    python benchmarks/study.py --run quick          run it from nothing in a copy, then measure
    python benchmarks/study.py --run article --keep DIR     the copy stays in DIR, an empty folder
    python benchmarks/study.py results/article      measure a study that has been run

Seconds are wall seconds of each process, summed over processes: training, evaluation and probing
as the records have them, the rest from Snakemake's benchmark files of the jobs. A study that was
killed and resumed counts what its last attempts took.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bnorder.errors import exit_cleanly

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", type=Path, help="folders of studies that were run")
    parser.add_argument("--run", nargs="*", default=[], metavar="STUDY", help="studies to run")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="make the copies here, and leave them"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/study.csv"))
    arguments = parser.parse_args()

    import pandas as pd

    tables = [pd.DataFrame(rows_of(folder)) for folder in arguments.results]
    for study in arguments.run:
        with tempfile.TemporaryDirectory(prefix="bnorder-study-") as scratch:
            folder = arguments.keep / study if arguments.keep else Path(scratch)
            if folder.exists() and any(folder.iterdir()):
                parser.error(f"{folder} is not empty; expected a folder to make the copy in")
            tables.append(pd.DataFrame(run(study, folder)))
    if not tables:
        parser.error("name a results folder, or a study to --run")
    if arguments.out.exists():
        old = pd.read_csv(arguments.out)
        new = pd.concat(tables)["study"]
        tables.insert(0, old[~old["study"].isin(new)])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(arguments.out, index=False)
    print(table.drop(columns=["device", "torch"]).to_string(index=False))


def run(study: str, folder: Path) -> list[dict[str, Any]]:
    """`make report` of a study in an empty copy of the project, timed from outside."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, tracked.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target, follow_symlinks=False)
    print(f"{study}: running, minutes or more ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    command = ["make", "report", f"STUDY={study}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return rows_of(folder / "results" / study, time.monotonic() - start)


def rows_of(folder: Path, wall_seconds: float | None = None) -> list[dict[str, Any]]:
    """One row a part of the study's work."""
    import pandas as pd

    runs = pd.read_parquet(folder / "tables" / "runs.parquet")
    missing = json.loads((folder / "tables" / "missing.json").read_text())
    jobs = {path: seconds_of(path) for path in sorted(folder.glob("benchmarks/**/*.tsv"))}
    training = {path: s for path, s in jobs.items() if path.parent.name == "train"}
    if not training:
        raise SystemExit(
            f"{folder}: no benchmark files of training jobs; expected a study run here"
        )
    counted = {name: float(runs[f"{name}_seconds"].sum()) for name in ("train", "evaluate")}
    probed = float(runs["probe_seconds"].sum()) if "probe_seconds" in runs else 0.0
    in_runs, in_jobs = float(runs["wall_seconds"].sum()), sum(training.values())
    parts = {
        "training steps": counted["train"],
        "evaluation": counted["evaluate"],
        "probes": probed,
        "rest of the runs": in_runs - sum(counted.values()) - probed,
        "start of the jobs, data, records": in_jobs - in_runs,
    }
    parts |= {path.stem: seconds for path, seconds in jobs.items() if path not in training}
    total = sum(parts.values())
    common = {
        "study": folder.name,
        "runs": int(missing["present"]),
        "jobs": len(training),
        "wall_seconds": None if wall_seconds is None else round(wall_seconds, 1),
        "device": runs["device"].iloc[0],
        "torch": runs["torch"].iloc[0],
        "kernels": runs["kernels"].iloc[0],
    }
    return [
        common | {"part": part, "seconds": round(seconds, 1), "share": round(seconds / total, 4)}
        for part, seconds in parts.items()
    ]


def seconds_of(path: Path) -> float:
    """Wall seconds in a benchmark file of Snakemake."""
    head, row = path.read_text().splitlines()[:2]
    return float(dict(zip(head.split("\t"), row.split("\t"), strict=True))["s"])


if __name__ == "__main__":
    exit_cleanly(main)
