"""`cryoloom simulate`: particles with known truth."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cryoloom.data.outputs import writing
from cryoloom.errors import InputError
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import PARTICLE_FILES, TRUTH_FILES, simulate_particles
from cryoloom.simulate.settings import Motion, Noise, Simulation


def simulate(
    *structures: Path,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    box: int = 64,
    pixel_size: float = 1.6,
    particles: int = 5000,
    snr: float = 0.1,
    shift: float = 5.0,
    defocus: tuple[float, float] = (0.8, 2.0),
    ctf: bool = True,
    ctf_from: Path | None = None,
    voltage: float = 300.0,
    cs: float = 2.7,
    amplitude_contrast: float = 0.1,
    b_factor: float = 0.0,
    orientations: Path | None = None,
    noise: Noise = "white",
    noise_spectrum: Path | None = None,
    chain: str | None = None,
    superpose: bool = False,
    weights: Annotated[tuple[float, ...] | None, Parameter(consume_multiple=True)] = None,
    junk: float = 0.0,
    states: int | None = None,
    turn: float | None = None,
    about: str | None = None,
    trajectory: Path | None = None,
    stride: int = 1,
    hinge: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None,
    hinge_like: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    domains: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None,
    movies: int | None = None,
    frames: int | None = None,
    motion: Motion = "constant",
    tumbling: float | None = None,
    drift: float | None = None,
    dose: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Simulate noisy particle images of a molecule, with the truth beside them.

    Every particle sees the molecule from a random direction, moved off centre, through a microscope's CTF, in noise.
    Poses and conformations are written to DIR/truth only, never into DIR/particles.star.

    Examples: `cryoloom simulate 4ake.pdb --chain A -o adk`, `cryoloom simulate phantom --states 10 -o opening`,
    `cryoloom simulate open.pdb --trajectory path.dcd --movies 100 --frames 10 -o movies`.

    Parameters
    ----------
    structures
        .pdb, .cif (gz too) or density .mrc; several are discrete conformations. The word phantom: a built-in molecule.
    output
        Folder to write particles.star, particles.mrcs and truth/ into.
    box
        Image size in pixels, even.
    pixel_size
        Å per pixel.
    particles
        Number of images; with --movies it is movies times frames instead.
    snr
        Variance of the noise-free images over that of the noise, over all pixels. inf: no noise.
    shift
        Particles lie off centre by up to this many pixels in x and in y.
    defocus
        MIN MAX in µm, positive for underfocus; uniform between.
    ctf
        --no-ctf: plain projections.
    ctf_from
        Draw defocus and astigmatism from the particles of this STAR or .cs file, or cryoDRGN ctf.pkl.
    voltage
        Of the microscope, kV.
    cs
        Spherical aberration, mm.
    amplitude_contrast
        Fraction, 0 to 1.
    b_factor
        Å²: detail fades by exp(−B/4d²) at d Å in every image, which the STAR file states.
    orientations
        Draw orientations from the poses of this STAR or .cs file instead of all directions equally.
    noise
        white, or coloured: stronger at low frequencies, as in ice.
    noise_spectrum
        Radial power spectrum for coloured noise, zero to Nyquist: .txt, .csv, .npy or .pkl.
    chain
        Only this chain of the STRUCTUREs.
    superpose
        Bring the STRUCTUREs onto the first by their Cα atoms first.
    weights
        How often each conformation occurs, one number each; equal by default.
    junk
        Part of the images that hold no particle, only noise; their conformation is -1 in the truth.
    states
        Number of steps in which the phantom opens, a part turns, a hinge swings or domains move; with --movies as many
        as there are frames.
    turn
        Degrees by which what comes after a residue turns about its bond, in --states steps; of the phantom, one half.
    about
        CHAIN:NUMBER of that residue.
    trajectory
        DCD, XTC or TRR file of the STRUCTURE: each particle draws a frame.
    stride
        Use every so-many-th frame of the trajectory.
    hinge
        CHAIN:FIRST-LAST: these residues of the STRUCTURE swing about their ends as a rigid body, in --states steps.
        Several such domains swing each by itself: particles draw one of all ways in which their steps combine.
    hinge_like
        Chain whose domain shows where the swing begins, one for each domain; it ends as deposited.
    domains
        Residues such as 94-179+308-480 180-307: each of these domains goes as a rigid body from where the first of two
        STRUCTUREs has it to where the second has it, in --states steps; the rest stays as in the first.
    movies
        Simulate this many movies of one molecule each, with --frames.
    frames
        Frames of a movie.
    motion
        Path of the conformation through a movie: constant speed, reversing, or fluctuating (Ornstein–Uhlenbeck).
    tumbling
        Degrees that a molecule turns from frame to frame; without it each frame has an orientation of its own.
    drift
        Pixels that a molecule moves from frame to frame, straight on; without it each frame is off centre on its own.
    dose
        Of a frame, e⁻/Å²: what the frames before have destroyed fades by 4 Å² of B-factor each, which the STAR file
        states.
    seed
        Everything random follows from it.
    overwrite
        Replace particles in DIR that another command wrote; what the same command wrote is replaced in any case.
    """
    settings = Simulation(
        box=box,
        pixel_size=pixel_size,
        particles=particles,
        snr=snr,
        shift=shift,
        ctf=ctf,
        defocus=defocus,
        voltage=voltage,
        cs=cs,
        amplitude_contrast=amplitude_contrast,
        b_factor=b_factor,
        ctf_from=ctf_from,
        orientations=orientations,
        noise=noise,
        noise_spectrum=noise_spectrum,
        weights=weights,
        junk=junk,
        movies=movies,
        frames=frames,
        motion=motion,
        tumbling=tumbling,
        drift=drift,
        dose=dose,
        seed=seed,
    )
    if movies is not None and hinge is not None and len(hinge) > 1:
        raise InputError("--movies follow one motion: give one --hinge, not several that swing by themselves.")
    steps = states if states is not None else (frames or 1)
    moves = {"turn": turn, "about": about, "hinge": hinge, "hinge_like": hinge_like, "domains": domains}
    source = Source(structures, chain, trajectory, stride, steps, superpose, **moves)
    console = Console()
    targets = [output / name for name in (*PARTICLE_FILES, *TRUTH_FILES)]
    by = f"simulate {source.plain()} {settings}"
    given = (*structures, trajectory, ctf_from, orientations, noise_spectrum)
    inputs = [path for path in given if path is not None]
    with writing(targets, by, inputs, overwrite), _Bars(console) as bars:
        paths = simulate_particles(
            conformations_of(source, box, pixel_size), settings, output, describe=source.plain(), progress=bars.advance
        )
    for path in paths[:5]:
        console.print(f"wrote {path}", highlight=False)
    if len(paths) > 5:
        console.print(f"  and {len(paths) - 5} more in {paths[5].parent}", highlight=False)


class _Bars:
    """A progress bar for each step, started when the step first reports."""

    def __init__(self, console: Console):
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def advance(self, what: str, more: int, of: int) -> None:
        """Report `more` finished of `of`."""
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=of)
        self.bars.advance(self.tasks[what], more)
