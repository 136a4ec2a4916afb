"""Conformations: how much of what the noise allows a latent tells, poses known and unknown, and against cryoDRGN."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoloom.data import read_particles
from cryoloom.data.mrc import write_volume
from cryoloom.evaluate.bench.hetero_peer import search_seconds, train_vae
from cryoloom.evaluate.bench.peers import Peer
from cryoloom.evaluate.bench.pictures import motion_picture
from cryoloom.evaluate.bench.result import Picture, goal
from cryoloom.evaluate.bench.runs import Evaluated, evaluated_run
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.heterogeneity import TrueConformations
from cryoloom.evaluate.latents import first_component
from cryoloom.physics.alignment import align_volume
from cryoloom.simulate.density import density_from_map
from cryoloom.solve.decode import Decoder

_OF_ORACLE = "|Spearman| of z with the coordinate, over the oracle's"
_AREA = "per-particle FSC area, mean"
_STATES = ("polnet_4v4r_10A", "polnet_4v4r_50S_10A", "polnet_4v4r_30S_10A")


@dataclass(frozen=True)
class Sizes:
    """Particles of a set, and of a small one; box and pixel size in Å of images, working box, passes, cryoDRGN.

    fast, equal: the feature grid and the network that is the peer's size. mixed_box, mixed_pixel_size: of the mixture.
    """

    particles: int = 10_000
    few: int = 1500
    box: int = 48
    pixel_size: float = 2.4
    working_box: int = 24
    passes: int = 8
    fast: str = "--field grid --network.width 32"
    equal: str = "--field mlp --network.width 256 --network.blocks 3 --encoder.width 32"
    dim: int = 256
    junk: float = 0.1
    mixed_box: int = 48
    mixed_pixel_size: float = 10.0
    motion_states: int = 50
    motion_box: int = 32
    peer_images: int = 16
    found_from: int = 5000
    found_box: int = 48
    cryodrgn: str = "cryodrgn"
    device: str = "cpu"


def hinge(book: Notebook) -> None:
    """The phantom opening in ten steps, with many images and with few."""
    s = book.sizes
    for name, n, goals in (("hinge", s.particles, goal(0.93, 0.99)), ("hinge-few", s.few, {})):
        _simulate(book, name, n)
        _report(book, f"Hinge, {n:,} images", _known(book, name), goals)
    book.notes.append(_about(book))


def adk(book: Notebook) -> None:
    """Adenylate kinase on its way from closed to open."""
    n = book.sizes.particles
    _simulate(book, "adk", n)
    _report(book, f"AdK path, {n:,} images", _known(book, "adk"), goal(0.93, 0.99))
    _draw(book, "adk", "hetero_adk.png")
    book.notes.append(_about(book))


def coefficients(book: Notebook) -> None:
    """What steps lose that compare some of the Fourier coefficients, and how much faster they are."""
    s = book.sizes
    _simulate(book, "adk", s.particles)
    every = _known(book, "adk-all", f"{s.fast} --train.coefficients 1", "adk")
    known = {"two fifths": _known(book, "adk"), "all": every}
    for share, run in known.items():
        book.row(f"AdK path, {share}: {_AREA}", run.number("per_particle_fsc_auc_mean"), better="higher")
        book.row(f"AdK path, {share}: images a second, training", _rate(run), "1/s", better="higher")
    book.notes.append(f"{_about(book)} Steps that compare two fifths of the coefficients, the default, or all of them.")


def against(book: Notebook, name: str, what: str) -> None:
    """cryoDRGN's train_vae and ours, with a network of the same size and with the feature grid, on the same files."""
    s, peer = book.sizes, Peer(book)
    _simulate(book, name, s.particles)
    theirs = train_vae(peer, f"data/{name}", s)
    known = {"the same network": _known(book, f"{name}-equal", s.equal, name), "feature grid": _known(book, name)}
    book.row(f"{what}, {peer.name} train_vae: {_OF_ORACLE}", theirs.correlation / _oracle(known["feature grid"]))
    book.row(f"{what}, {peer.name} train_vae: {_AREA}", theirs.area)
    book.row(f"{what}, {peer.name} train_vae: images a second, training", theirs.images_per_s, "1/s")
    for field, run in known.items():
        goals = goal(5, 20) if field == "feature grid" else goal(2, 4)
        book.row(f"{what}, ours, {field}: {_OF_ORACLE}", run.number("conformation_correlation_over_oracle"))
        area = run.number("per_particle_fsc_auc_mean") - theirs.area
        book.row(f"{what}, ours, {field}: {_AREA}, ours − theirs", area, **goal(0, 0.02))
        book.row(f"{what}, ours, {field}: images a second, over theirs", _rate(run) / theirs.images_per_s, "×", **goals)
    book.notes.append(
        f"{_about(book)} Both: true poses, z of one dimension, {s.passes} epochs, each program's own defaults for the "
        f"rest; theirs has {s.dim} units in its layers and so has our network of the same size."
    )


