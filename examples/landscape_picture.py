"""One picture of a run's conformations: latent space, and the molecule along its first component.

cryoloom analyze run
python examples/landscape_picture.py run docs/images/landscape.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from cryoloom.evaluate.film import frames
from cryoloom.evaluate.landscape import read_landscape

INK = "#24303c"


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run that `cryoloom analyze` has been over")
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    found = read_landscape(arguments.run)
    if found is None:
        raise SystemExit(f"{arguments.run} has no analysis: `cryoloom analyze {arguments.run}` first.")
    figure = plt.figure(figsize=(11, 4.2), dpi=130)
    grid = figure.add_gridspec(2, 5, width_ratios=(2.3, 1, 1, 1, 1), wspace=0.05, hspace=0.12)
    axes = figure.add_subplot(grid[:, 0])
    table = found.particles
    axes.scatter(table["pc1"], table["pc2"], c=table["cluster"] % 10, cmap="tab10", s=3, alpha=0.7, linewidths=0)
    centres = table.iloc[found.clusters["particle"]]
    for _, row in centres.iterrows():
        axes.annotate(
            int(row["cluster"]), (row["pc1"], row["pc2"]), ha="center", va="center", fontsize=8, color=INK,
            bbox={"boxstyle": "circle,pad=0.25", "fc": "white", "ec": INK, "lw": 0.6},
        )  # fmt: skip
    axes.set_xlabel("pc1", color=INK)
    axes.set_ylabel("pc2", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    pictures = frames([torch.from_numpy(volume) for volume in found.maps["pc1"]], 360)
    chosen = [round(i * (len(pictures) - 1) / 3) for i in range(4)]
    for column, number in enumerate(chosen):
        picture = pictures[number]
        side = picture.shape[0]
        for row, view in enumerate((picture[:, :side], picture[:, side:])):
            cell = figure.add_subplot(grid[row, column + 1])
            cell.imshow(view, interpolation="lanczos")
            cell.set_axis_off()
            if row == 0:
                cell.set_title(f"pc1, {number + 1} of {len(pictures)}", fontsize=9, color=INK)
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.picture, bbox_inches="tight")
    print(f"wrote {arguments.picture}")


if __name__ == "__main__":
    main()
