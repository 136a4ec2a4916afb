"""Tables 1 and 2 and Fig. 5 of CryoFormer: moving domains, coarse poses and flexible regions."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoloom.data import read_particles, read_volume, write_star
from cryoloom.evaluate.bench.hetero_peer import Vae
from cryoloom.evaluate.bench.measure import CommandError
from cryoloom.evaluate.bench.peers import Peer
from cryoloom.evaluate.bench.pictures import moving_picture
from cryoloom.evaluate.bench.result import Picture
from cryoloom.evaluate.bench.runs import reconstructed
from cryoloom.evaluate.bench.tables import Notebook, Skip, Table
from cryoloom.evaluate.fsc import fsc
from cryoloom.evaluate.heterogeneity import TrueConformations
from cryoloom.evaluate.latents import fsc_area
from cryoloom.evaluate.pose_error import pose_errors
from cryoloom.evaluate.regions import agreements_of, true_variability
from cryoloom.evaluate.truth import match_particles
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import matrix_from_rotvec
from cryoloom.solve.trained import read_latents, trained_field

# The receptor-binding domain of the open chain of 6VYB, and a chain whose domain is down.
_HINGE = ("--hinge", "B:331-527", "--hinge-like", "A")
_GRID = ("--network.width", 32)
_SNR = 0.1
# Rotation vectors are drawn from N(0, 0.1 I): 0.49 rad in the median. Shifts of ±10 and ±5 px are for a box of 128.
_COVARIANCE = 0.1
_PAPER_BOX, _PAPER_SHIFT, _PAPER_OFF = 128, 10.0, 5.0


@dataclass(frozen=True)
class Sizes:
    """How much of it is measured: box and pixel in Å of the spike's images, as published; working box; states.

    noisier: SNRs below 0.1, how many images of the spike there are at each, and passes over them. motion_box: of the
    images of the phantom, which shows all of its motion in a large one. box_ablated, passes_ablated: of the runs with
    parts taken out. states_each, particles_each: where three domains swing, steps of each and images. quick:
    settings of cryoformer that only try it. compiled: so is torch.compile.
    """

    particles: int = 2000
    image_box: int = 128
    pixel: float = 2.0
    box: int = 32
    motion_box: int = 32
    states: int = 10
    passes: int = 15
    noisier: tuple[tuple[float, int, int], ...] = ((0.01, 20_000, 2),)
    queries: tuple[int, ...] = (2, 4, 8)
    passes_moving: int = 10
    box_ablated: int = 24
    passes_ablated: int = 6
    states_each: int = 3
    particles_each: int = 3000
    quick: tuple[object, ...] = ()
    compiled: bool = True
    device: str = "cpu"
    cryodrgn: str = "cryodrgn"


def perturb(truth: Path, path: Path, covariance: float, shift_px: float, seed: int = 0) -> float:
    """Write true poses, turned by N(0, covariance · I) and moved by U[−shift, shift]², as a STAR file.

    Returns the median turn in radians.
    """
    particles = read_particles(truth / "particles.star")
    poses, generator = particles.poses(), torch.Generator().manual_seed(seed)
    turn = torch.randn(len(particles), 3, generator=generator) * math.sqrt(covariance)
    move = (2 * torch.rand(len(particles), 2, generator=generator) - 1) * shift_px * particles.pixel_size
    rotation = matrix_from_rotvec(turn) @ poses.best_rotation.float()
    write_star(path, particles, pose=Pose.single(rotation, poses.best_shift.float() + move))
    return float(turn.norm(dim=1).median())


@dataclass(frozen=True)
class Likeness:
    """Means over the maps of true conformations: resolution in Å (FSC 0.5 to the truth), area under the FSC.

    moving_resolution, moving: the same of maps times the true spread of each voxel, large where the molecule moves.
    """

    resolution: float
    moving_resolution: float
    area: float
    moving: float


def conformation_likeness(run: Path, truth: Path) -> Likeness:
    """How well the map at the mean feature of each true conformation's particles shows that conformation.

    The run's poses must be those of the truth.
    """
    columns = read_particles(run / "particles.star"), read_particles(truth / "particles.star")
    kind = columns[1].column("conformation").astype(int)[match_particles(*columns)]
    trained = trained_field(run)
    means = _means(read_latents(run).mean.numpy(), kind)
    volumes = {i: trained.field.volume(z=torch.from_numpy(z)) for i, z in means.items()}
    return _likeness(volumes, truth, trained.pixel_size)


def peer_likeness(vae: Vae, truth: Path) -> Likeness:
    """The same of cryoDRGN's maps, whose headers do not tell a pixel size."""
    particles = read_particles(truth / "particles.star")
    means = _means(vae.z, particles.column("conformation").astype(int))
    maps = [read_volume(path)[0] for path in vae.maps(np.stack(list(means.values())))]
    pixel_size = particles.pixel_size * particles.box / len(maps[0])
    return _likeness(dict(zip(means, maps, strict=True)), truth, pixel_size)


