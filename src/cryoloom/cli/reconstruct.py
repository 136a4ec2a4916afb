"""`cryoloom reconstruct` and `cryoloom resume`: particles in, a run directory out."""

import inspect
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import torch
from cyclopts import Parameter, validators
from rich.console import Console

from cryoloom.cli.progress import StageProgress
from cryoloom.cli.settings import checked_settings, read_settings
from cryoloom.data import Particles, read_particles
from cryoloom.data.checks import check_images
from cryoloom.data.half_sets import half_set_findings
from cryoloom.data.matching import matching_rows
from cryoloom.errors import InputError
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import point_group
from cryoloom.report.html import write_report
from cryoloom.solve.run import Run, RunConfig, read_source
from cryoloom.solve.skipped import find_unusable, in_words, read_skipped, without
from cryoloom.solve.team import Team
from cryoloom.systems.catalogue import find_system

AtLeastOne = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def reconstruct(
    particles: Path,
    *fields: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    system: str = "loom",
    config: Path | None = None,
    poses: str | None = None,
    refine: bool = False,
    symmetry: str = "C1",
    init: Path | None = None,
    datadir: Path | None = None,
    ctf: Path | None = None,
    ind: Path | None = None,
    by_position: bool = False,
    pixel_size: float | None = None,
    box: int | None = None,
    limit: AtLeastOne | None = None,
    half_set: Literal[1, 2] | None = None,
    skip_bad_images: bool = False,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: AtLeastOne = 1,
    num_nodes: AtLeastOne = 1,
) -> None:
    """Reconstruct a map and the pose of every particle, and write a run directory with a report.

    Without --poses nothing needs to be known: orientations are found from scratch. Any setting of the system can be
    given as --FIELD VALUE, such as --ab-initio.starts 1; `cryoloom systems loom` lists them.

    Examples: `cryoloom reconstruct particles.star -o run1`,
    `cryoloom reconstruct J24_particles.cs --datadir /data -o run2`,
    `cryoloom reconstruct particles.star --poses known --refine -o run3`.

    Parameters
    ----------
    particles
        RELION .star, cryoSPARC .cs, or .mrcs.
    output
        Directory for the run; it must be new or empty.
    system
        Which method: see `cryoloom systems`.
    config
        YAML file of settings; another run's config.yaml works.
    poses
        "known": use the poses in PARTICLES. Or a .star/.cs/.pkl file with poses of the same particles, in any order:
        rows are matched by image. Skips the search.
    refine
        With --poses: polish them (loom, cryodrgn2, cryoformer).
    symmetry
        Point group of the molecule: C1, Cn, Dn, T, O or I (loom).
    init
        A finished run whose poses to start from.
    datadir
        Folder that image file names are relative to.
    ctf
        File that gives or replaces the CTF: cryoDRGN ctf.pkl, or any particle file with the same images.
    ind
        cryoDRGN ind.pkl of the rows to use.
    by_position
        Take the rows of --poses and --ctf in their order, for renamed or binned stacks, whatever images they name.
    pixel_size
        Pixel size of the images in Å, where the file has none or a wrong one.
    box
        Working box in pixels: images are Fourier-cropped to it. Even.
    limit
        Use at most this many particles, from the front.
    half_set
        Use this half of the particles only, as the file splits them or at random, but always alike: two runs that
        share no particle, for `cryoloom fsc --align`.
    skip_bad_images
        Read all images before the start and leave out those that cannot be used, which hold one value in every pixel or
        values that are not finite. They are listed in the run's skipped.csv. Without it, such an image ends the run.
    seed
        Seed of all random draws.
    device
        auto takes CUDA where there is one.
    devices
        Number of processes, one a device, that share the particles.
    num_nodes
        Number of machines, when started by torchrun or SLURM.
    """
    found = find_system(system)
    settings = read_settings(found.settings, config, fields, inspect.signature(reconstruct).parameters)
    if refine and poses is None and init is None:
        raise InputError("--refine polishes poses that are given: add --poses known or --poses FILE.")
    _check_symmetry(symmetry)
    found.refuse_unused(symmetry, refine)
    team = Team.launch(device, devices, num_nodes)
    run_config = RunConfig(
        particles=particles.resolve(),
        system=system,
        settings=settings.model_dump(mode="json"),
        poses=poses if poses in (None, "known") else Path(poses).resolve(),
        refine=refine,
        symmetry=symmetry,
        init=init.resolve() if init else None,
        datadir=datadir.resolve() if datadir else None,
        ctf=ctf.resolve() if ctf else None,
        ind=ind.resolve() if ind else None,
        by_position=by_position,
        pixel_size=pixel_size,
        box=box,
        limit=limit,
        half_set=half_set,
        skip_bad_images=skip_bad_images,
        seed=seed,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
        command=shlex.join(["cryoloom", *sys.argv[1:]]),
    )
    loaded, known, skipped = load(run_config, team)
    run_config.fingerprint = loaded.fingerprint()
    table = None if skipped is None else skipped.to_csv(index=False)
    team.agree(lambda: Run.create(output, run_config, table) if team.leads else None)
    run = Run.open(output)
    if skipped is not None and team.leads:
        Console().print(*in_words(skipped, len(loaded) + len(skipped)), sep="\n", highlight=False, soft_wrap=True)
    try:
        _carry_out(run, loaded, known, team)
    except InputError:
        if team.leads:
            run.withdraw()
        raise


