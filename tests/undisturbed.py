"""What a study's tables must equal, whatever happened on the way: those of a run left in peace."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

# Of every record, only these may differ from one run to the next.
TIMES = ["wall_seconds", "train_seconds", "evaluate_seconds", "images_per_second"]

STUDY = {
    "title": "A study that is disturbed",
    "datasets": ["digits"],
    "orderings": ["bn-act-conv", "act-bn-conv"],
    "activations": ["relu"],
    "depths": [1, 2],
    "recipe": {"epochs": 1, "train_images": 256, "width": 4},
    "thresholds": [20, 90],
}


def write_study(project: Path, name: str, **changes: object) -> None:
    path = project / "studies" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"name": name} | changes), encoding="utf-8")


def timeless(study: Path) -> dict[str, bytes]:
    """A study's tables as bytes, without their times; `study` is its folder in results/."""
    runs = pd.read_parquet(study / "tables/runs.parquet").drop(columns=TIMES)
    curves = pd.read_parquet(study / "tables/curves.parquet")
    tables = {"runs": runs.to_csv(index=False), "curves": curves.to_csv(index=False)}
    missing = (study / "tables/missing.json").read_bytes()
    return {name: text.encode() for name, text in tables.items()} | {"missing": missing}


def tables_left_in_peace(
    project: Path, environment: dict[str, str], name: str, cores: int = 2
) -> dict[str, bytes]:
    """The tables of a study that runs on this machine, to its tables only; its results go."""
    target = f"results/{name}/tables/runs.parquet"
    command = [sys.executable, "-m", "snakemake", f"--cores={cores}", target, "--config"]
    done = subprocess.run(
        [*command, f"study={name}"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    tables = timeless(project / "results" / name)
    (project / "results" / name).rename(project / "results" / f"{name}-left-in-peace")
    return tables