def _means(z: NDArray, kind: NDArray) -> dict[int, NDArray]:
    """Mean latent (Z,) of the particles of each conformation that has any, by its number."""
    return {int(i): z[kind == i].mean(0) for i in np.unique(kind)}


def _likeness(volumes: dict[int, Tensor], truth: Path, pixel_size: float) -> Likeness:
    trues = TrueConformations.of(truth, len(next(iter(volumes.values())))).stacked()
    pairs = [(_upright(volume, trues[i]), trues[i]) for i, volume in volumes.items()]
    curves = [fsc(a, b, pixel_size) for a, b in pairs]
    spread = trues.std(0)
    moving = [fsc(spread * a, spread * b, pixel_size) for a, b in pairs]
    resolutions = [mean(curve.resolution(0.5) for curve in some) for some in (curves, moving)]
    areas = [mean(fsc_area(curve.fsc.numpy()) for curve in some) for some in (curves, moving)]
    return Likeness(*resolutions, *areas)


def _upright(volume: Tensor, true: Tensor) -> Tensor:
    # A field has the contrast of its images.
    return volume * torch.sign((volume * (true - true.mean())).sum())


def simulated(book: Notebook, out: str, what: tuple[object, ...], snr: float = _SNR, shift: float = 0.0) -> str:
    """The folder of simulated images of something, as for `simulate`, in the table's states."""
    s = book.sizes
    options = ("--particles", s.particles, "--snr", snr, "--shift", shift, "--seed", 0)
    book.bench.cryoloom(out, "simulate", *what, "--states", s.states, *options, "-o", out)
    return out


def spike_of(book: Notebook, swinging: tuple[object, ...] = _HINGE) -> tuple[object, ...]:
    """The spike, as for `simulate`; swinging: by default its open receptor-binding domain."""
    s = book.sizes
    return (book.data("structures/6vyb.pdb"), *swinging, "--pixel-size", s.pixel, "--box", s.image_box)


def _phantom(book: Notebook) -> tuple[object, ...]:
    box = book.sizes.motion_box
    return ("phantom", "--pixel-size", 120 / box, "--box", box)


def reconstructed_likeness(
    book: Notebook, data: str, run: str, system: str, *options: object, box: int = 0, passes: int = 0
) -> Likeness:
    """Reconstruct at known poses, in the table's box and passes or others, and compare conformations with the truth."""
    s = book.sizes
    size = ("--box", box or s.box, "--train.passes", passes or s.passes)
    given = (*size, "--poses", f"{data}/truth/particles.star", *options)
    reconstructed(book, f"{data}/particles.star", run, system, *given)
    folder = book.bench.folder
    return conformation_likeness(folder / run, folder / data / "truth")


def likeness_rows(book: Notebook, what: str, found: Likeness) -> None:
    """Rows of a run's likeness."""
    book.row(f"{what}: mean resolution of the conformations", found.resolution, "Å")
    book.row(f"{what}: the same where the molecule moves", found.moving_resolution, "Å")
    book.row(f"{what}: mean FSC area of the conformations", found.area, better="higher")
    book.row(f"{what}: area where the molecule moves", found.moving, better="higher")


