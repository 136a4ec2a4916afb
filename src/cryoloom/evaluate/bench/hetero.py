"""Conformations at known poses: how much of what the noise allows a latent tells."""

from dataclasses import dataclass
from typing import Any

from cryoloom.evaluate.bench.runs import Evaluated, evaluated_run
from cryoloom.evaluate.bench.tables import Notebook, Table

_GOALS: dict[str, Any] = {"must": 0.93, "aim": 0.99}


@dataclass(frozen=True)
class Sizes:
    """Particles of a set, and of a small one; box and pixel size in Å of images, working box, passes."""

    particles: int = 10_000
    few: int = 1500
    box: int = 48
    pixel_size: float = 2.4
    working_box: int = 24
    passes: int = 8
    device: str = "cpu"


def hinge(book: Notebook) -> None:
    """The phantom opening in ten steps, with many images and with few."""
    s = book.sizes
    _measure(book, "hinge", f"Hinge, {s.particles:,} images", s.particles, _GOALS, "phantom", "--states", 10)
    _measure(book, "hinge-few", f"Hinge, {s.few:,} images", s.few, {}, "phantom", "--states", 10)
    book.notes.append(_about(book))


def adk(book: Notebook) -> None:
    """Adenylate kinase on its way from closed to open."""
    path = ("--trajectory", book.data("trajectories/adk/adk_dims.dcd"))
    n, structure = book.sizes.particles, book.data("trajectories/adk/adk_closed.pdb")
    _measure(book, "adk", f"AdK path, {n:,} images", n, _GOALS, structure, *path)
    book.notes.append(_about(book))


def _measure(
    book: Notebook, name: str, what: str, particles: int, goals: dict[str, Any], *molecule: object
) -> Evaluated:
    s, data = book.sizes, f"data/{name}"
    shape = f"--box {s.box} --pixel-size {s.pixel_size:g} --snr 0.1 --shift 3 --seed 0 --particles {particles}"
    book.bench.cryoloom(data, "simulate", *molecule, *shape.split(), "-o", data)
    size = f"--z-dim 1 --box {s.working_box} --field grid --network.width 32 --train.passes {s.passes} --seed 0"
    found = evaluated_run(book, data, name, "cryodrgn", "--poses", "known", *size.split(), truth=True)
    over = found.number("conformation_correlation_over_oracle")
    book.row(f"{what}: |Spearman| of z with the coordinate, over the oracle's", over, better="higher", **goals)
    book.row(f"{what}: the oracle's |Spearman|", found.number("oracle_conformation_correlation"))
    book.row(f"{what}: per-particle FSC area, mean", found.number("per_particle_fsc_auc_mean"))
    rates = [line["images_per_s"] for line in found.metrics if line["stage"] == "train"]
    book.row(f"{what}: images a second, training", sum(rates) / len(rates), "1/s")
    book.row(f"{what}: whole run, wall", found.measured.seconds, "s")
    return found


def _about(book: Notebook) -> str:
    s = book.sizes
    return (
        f"SNR 0.1 in {s.box} pixels of {s.pixel_size:g} Å, CTF, shifts within ±3 px, true poses given; cropped to "
        f"{s.working_box} pixels. Feature grid, {s.passes} passes, then z settled. The oracle is the most likely "
        "coordinate of each image against the true volumes at the true poses: what the noise allows."
    )


_SCALES: dict[str, Any] = {"mini": Sizes(), "quick": Sizes(particles=200, few=100, passes=1)}
KNOWN = Table(
    name="hetero-known-poses",
    title="Conformations, poses known",
    about="cryodrgn with a feature grid on motions of one coordinate, against what the noise allows.",
    parts={"hinge": hinge, "adk": adk},
    scales=_SCALES,
)
