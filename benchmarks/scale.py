"""What the workflow around the training costs as a study grows: 300, 10,000 and 100,000 runs.

Records are made up (with a fixed seed) and go through the real programs, each as a process of its
own: a dry run of the workflow, collect, analyse, render. Reported for each: wall seconds, peak
memory of the process, and bytes of the report.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tables

from bnorder.errors import exit_cleanly

ROOT = Path(__file__).resolve().parents[1]

ARMS = 30  # of the article's study
SEEDS_PER_JOB = 10
STEPS = (0, 29, 58, 117, 234, 351, 469, 703, 938, 1172, 1407, 1641, 1876, 2110, 2345)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scale.csv"))
    parser.add_argument("--runs", type=int, nargs="+", default=[300, 10_000, 100_000])
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    try:
        for runs in arguments.runs:
            with tempfile.TemporaryDirectory(prefix="bnorder-scale-") as folder:
                rows += measure(-(-runs // ARMS), Path(folder))
    finally:
        # Not before: it imports torch, whose memory would count as that of the processes above.
        if rows:
            tables.write(arguments.out, rows, tables.this_machine(), ["runs", "stage"])


def measure(seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Seconds and peak memory of each stage of a study with `seeds` seeds."""
    from bnorder.study import load_study

    changes = {"seeds": seeds, "seeds_per_job": SEEDS_PER_JOB}
    study = load_study(ROOT / "studies/article.yaml", changes)
    runs = len(study.runs())
    print(f"{runs:,} runs: making records ...", flush=True)
    make_records(study, folder)
    rows = []
    for stage, command in commands(study, folder).items():
        start = time.monotonic()
        peak = run_and_watch(command, folder / "log")
        seconds = time.monotonic() - start
        rows.append({"runs": runs, "stage": stage, "seconds": seconds, "peak_mb": peak})
        print(f"{runs:,} runs, {stage}: {seconds:.1f} s, {peak:.0f} MB", flush=True)
    html = (folder / "report" / "report.html").stat().st_size
    pdf = (folder / "report" / "report.pdf").stat().st_size
    return [row | {"html_bytes": html, "pdf_bytes": pdf} for row in rows]


def commands(study: Any, folder: Path) -> dict[str, list[str]]:
    python, scripts = sys.executable, ROOT / "scripts"
    yaml, read, analysis = folder / "study.yaml", folder / "tables", folder / "analysis"
    workdir = folder / "workflow"
    for name in ("bnorder", "claims", "report", "scripts", "studies", "workflow"):
        shutil.copytree(ROOT / name, workdir / name)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, workdir / name)
    (workdir / "profiles").symlink_to("workflow/profiles")
    override = [f"seeds={len(study.seeds)}", f"seeds_per_job={SEEDS_PER_JOB}"]
    dry = [python, "-m", "snakemake", "--directory", str(workdir), "--dry-run", "--quiet", "all"]
    dry += ["--config", "study=article", *override]
    collect = [python, scripts / "collect.py", "--study", yaml, "--records", folder / "records"]
    analyse = [python, scripts / "analyse.py", "--study", yaml, "--claims", ROOT / study.claims]
    analyse += ["--runs", read / "runs.parquet", "--curves", read / "curves.parquet"]
    render = [python, scripts / "render.py", "--study", yaml, "--tables", read]
    render += ["--analysis", analysis, "--out", folder / "report"]
    all_commands = {
        "dry run": dry,
        "collect": [*collect, "--out", read],
        "analyse": [*analyse, "--out", analysis],
        "render": render,
    }
    return {stage: [str(word) for word in command] for stage, command in all_commands.items()}


def run_and_watch(command: list[str], log: Path) -> float:
    """Run a command and give the peak memory of its process in MB; its output goes to `log`."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    return usage.ru_maxrss / 1024


def make_records(study: Any, folder: Path) -> None:
    """Made-up records of every run, with learning curves like real ones."""
    import numpy as np

    from bnorder.records import Cost, Evaluation, Provenance, Record, code_hash, write_text

    rng, code = np.random.default_rng(0), code_hash()
    cost, made_by = Cost(40.0, 35.0, 5.0, 5000.0, 1), Provenance("3", "2", "Linux", "CPU", 1)
    steps = np.array(STEPS)
    write_text(folder / "study.yaml", study.as_yaml())
    (folder / "records").mkdir()
    for job in study.jobs():
        lines = []
        for run in job.runs:
            counts = 9900 * (1 - np.exp(-steps / 60)) + rng.normal(0, 12, len(steps))
            losses = rng.random(len(steps))
            curve = tuple(
                Evaluation(s, s / 469, int(min(9999, max(0, c))), float(x), 1280, 1200, float(x))
                for s, c, x in zip(STEPS, counts, losses, strict=True)
            )
            config = study.config_hash(run.arm)
            record = Record(
                run, config, code, "0" * 64, "finished", None, 60000, 10000, 2345, 12345, curve,
                cost, made_by,
            )  # fmt: skip
            lines.append(record.as_line())
        (folder / "records" / f"{job.name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    exit_cleanly(main)