def _against_cryodrgn(book: Notebook, name: str, what: tuple[object, ...], snr: float, aim: float) -> None:
    data = simulated(book, f"table1/{name}/data", what, snr)
    row = f"{name}, SNR {snr:g}"
    ours = reconstructed_likeness(book, data, f"table1/{name}/cryoformer", "cryoformer", *book.sizes.quick)
    likeness_rows(book, f"{row}, cryoformer", ours)
    plain = ("--z-dim", 8, "--settle-rounds", 0)
    theirs = reconstructed_likeness(book, data, f"table1/{name}/cryodrgn", "cryodrgn", *plain, "--z-start", "none")
    likeness_rows(book, f"{row}, cryodrgn as published", theirs)
    begun = reconstructed_likeness(book, data, f"table1/{name}/cryodrgn-begun", "cryodrgn", *plain)
    likeness_rows(book, f"{row}, cryodrgn from linear components", begun)
    grid = reconstructed_likeness(book, data, f"table1/{name}/grid", "cryodrgn", *plain, "--field", "grid", *_GRID)
    likeness_rows(book, f"{row}, cryodrgn on a grid of voxels", grid)
    ratio = theirs.resolution / ours.resolution
    book.row(f"{row}: resolution, cryodrgn as published / cryoformer", ratio, "×", must=1.0, aim=aim, better="higher")
    ratio = theirs.moving_resolution / ours.moving_resolution
    book.row(f"{row}: the same where it moves", ratio, "×", better="higher")
    area = ours.moving - theirs.moving
    book.row(f"{row}: FSC area where it moves, cryoformer − cryodrgn as published", area, better="higher")
    _peer_row(book, data, row)


def _peer_row(book: Notebook, data: str, row: str) -> None:
    s = book.sizes
    try:
        peer = Peer(book)
    except Skip as why:
        book.notes.append(str(why))
        return
    vae = Vae.trained(peer, data, s.box, 8, s.passes, 256)
    likeness_rows(book, f"{row}, {peer.name} train_vae", peer_likeness(vae, book.bench.folder / data / "truth"))


def spike(book: Notebook) -> None:
    """The spike whose domain swings, at each SNR, against cryodrgn with as many passes.

    Images are the more the less each says: 2,000 at an SNR of 0.01 show no system that the domain moves.
    """
    s = book.sizes
    for snr, particles, passes in ((_SNR, s.particles, s.passes), *s.noisier):
        of_this = replace(book, sizes=replace(s, particles=particles, passes=passes))
        _against_cryodrgn(of_this, f"spike-{snr:g}", spike_of(book), snr, 1.57)


def motion(book: Notebook) -> None:
    """One continuous motion: the phantom's opening at SNR 0.1."""
    _against_cryodrgn(book, "motion", _phantom(book), _SNR, 1.70)
    book.notes.append("The motion is the opening of the phantom, in place of the set of cryoDRGN's paper.")


def poses(book: Notebook) -> None:
    """Perturbed poses, corrected by cryoformer, by its published encoder, and by loom, from the same start."""
    s, folder = book.sizes, book.bench.folder
    scale = s.image_box / _PAPER_BOX
    data = simulated(book, "poses/data", spike_of(book), _SNR, round(_PAPER_SHIFT * scale, 3))
    start, truth = folder / "poses/start.star", folder / data / "truth"
    perturb(truth, start, _COVARIANCE, _PAPER_OFF * scale)
    before = _pose_row(book, "the start", start, truth)
    ours = ("--system", "cryoformer", "--train.passes", s.passes_moving, *s.quick)
    encoder = ("--correction.rounds", 0, "--train.first-band", 4, "--train.last-band", s.box / 2 - 1)
    runs = {
        "cryoformer": ours,
        "cryoformer, orientation encoder": (*ours, *encoder),
        "loom": ("--system", "loom"),
    }
    for name, options in runs.items():
        run, device = f"poses/{name.split()[-1]}", "cpu" if s.device == "cpu" else "auto"
        given = ("--box", s.box, "--poses", "poses/start.star", "--refine", "--device", device, *options)
        try:
            measured = book.bench.cryoloom(run, "reconstruct", f"{data}/particles.star", "-o", run, *given)
        except CommandError as error:
            book.notes.append(f"{name} failed: {str(error).rpartition(' (')[0]}.")
            continue
        goals = {"must": 0.12, "aim": 0.05} if name == "cryoformer" else {}
        after = _pose_row(book, name, folder / run / "particles.star", truth, **goals)
        if goals:
            book.row("cryoformer: rotation error, after / before", after / before, "×", must=0.5)
        book.row(f"{name}: whole run, wall", measured.seconds, "s")
    book.row("As published, CryoFormer: median rotation error", 0.12, "rad")