def mixture(book: Notebook) -> None:
    """70S, 50S and 30S ribosomes mixed, and images without a particle among them."""
    s, box = book.sizes, f"--box {book.sizes.mixed_box} --pixel-size {book.sizes.mixed_pixel_size:g}"
    maps = _on_one_grid(book)
    shape = f"{box} --snr 0.1 --shift 3 --seed 0 --particles {s.particles} --junk {s.junk:g}"
    book.bench.cryoloom("data/mixture", "simulate", *maps, *shape.split(), "-o", "data/mixture")
    run = _known(book, "mixture", f"{s.fast} --z-dim 2")
    what = f"70S, 50S, 30S, {s.particles:,} images"
    index = run.number("conformation_adjusted_rand_index")
    book.row(f"{what}: adjusted Rand index of k-means on z", index, **goal(0.9, 0.98))
    book.row(
        f"{what}, {100 * s.junk:g} % of them noise: area under ROC of junk_score",
        run.number("junk_auc"),
        **goal(0.95, 0.99),
    )
    book.notes.append(
        f"SNR 0.1 in {s.mixed_box} pixels of {s.mixed_pixel_size:g} Å, CTF, true poses; cropped to {s.working_box} "
        "pixels; 50S and 30S laid on the 70S first; z of two dimensions. Noise counts for the second row only."
    )


def unknown(book: Notebook, name: str, what: str) -> None:
    """Poses by loom, conformations by cryodrgn2 from there, its poses searched again at those."""
    s, n = book.sizes, book.sizes.found_from
    _simulate(book, f"{name}-{n}", n)
    data = f"data/{name}-{n}"
    loom = evaluated_run(book, data, f"{name}-loom", "loom", "--box", s.found_box, "--seed", 0)
    size = f"--z-dim 1 --box {s.found_box} {s.fast} --conform.passes {s.passes} --seed 0"
    found = evaluated_run(book, data, f"{name}-found", "cryodrgn2", "--init", f"{name}-loom", *size.split())
    for run, system in ((loom, "loom, one volume"), (found, "cryodrgn2 --z-dim 1 from it")):
        goals = goal(0.02, 0.005, "lower") if run is found else {}
        error = run.number("rotation_error_median")
        book.row(f"{what}, {system}: median ‖R−R̂‖²_F", error, **goals)
        book.row(f"{what}, {system}: whole run, wall", run.measured.seconds, "s")
    over = found.number("conformation_correlation_over_oracle")
    book.row(f"{what}, cryodrgn2: {_OF_ORACLE}", over, **goal(0.85, 0.97))
    book.row(f"{what}, cryodrgn2: {_AREA}", found.number("per_particle_fsc_auc_mean"))
    book.notes.append(f"{n:,} images. {_about(book, s.found_box)}")


