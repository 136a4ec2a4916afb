"""Table 1 of cryoDRGN2: the pose search alone, against a fixed map; how long, how well, how near the machine's rate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoloom.data import read_particles
from cryoloom.data.mrc import read_volume
from cryoloom.evaluate.bench.curves import share_below
from cryoloom.evaluate.bench.result import Picture
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.model.poses.evidence import Evidence, real_pairs
from cryoloom.model.poses.search import (
    PoseSearch,
    SearchPass,
    SearchSettings,
    base_candidates,
    has_fast_bf16,
)
from cryoloom.model.poses.shifts import shift_log_prior
from cryoloom.model.poses.templates import Templates, chunks
from cryoloom.physics.fourier import shift_phases
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import point_group, random_rotations
from cryoloom.solve.images import WorkingImages

_ERROR = "‖R−R̂‖²_F"
_SCORES_OF_PLAIN_PRODUCT = 20_000_000


@dataclass(frozen=True)
class Sizes:
    """How much of it is measured. plain: images of the plain product. repeats: of every timing."""

    particles: int = 1000
    plain: int = 100
    repeats: int = 3
    device: str = "cpu"


class Problem(NamedTuple):
    """Images and the map that they are searched against: true rotation (N, 3, 3) and shift (N, 2) px."""

    images: WorkingImages
    volume: Tensor
    noise: Tensor
    rotation: Tensor
    shift: Tensor

    @property
    def index(self) -> Tensor:
        """All images."""
        return torch.arange(len(self.images))


@dataclass(frozen=True)
class BaseCost:
    """What scoring one image on the base grid takes: P coefficients, G rotations, S shifts made of r functions."""

    coefficients: int
    rotations: int
    shifts: int
    functions: int

    @classmethod
    def of_pass(cls, searched: SearchPass) -> "BaseCost":
        """The cost of a search against one volume."""
        basis, templates = searched.bases[0], searched.templates
        return cls(len(templates.lattice), len(templates), len(basis.shifts), len(basis.functions))

    @property
    def operations(self) -> int:
        """Floating-point operations: the product with the functions, the one that mixes them, and the power term."""
        product = 2 * self.functions * self.rotations * 2 * self.coefficients
        mixing = 2 * self.shifts * self.functions * self.rotations
        return product + mixing + self._power

    @property
    def plain_operations(self) -> int:
        """The same with every shift in the product itself."""
        return 2 * self.shifts * self.rotations * 2 * self.coefficients + self._power

    @property
    def values(self) -> int:
        """Numbers that are made on the way and looked at once: the products, and the scores of all poses."""
        return (self.functions + self.shifts) * self.rotations

    @property
    def _power(self) -> int:
        return 2 * self.rotations * self.coefficients


def fit_to_images(images: WorkingImages, volume: Tensor, rotation: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The map (D, D, D) scaled to the images by least squares at their true poses, and the noise (D/2,) left there.

    So would a trained model stand: images are scaled to their background, the true map is not. shift: (N, 2) px.
    """
    lattice, index = images.lattice, torch.arange(len(images))
    seen = images.spectrum(index)
    model = FourierSlice.of_volume(volume).project(rotation, lattice) * images.ctf(index, lattice)
    model = model * shift_phases(lattice.k, shift, lattice.box)
    # The mean grey value says nothing after normalisation.
    scale = (model.conj() * seen).real[:, 1:].sum() / model.abs().square()[:, 1:].sum()
    noise = lattice.shell_mean((seen - scale * model).abs().square().mean(0))
    return volume * scale, noise.clamp(min=1e-12)


def rotations_by_level(searched: SearchPass, evidence: Evidence) -> list[Tensor]:
    """The best rotation (B, 3, 3) of every image after each level of a search, the base grid first."""
    return [searched.rotations(level, found.index[:, 0]) for level, found in enumerate(searched.levels(evidence))]


def squared_error(found: Tensor, true: Tensor) -> Tensor:
    """‖R − R̂‖²_F (N,) of rotations (N, 3, 3), with nothing aligned: the map is fixed."""
    return (found - true).square().sum((-1, -2)).cpu()


def seconds_of(what: Callable[[], object], device: torch.device, repeats: int = 1) -> list[float]:
    """Wall seconds of each of `repeats` calls, the device's queue included."""
    taken = []
    for _ in range(repeats):
        _finish(device)
        started = time.perf_counter()
        what()
        _finish(device)
        taken.append(time.perf_counter() - started)
    return taken


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(dtype: torch.dtype, device: torch.device, shapes: list[tuple[int, int, int]], repeats: int) -> float:
    """Operations a second of the fastest product (m, k) · (k, n) of all `shapes`, with the threads that torch has."""
    best = 0.0
    for m, k, n in shapes:
        a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((m, k), (k, n)))
        _ = a @ b
        best = max(best, 2 * m * k * n / min(seconds_of(lambda a=a, b=b: a @ b, device, repeats)))
    return best