def _pose_row(book: Notebook, name: str, found: Path, truth: Path, **goals: float) -> float:
    particles, true = read_particles(found), read_particles(truth / "particles.star")
    given = true.poses(match_particles(particles, true))
    summary = pose_errors(particles.poses(), given, true.source_pixel_size).summary()
    error = math.radians(summary["rotation_error_deg_median"])
    book.row(f"{name}: median rotation error", error, "rad", **goals)
    book.row(f"{name}: median shift error", summary["shift_error_px_median"], "px")
    return error


def regions(book: Notebook) -> None:
    """Maps of flexible regions of the spike against the true variability."""
    data = simulated(book, "fig5/data", spike_of(book))
    reconstructed_likeness(book, data, "fig5/run", "cryoformer", *book.sizes.quick)
    found = agreements_of(book.bench.folder / "fig5/run", book.bench.folder / data / "truth")
    density = found.pop("flexibility")
    if not found:
        raise Skip("the run left no volumes/attention_*.mrc")
    book.row(
        "best channel: correlation with the true spread", max(found.values()), "", must=0.5, aim=0.8, better="higher"
    )
    book.row("the density itself: correlation with the true spread", density, "", better="higher")
    _draw_regions(book, max(found, key=lambda name: found[name]), book.bench.folder / data / "truth")


def _draw_regions(book: Notebook, best: str, truth: Path) -> None:
    """The run's map coloured by its density's and its best channel's spread, the true mean by the true spread."""
    folder = book.bench.folder / "fig5/run/volumes"
    found, density, channel = (read_volume(folder / f"{n}.mrc")[0] for n in ("volume", "flexibility", best))
    true = TrueConformations.of(truth, found.shape[-1]).stacked()
    spread, _ = true_variability(true)
    maps = {
        "best channel": (found, channel),
        "density": (found, density),
        "truth": (true.mean(0), spread),
    }
    moving_picture(
        book.images / "cryoformer_fig5.png",
        {label: (volume.numpy(), moving.numpy()) for label, (volume, moving) in maps.items()},
    )
    caption = (
        "The spike from three sides; red moves. Above by the channel that agrees best with the truth, then by how the "
        "density itself varies; below the true mean of all conformations by their true standard deviation."
    )
    book.pictures.append(Picture("cryoformer_fig5.png", caption))


_PAPER = Sizes(
    particles=50_000,
    box=128,
    motion_box=128,
    states=20,
    noisier=((0.01, 50_000, 15), (0.001, 50_000, 15)),
    queries=(2, 4, 8, 16),
    box_ablated=128,
    passes_ablated=15,
    particles_each=50_000,
    device="cuda",
)
_TRY = ("--transformer.queries", 2, "--encoder.layers", 1)
_QUICK = Sizes(60, 24, 11.0, 24, 24, 3, 1, (), (2,), 1, 24, 1, 2, 60, (*_TRY, "--correction.rounds", 1), False)
SCALES = {"mini": Sizes(), "paper": _PAPER, "quick": _QUICK}

TABLE1 = Table(
    name="cryoformer-table1",
    title="CryoFormer, Table 1: moving domains",
    about=(
        "Mean resolution (FSC 0.5 to the truth) of the true conformations, each at the mean feature of its particles, "
        "at known poses. The spike is 6VYB, the receptor-binding domain of chain B swung from down to up."
    ),
    parts={"spike": spike, "motion": motion},
    scales=SCALES,
)
TABLE2 = Table(
    name="cryoformer-table2",
    title="CryoFormer, Table 2: coarse poses",
    about=(
        "True poses of the swinging spike at SNR 0.1, turned by rotation vectors from N(0, 0.1 I) and moved by up "
        "to 5 px of a box of 128, then corrected. Errors after one global alignment."
    ),
    parts={"poses": poses},
    scales=SCALES,
)
FIG5 = Table(
    name="cryoformer-fig5",
    title="CryoFormer, Fig. 5: flexible regions",
    about=(
        "Correlation of the maps of flexible regions with the true standard deviation of each voxel, inside the mask "
        "of all conformations."
    ),
    parts={"regions": regions},
    scales=SCALES,
)