def abinit(book: Notebook) -> None:
    """cryoDRGN's own way to both at once: what its search costs, which forbids the rest here."""
    s, peer, n = book.sizes, Peer(book), book.sizes.found_from
    _simulate(book, f"adk-{n}", n)
    seconds = search_seconds(peer, f"data/adk-{n}", s.peer_images)
    what = f"{peer.name} abinit --zdim 1, one epoch of search"
    book.row(f"{what}: an image, from {s.peer_images}", seconds, "s")
    book.row(f"{what}: {n:,} images", seconds * n / 3600, "h")
    book.notes.append(
        f"Box {s.box}, its defaults. It searches for several epochs, so that no machine of this size carries a set "
        "through; its maps and latents are therefore not in this table."
    )


def from_nothing(book: Notebook) -> None:
    """One continuous motion whose poses and conformations cryodrgn2 finds by itself."""
    s, n = book.sizes, book.sizes.found_from
    _simulate(book, "motion", n, s.motion_states)
    size = f"--z-dim 1 --box {s.motion_box} --conform.passes {s.passes} --seed 0"
    run = evaluated_run(book, "data/motion", "motion", "cryodrgn2", *size.split())
    what = f"Phantom opening, {n:,} images of {s.motion_states} states, cryodrgn2 --z-dim 1"
    book.row(f"{what}: {_OF_ORACLE}", run.number("conformation_correlation_over_oracle"), better="higher")
    book.row(f"{what}: the oracle's |Spearman|", _oracle(run), better="higher")
    book.row(f"{what}: median ‖R−R̂‖²_F", run.number("rotation_error_median"))
    book.row(f"{what}: {_AREA}", run.number("per_particle_fsc_auc_mean"), better="higher")
    book.row(f"{what}: whole run, wall", run.measured.seconds, "s")
    _draw(book, "motion", "cryodrgn2_fig5.png", found=True)
    book.notes.append(
        f"SNR 0.1 in {s.box} pixels of {s.pixel_size:g} Å, CTF, shifts within ±3 px; nothing is given. A positional "
        f"MLP, images cropped to {s.motion_box} pixels; poses are searched with one volume for all, then among "
        "conformations that linear components span; conformations are learnt at these. The paper shows a latent space "
        "and maps of 50,000 images, and no number."
    )


def _simulate(book: Notebook, name: str, particles: int, states: int = 10) -> None:
    s, out = book.sizes, f"data/{name}"
    molecule: tuple[object, ...] = ("phantom", "--states", states)
    if name.startswith("adk"):
        structure, path = (book.data(f"trajectories/adk/{file}") for file in ("adk_closed.pdb", "adk_dims.dcd"))
        molecule = (structure, "--trajectory", path)
    shape = f"--box {s.box} --pixel-size {s.pixel_size:g} --snr 0.1 --shift 3 --seed 0 --particles {particles}"
    book.bench.cryoloom(out, "simulate", *molecule, *shape.split(), "-o", out)


def _known(book: Notebook, run: str, field: str = "", data: str = "") -> Evaluated:
    """cryodrgn at the true poses of a set, which is called as the run where it is not named."""
    s = book.sizes
    size = f"{field or s.fast} --box {s.working_box} --train.passes {s.passes} --seed 0"
    size += "" if "--z-dim" in size else " --z-dim 1"
    return evaluated_run(book, f"data/{data or run}", run, "cryodrgn", "--poses", "known", *size.split(), truth=True)


def _report(book: Notebook, what: str, found: Evaluated, goals: dict[str, Any]) -> None:
    over = found.number("conformation_correlation_over_oracle")
    book.row(f"{what}: {_OF_ORACLE}", over, **{"better": "higher", **goals})
    book.row(f"{what}: the oracle's |Spearman|", _oracle(found))
    book.row(f"{what}: {_AREA}", found.number("per_particle_fsc_auc_mean"))
    book.row(f"{what}: images a second, training", _rate(found), "1/s")
    book.row(f"{what}: whole run, wall", found.measured.seconds, "s")


def _oracle(run: Evaluated) -> float:
    return run.number("oracle_conformation_correlation")


def _rate(run: Evaluated) -> float:
    return mean(line["images_per_s"] for line in run.metrics if line["stage"] == "train")


