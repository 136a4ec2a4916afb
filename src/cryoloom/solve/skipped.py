"""Images that a run leaves out as they cannot be used: found once, and written down for when the run is resumed."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cryoloom.data.checks import count_images
from cryoloom.data.particles import Particles
from cryoloom.data.pixels import FAULTS
from cryoloom.errors import InputError
from cryoloom.solve.run import SKIPPED
from cryoloom.solve.team import Team

COLUMNS = ("particle", "image", "file", "reason")


def find_unusable(particles: Particles, team: Team) -> pd.DataFrame:
    """One row for each image that cannot be used: `COLUMNS`, particle and image counted from 1; reads all images."""
    own = team.share(torch.arange(len(particles))).numpy()
    counted = team.agree(lambda: count_images(particles, own))
    fault = torch.zeros(len(particles), dtype=torch.long)
    fault[torch.from_numpy(counted.rows)] = torch.from_numpy(counted.fault)
    fault = team.add([fault])[0].numpy()
    rows = np.flatnonzero(fault)
    table = particles.table.iloc[rows]
    reasons = [FAULTS[number] for number in fault[rows]]
    values = (table["source_row"] + 1, table["image_index"] + 1, table["image_file"].astype(str), reasons)
    return pd.DataFrame({name: np.asarray(column) for name, column in zip(COLUMNS, values, strict=True)})


def without(particles: Particles, skipped: pd.DataFrame) -> Particles:
    """The particles less those that `skipped` lists."""
    return particles.subset(~np.isin(particles.column("source_row") + 1, skipped["particle"].to_numpy()))


def read_skipped(run: Path) -> pd.DataFrame:
    """What `find_unusable` found when the run in folder `run` began; raises InputError where the list is gone."""
    try:
        return pd.DataFrame(pd.read_csv(run / SKIPPED).astype({"particle": np.int64}), columns=pd.Index(COLUMNS))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{run / SKIPPED} cannot be read: it lists the images that the run leaves out; put it back, or start a new "
            "run."
        ) from error


def in_words(skipped: pd.DataFrame, n: int, shown: int = 5) -> list[str]:
    """Sentences on what was left out of `n` images, the first `shown` by name."""
    if skipped.empty:
        return [f"all {n:,} images can be used: none is left out"]
    lines = [f"{len(skipped):,} of {n:,} images cannot be used and are left out:"]
    first = skipped.head(shown).itertuples(index=False)
    lines += [f"particle {particle}: image {image} of {file} {reason}" for particle, image, file, reason in first]
    return lines if len(skipped) <= shown else [*lines, f"and {len(skipped) - shown:,} more"]