def resume(run: Path) -> None:
    """Continue a run that Ctrl-C, a crash or a power cut stopped; the result is the same as if it had not happened.

    Parameters
    ----------
    run
        The directory that `cryoloom reconstruct -o` made.
    """
    opened = Run.open(run)
    console = Console()
    if opened.finished:
        console.print(f"{run} is finished already: see {opened.path}", highlight=False)
        return
    config = opened.config
    team = Team.launch(config.device, config.devices, config.num_nodes)
    loaded, known = _load_again(opened, team)
    _carry_out(opened, loaded, known, team)


def load(
    config: RunConfig, team: Team, skipped: pd.DataFrame | None = None
) -> tuple[Particles, Pose | None, pd.DataFrame | None]:
    """The particles that a run works on, checked, the poses it was told to use, and the images that it leaves out.

    skipped: those that it left out when it began, where it is resumed.
    """
    particles = team.agree(lambda: _read(config))
    if config.skip_bad_images:
        skipped = find_unusable(particles, team) if skipped is None else skipped
        particles = without(particles, skipped)
    team.agree(lambda: _check(particles, config))
    known = particles.poses() if config.poses is not None or config.init is not None else None
    return particles, known, skipped


def _read(config: RunConfig) -> Particles:
    poses = config.poses if isinstance(config.poses, Path) else None
    if config.init is not None:
        poses = config.init / "particles.star"
    particles = read_source(config, poses=poses, box=config.box, require_images=True)
    if config.init is not None:
        _check_same_images(particles, config.init)
    if particles.box > particles.source_box:
        raise InputError(
            f"--box {particles.box} is larger than the images of {config.particles}, which have {particles.source_box} "
            "pixels: leave it out, or give a smaller even number."
        )
    return particles


def _check(particles: Particles, config: RunConfig) -> None:
    if len(particles) < 4:
        raise InputError(f"{config.particles} has {len(particles)} particles that can be used: at least 4 are needed.")
    check_images(particles)
    if config.poses is not None or config.init is not None:
        particles.poses()


def _check_same_images(particles: Particles, init: Path) -> None:
    """Raise InputError where the run `init` is not of these particles."""
    try:
        matching_rows(particles.image_names, read_particles(init / "particles.star").image_names)
    except InputError as error:
        raise InputError(
            f"--init {init} is not a run of these particles: {error} Poses for renamed stacks are taken with "
            f"--poses {init / 'particles.star'} --by-position."
        ) from error


def _load_again(run: Run, team: Team) -> tuple[Particles, Pose | None]:
    skipped = team.agree(lambda: read_skipped(run.path)) if run.config.skip_bad_images else None
    loaded, known, _ = load(run.config, team, skipped)
    if loaded.fingerprint() != run.config.fingerprint:
        raise InputError(
            f"{run.config.particles} or its images changed since {run.path} began: start a new run instead."
        )
    if team.leads:
        _note_newer_stacks(loaded, run)
    return loaded, known


def _note_newer_stacks(particles: Particles, run: Run) -> None:
    began = (run.path / "config.yaml").stat().st_mtime
    newer = [name for name in particles.files() if Path(name).stat().st_mtime > began]
    if newer:
        text = f"note: {len(newer):,} stacks were written after the run began, such as {newer[0]}"
        Console().print(f"{text}; the images that were compared are the same", highlight=False, markup=False)


def _carry_out(run: Run, particles: Particles, known: Pose | None, team: Team) -> None:
    console = Console(quiet=not team.leads)
    for finding in [*particles.findings, *half_set_findings(particles)]:
        console.print(f"note: {finding.text}", highlight=False, soft_wrap=True, markup=False)
    found = find_system(run.config.system)
    settings = checked_settings(found.settings, run.config.settings, run.path / "config.yaml")
    torch.manual_seed(run.config.seed)
    with run.locked(team.leads), StageProgress(console, quiet=not team.leads) as progress:
        found.reconstruct(particles, known, settings, run, team, progress)
        if team.leads:
            write_report(run.path)
    for name in ("volumes/volume.mrc", "particles.star", "report.html"):
        console.print(f"wrote {run.path / name}", highlight=False, soft_wrap=True)
    _print_outliers(run, console)
    for alarm in run.alarms() if team.leads else ():
        words = f"{alarm['severity']}: {alarm['message']} {alarm['advice']}"
        console.print(words, highlight=False, soft_wrap=True, markup=False)


def _print_outliers(run: Run, console: Console) -> None:
    for line in run.metrics():
        if line.get("stage") == "images" and line["outlier_pixels"]:
            text = f"outlier pixels replaced in {line['outlier_images']:,} of {line['particles']:,} images"
            console.print(text, highlight=False, soft_wrap=True)


def _check_symmetry(symmetry: str) -> None:
    try:
        point_group(symmetry)
    except ValueError as error:
        raise InputError(f"--symmetry {symmetry}: {error}.") from error
