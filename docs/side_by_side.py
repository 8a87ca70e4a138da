"""The picture in the README: one column per class, one row per arm, from a run's first image of each class.

python docs/side_by_side.py runs/fid docs/images/side_by_side.png
"""

import csv
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image


def main(run: Path, picture: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    arms, classes = list(metrics["arms"]), metrics["class_names"]
    with (run / arms[0] / "manifest.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    first = [next(row["file"] for row in rows if int(row["label"]) == label) for label in range(len(classes))]
    figure, axes = plt.subplots(len(arms), len(classes), figsize=(len(classes) * 0.8 + 1.6, len(arms) * 0.85))
    for row, arm in zip(axes, arms):
        for axis, file in zip(row, first):
            axis.imshow(Image.open(run / arm / file))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(arm.replace("_", "\n"), rotation=0, ha="right", va="center", fontsize=8)
    for axis, name in zip(axes[0], classes):
        axis.set_title(name, fontsize=7)
    figure.tight_layout(pad=0.4)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