def plain_scores(templates: Templates, evidence: Evidence, shifts: Tensor) -> Tensor:
    """The largest score (B, G) over `shifts` (S, 2) px by one float32 product with every shifted image."""
    phases = shift_phases(evidence.lattice.k, -shifts.to(evidence.lattice.k.device), evidence.lattice.box)
    columns, found = templates.pairs.T.contiguous(), []
    for chunk in chunks(len(evidence), len(shifts) * len(templates), _SCORES_OF_PLAIN_PRODUCT):
        part = evidence.select(chunk)
        rows = real_pairs(part.weighted[:, None] * phases).flatten(0, 1)
        cross = (rows @ columns).view(len(part), len(shifts), -1).amax(1)
        found.append(2 * cross - part.power @ templates.power.T)
    return torch.cat(found)


def device_of(name: str) -> torch.device:
    """The device of a scale: a GPU where it asks for one and there is one."""
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def problem_of(folder_star: object, truth: object, device: torch.device) -> Problem:
    """A simulated set with its truth folder: particles.star, and particles.star and volume.mrc beside the truth."""
    particles, true = read_particles(str(folder_star)), read_particles(f"{truth}/particles.star").poses()
    images = WorkingImages(particles, device)
    volume, pixel_size = read_volume(f"{truth}/volume.mrc")
    rotation, shift = true.best_rotation.to(device), (true.best_shift / pixel_size).to(device)
    volume, noise = fit_to_images(images, volume.to(device), rotation, shift)
    return Problem(images, volume, noise, rotation, shift)


def search_of(problem: Problem, settings: SearchSettings, shift_px: float) -> PoseSearch:
    """The search of a problem."""
    return PoseSearch(settings, problem.images.lattice, point_group("C1"), shift_px)


def whole_search(problem: Problem, search: PoseSearch, index: Tensor | None = None) -> Tensor:
    """Best rotations (N, 3, 3), from images on disk and a map: all that a search pass of a reconstruction does."""
    index = problem.index if index is None else index
    evidence = problem.images.evidence(index, problem.noise, search.bands[-1])
    return _against(problem, search).best(evidence).rotation[:, 0]


def _against(problem: Problem, search: PoseSearch) -> SearchPass:
    turn = random_rotations(1, torch.Generator().manual_seed(0))[0]
    return search.against(FourierSlice.of_volume(problem.volume), turn)


PAPER_GRID = SearchSettings(angle_step=15, shift_points=14, candidates=8, subdivisions=4, first_band=12)
# All end at 0.94°; the paper's 30° grid has shifts twice as coarse.
_COARSE = SearchSettings(angle_step=30, shift_points=7, candidates=8, subdivisions=5, first_band=12)
_FINE = SearchSettings(angle_step=7.5, shift_points=14, candidates=8, subdivisions=3, first_band=12)
EXTENT_PX = 10.0


def table1(book: Notebook) -> None:
    """A thousand images of a ribosome searched against its map: time and error of three grids, and of each level."""
    problem = _ribosome(book)
    warm = problem.index[: min(16, len(problem.index))]
    errors: dict[str, NDArray] = {}
    for settings, grid, goals in (
        (PAPER_GRID, "15° grid, 1.4 px", ({"must": 30, "aim": 10}, {"must": 0.004})),
        (_COARSE, "30° grid, 2.9 px", ({}, {})),
        (_FINE, "7.5° grid, 1.4 px", ({}, {})),
    ):
        search = search_of(problem, settings, EXTENT_PX)
        whole_search(problem, search, warm)
        repeats = book.sizes.repeats if settings is PAPER_GRID else 1
        found: list[Tensor] = []
        taken = seconds_of(lambda s=search, f=found: f.append(whole_search(problem, s)), problem.images.device, repeats)
        error = squared_error(found[-1], problem.rotation)
        what = f"{len(problem.images):,} images, {grid}"
        book.row(f"{what}: whole search", median(taken), "s", **goals[0])
        book.row(f"{what}: mean {_ERROR}", float(error.mean()), "", **goals[1])
        book.row(f"{what}: median {_ERROR}", float(error.median()))
        errors[grid] = error.numpy()
    _published(book)
    _base_grid(book, problem, search_of(problem, PAPER_GRID, EXTENT_PX))
    _picture(book, problem, search_of(problem, PAPER_GRID, EXTENT_PX), errors["30° grid, 2.9 px"])
    s = book.sizes
    book.notes.append(
        f"{s.particles:,} images of box 80, 4 Å a pixel, SNR 0.1, CTF of 0.8 to 2 µm, shifts within ±8 px; searched "
        f"within ±{EXTENT_PX:g} px, bands 12 to 40, 8 rotations kept. A whole search reads the images from disk, "
        f"renders the templates and ends at 0.94°; {torch.get_num_threads()} threads; median of {s.repeats}. The map "
        "is the true one, scaled to the images by least squares, and the noise is what is left at the true poses."
    )