def _draw(book: Notebook, name: str, picture: str, found: bool = False) -> None:
    """Latents against the truth, and five maps along z beside the true ones of the same places.

    found: the run's poses are its own, so that its maps are first laid on the truth.
    """
    folder = book.bench.folder
    decoder = Decoder.of_run(folder / name)
    truth = read_particles(folder / f"data/{name}/truth/particles.star")
    true = TrueConformations.of(folder / f"data/{name}/truth", decoder.trained.box)
    coordinate = truth.column("conformation_coordinate").astype(float)
    which = truth.column("conformation").astype(int)
    along = first_component(decoder.z.numpy())
    along = along * np.sign(np.corrcoef(along, coordinate)[0, 1])
    order = along.argsort()
    chosen = order[(np.array([0.05, 0.275, 0.5, 0.725, 0.95]) * (len(order) - 1)).astype(int)]
    middle = [int(np.median(which[order[max(0, i - 100) : i + 100]])) for i in np.argsort(order)[chosen]]
    maps, truths = [decoder.volume(decoder.z[i]) for i in chosen], [true(k) for k in middle]
    if found:
        placed = align_volume(torch.stack(maps).mean(0), torch.stack(truths).mean(0))
        maps = [placed.apply(volume) for volume in maps]
    motion_picture(book.images / picture, along, coordinate, along[chosen], {"along z": maps, "truth": truths})
    caption = "Left: z against the true coordinate. Right: maps at five places along z, below them the true ones there."
    book.pictures.append(Picture(picture, caption))


def _on_one_grid(book: Notebook) -> list[str]:
    """The ribosome and its subunits, these laid on it, as files in the bench's folder."""
    s, whole, names = book.sizes, torch.zeros(0), []
    for name in _STATES:
        volume: Tensor = density_from_map(book.data(f"maps/{name}.mrc"), s.mixed_box, s.mixed_pixel_size)
        whole = whole if len(whole) else volume
        names.append(f"{name}.mrc")
        write_volume(book.bench.folder / names[-1], align_volume(volume, whole).volume, s.mixed_pixel_size)
    return names


def _about(book: Notebook, working_box: int = 0) -> str:
    s, working_box = book.sizes, working_box or book.sizes.working_box
    return (
        f"SNR 0.1 in {s.box} pixels of {s.pixel_size:g} Å, CTF, shifts within ±3 px, cropped to {working_box} "
        f"pixels. Feature grid, {s.passes} passes, then z settled. The oracle is the most likely coordinate of each "
        "image against the true volumes at the true poses: what the noise allows."
    )


def _pair(part: Callable[..., None]) -> dict[str, Callable[[Notebook], None]]:
    def of(name: str, what: str) -> Callable[[Notebook], None]:
        return lambda book: part(book, name, what)

    return {"hinge": of("hinge", "Hinge"), "adk": of("adk", "AdK path")}


_SCALES: dict[str, Any] = {
    "mini": Sizes(),
    "quick": Sizes(
        200,
        100,
        passes=1,
        dim=16,
        motion_states=4,
        peer_images=2,
        found_from=200,
        found_box=24,
        motion_box=24,
        equal="--field mlp --network.width 16",
    ),
}
KNOWN = Table(
    name="hetero-known-poses",
    title="Conformations, poses known",
    about="cryodrgn on motions of one coordinate and on a mixture, against what the noise allows and against cryoDRGN.",
    parts={
        "hinge": hinge,
        "adk": adk,
        "mixture": mixture,
        "coefficients": coefficients,
        **{f"against-{name}": part for name, part in _pair(against).items()},
    },
    scales=_SCALES,
)
FIG5 = Table(
    name="cryodrgn2-fig5",
    title="cryoDRGN2, Fig. 5: a continuous motion from nothing",
    about="Poses and conformations of one motion, both unknown, by cryodrgn2 alone.",
    parts={"motion": from_nothing},
    scales=_SCALES,
)
ABINITIO = Table(
    name="hetero-abinitio",
    title="Conformations, poses unknown",
    about="loom's poses, then conformations, on motions of one coordinate.",
    parts={**_pair(unknown), "abinit": abinit},
    scales=_SCALES,
)
