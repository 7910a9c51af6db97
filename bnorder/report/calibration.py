"""The picture of `make calibrate`: how often verdicts on simulated studies are right."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from bnorder.files import replacing


def plot(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Wrong verdicts, power against prediction, and coverage, as one small figure."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bnorder"
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    wrong = pd.concat([tables["false_verdicts"], tables["margin_edges"]], ignore_index=True)
    labels = wrong["family"].fillna("edge: " + wrong["claim"].astype(str))
    left.scatter(100 * wrong["share"], labels, s=12, alpha=0.7)
    left.axvline(5, color="0.4", lw=1)
    left.set(xlabel="studies with a wrong verdict, % (line: 5)", xlim=(0, None))
    left.invert_yaxis()
    for skewed, group in tables["planted_effects"].groupby("skewed"):
        name = "skewed" if skewed else "normal"
        middle.scatter(100 * group["predicted"], 100 * group["share"], s=14, alpha=0.6, label=name)
    middle.axline((50, 50), slope=1, color="0.4", lw=1)
    middle.set(xlabel="predicted power, %", ylabel="right verdicts found, %")
    middle.legend(title="spread")
    held = tables["coverage"]
    right.scatter(100 * (held["share"] - held["nominal"]), held["interval"], s=12, alpha=0.7)
    right.axvline(0, color="0.4", lw=1)
    right.set(xlabel="coverage minus nominal, points")
    right.invert_yaxis()
    about = {"Title": "Calibration of the verdicts on simulated studies", "Date": None}
    with replacing(path) as partial:
        figure.savefig(partial, format="svg", metadata=about)
    plt.close(figure)