def _ribosome(book: Notebook) -> Problem:
    out = "table1/data"
    options = f"--box 80 --pixel-size 4 --particles {book.sizes.particles} --snr 0.1 --shift 8 --seed 0"
    molecule = book.data("maps/80S_4ug0_potential_80_4A.mrc")
    book.bench.cryoloom(out, "simulate", molecule, *options.split(), "-o", out)
    folder = book.bench.folder / out
    return problem_of(folder / "particles.star", folder / "truth", device_of(book.sizes.device))


def _published(book: Notebook) -> None:
    for name, seconds, error in (
        ("cryoDRGN2, 15°, 1.4 px", 52, 0.004),
        ("cryoDRGN2, 30°, 2.8 px", 23, 0.643),
        ("cryoDRGN-BNB, 30°, 2.8 px", 92, 0.691),
    ):
        book.row(f"As published, {name}: 1,000 images on their GPU", seconds, "s")
        book.row(f"As published, {name}: mean {_ERROR}", error)


def _base_grid(book: Notebook, problem: Problem, search: PoseSearch) -> None:
    """Scoring on the base grid alone, against what the machine multiplies at best."""
    device, repeats = problem.images.device, book.sizes.repeats
    searched = _against(problem, search)
    evidence = problem.images.evidence(problem.index, problem.noise, search.bands[0])
    basis, templates = searched.bases[0], searched.templates
    cost, prior = BaseCost.of_pass(searched), shift_log_prior(basis.shifts, search.shift_px)
    dtype = torch.bfloat16 if has_fast_bf16(device) else torch.float32
    shapes = [(2048, 2048, 2048), (4096, 1024, 4096), (cost.functions * 8, 2 * cost.coefficients, cost.rotations)]
    rate = matmul_rate(dtype, device, shapes, repeats + 2)
    taken = min(
        seconds_of(
            lambda: base_candidates(templates, evidence, basis, prior, search.settings.candidates), device, repeats
        )
    )
    operations = cost.operations * len(evidence)
    what, kind = f"Base grid, {len(evidence):,} images", str(dtype).removeprefix("torch.")
    book.row(f"{what}: scoring and choosing", taken, "s")
    book.row(f"Operations an image on the base grid, {cost.functions} shift functions", cost.operations / 1e6, "10⁶")
    book.row(f"Fastest {kind} matrix product of this machine", rate / 1e9, "GFLOP/s")
    book.row(
        f"{what}: achieved / measured {kind} rate", operations / taken / rate, "", must=0.5, aim=0.7, better="higher"
    )
    few = evidence.select(slice(0, book.sizes.plain))
    plain = min(seconds_of(lambda: plain_scores(templates, few, basis.shifts), device)) * len(evidence) / len(few)
    book.row(f"{what}: float32 product with all {cost.shifts} shifts, from {len(few)} images", plain, "s")
    book.notes.append(
        f"Base grid: P = {cost.coefficients} coefficients, G = {cost.rotations:,} rotations, S = {cost.shifts} shifts, "
        f"r = {cost.functions} functions; operations an image are 2·r·G·2P + 2·S·r·G + 2·G·P, nothing else is counted. "
        "The time has all in it: shifting, both products, the largest over shifts, choosing, and scoring the chosen "
        "in float32. The rate is the best of three shapes, measured just before with the same threads."
    )


def _picture(book: Notebook, problem: Problem, search: PoseSearch, coarse: NDArray) -> None:
    evidence = problem.images.evidence(problem.index, problem.noise, search.bands[-1])
    curves: dict[str, NDArray] = {}
    for level, rotation in enumerate(rotations_by_level(_against(problem, search), evidence)):
        step, band = 15 / 2**level, search.bands[level]
        curves[f"{step:.3g}°, band {band:.3g}"] = squared_error(rotation, problem.rotation).numpy()
    curves["from 30°, at its end"] = coarse
    share_below(book.images / "pose_search_levels.png", curves, _ERROR)
    caption = "Error of the best rotation after each level of the 15° search, and at the end of one that began at 30°."
    book.pictures.append(Picture("pose_search_levels.png", caption))


TABLE1 = Table(
    name="cryodrgn2-table1",
    title="cryoDRGN2, Table 1: pose search against a fixed map",
    about=(
        "The hierarchical search alone, at the settings of the paper: an exhaustive grid of rotations and shifts, the "
        "8 best rotations kept, steps halved 4 times. *Their* images are of EMPIAR-10028, ours of an atomic model of "
        "the same kind of particle."
    ),
    parts={"search": table1},
    scales={"mini": Sizes(), "paper": Sizes(device="cuda"), "quick": Sizes(48, 4, 1)},
)
