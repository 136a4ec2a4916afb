"""Alarms: signs in a finished or running reconstruction that it went wrong, and what to do about each."""

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

from cryoloom.data.half_sets import half_set_findings
from cryoloom.data.particles import Particles
from cryoloom.physics.fourier import radii3
from cryoloom.physics.so3 import angular_distance
from cryoloom.solve.contrast import skewness
from cryoloom.solve.em.pseudosymmetry import Copies, mirror_correlation
from cryoloom.solve.em.refine import ParticlePoses

# True maps reach 0.35 to 0.6 on their own shells, those of networks that had read one side only 0.74 to 0.94.
_MIRRORED = 0.7
# Of networks that had found the poses 0 to 2 % were read wrongly, of those stuck in part 10 to 40, of lost ones 80.
_MISREAD, _LOST = 0.1, 0.5
# Of a wrong map of apoferritin, a mixture of both hands, 0.5 over its finer half; of right maps the less the more
# resolution elements are seen: true maps of 18 molecules have up to 0.27 at 17, mixtures of a D7 0.34 and 0.41.
_MIXED, _MIXED_FINE, _FINE_CYCLES = 0.35, 0.31, 16.0
# Mean posterior beside the best pose: 0 to 0.01 with right maps, 0.3 with mixtures of several poses.
_UNDECIDED = 0.2
# Of what half-maps agree to, the part that is left when one is turned by a symmetry: 0.95 to 1 if it is exact.
_SYMMETRIC = 0.7
# Fewer particles than these have no resolution worth the name.
_FEW = 50
# Resolution elements across the molecule below which every search agrees with every other.
_ENVELOPE_CYCLES = 5.0


@dataclass(frozen=True)
class Alarm:
    """One sign of trouble in plain words."""

    name: str
    severity: Literal["warning", "error"]
    message: str
    advice: str

    def as_dict(self) -> dict[str, str]:
        """For alarms.json."""
        return asdict(self)


SILENT_ENCODER = Alarm(
    "silent-encoder",
    "warning",
    "The encoder cannot say the conformations that it was taught: the particles keep those of the linear components.",
    "Maps are made at these. For an encoder that reads other particles, too: more --train.passes or less noise.",
)


def input_alarms(particles: Particles) -> list[Alarm]:
    """What the particle file gives away: something that changes the images and is not taken into account."""
    serious = (finding for finding in [*particles.findings, *half_set_findings(particles)] if finding.name)
    return [Alarm(finding.name, "warning", finding.text + ".", finding.advice) for finding in serious]


def map_alarms(volume: Tensor, radius_px: float) -> list[Alarm]:
    """What a map (D, D, D) itself gives away: NaN, wrong contrast sign, a hollow shell."""
    if not bool(torch.isfinite(volume).all()):
        message = "The map holds values that are not numbers."
        return [
            Alarm("not-a-number", "error", message, "Run `cryoloom info` on the particles: some images may be damaged.")
        ]
    found = []
    r = radii3(volume.shape[-1], volume.device)
    skew = skewness(volume[r < radius_px])
    if skew < -0.3:
        message = f"The map's density is negative where the molecule is (skewness {skew:.1f})."
        advice = "The images' contrast is not what --contrast says: start again with --contrast auto."
        found.append(Alarm("contrast-sign", "error", message, advice))
    density = volume.abs()
    core = float(density[r < 0.5 * radius_px].mean())
    # A molecule may be hollow; then it ends before the mask does, and only the last part of the radius tells.
    rim = float(density[(r > 0.92 * radius_px) & (r < radius_px)].mean())
    if rim > 1.5 * core:
        message = f"Density piles up at the edge of the mask: {rim / max(core, 1e-30):.1f} times that at the centre."
        advice = "Give the molecule's size with --mask-diameter-angst, a larger --box, or another --seed."
        found.append(Alarm("hollow-shell", "warning", message, advice))
    return found


def mirror_alarms(volume: Tensor) -> list[Alarm]:
    """What a masked map (D, D, D) that a network was fitted with gives away: a false mirror plane."""
    alike = mirror_correlation(volume, volume.shape[-1] / 3)
    if not alike > _MIRRORED:
        return []
    message = f"The map is nearly its own mirror image (correlation {alike:.2f} through one plane)."
    advice = (
        "Unless the molecule is: poses read off images get stuck where an image and its half turn look alike; use "
        "--symmetric-loss and --rehearsal 1, another --seed, or --system loom."
    )
    return [Alarm("mirror-plane", "warning", message, advice)]


def misread_alarms(share: float) -> list[Alarm]:
    """What the share of particles gives away that a network read otherwise than a search does: it is stuck."""
    if share <= _MISREAD:
        return []
    message = f"A search finds another pose than the network read for {100 * share:.0f} % of the particles."
    advice = (
        "The network is stuck, or the noise is too much for it: more --train.passes, --hypotheses 8, another --seed; "
        "cryoai --polish searches all of them again, and so does --system loom."
    )
    return [Alarm("misread-poses", "error" if share > _LOST else "warning", message, advice)]


def view_alarms(rotation: Tensor) -> list[Alarm]:
    """What rotations (N, 3, 3) give away: all particles in one orientation."""
    found = []
    view = rotation[:, 2]
    sample = view[torch.linspace(0, len(view) - 1, min(2000, len(view))).long()]
    close = ((sample @ sample.T) > 0.98).float().mean(1)
    share = float(close.max())
    # A cap of cos > 0.98 covers 1 % of the sphere.
    if share > 0.5:
        message = f"{100 * share:.0f} % of the particles look along one direction."
        advice = "Check for damaged or identical images; with a truly preferred orientation collect tilted data."
        found.append(Alarm("one-orientation", "error" if share > 0.9 else "warning", message, advice))
    return found


def pose_alarms(poses: ParticlePoses) -> list[Alarm]:
    """What the poses give away: all particles in one orientation, or none known."""
    found = view_alarms(poses.rotation)
    uncertain = float((poses.rotation_sigma_deg > 20).float().mean())
    if uncertain > 0.5:
        message = f"{100 * uncertain:.0f} % of the particles have a pose uncertainty above 20°."
        advice = (
            "The map is not to be trusted: try more particles, another --seed, or --symmetry if the molecule has one."
        )
        found.append(Alarm("poses-unknown", "error", message, advice))
    return found


def few_alarms(n: int) -> list[Alarm]:
    """What the number of particles gives away: too few for a resolution that means anything."""
    if n >= _FEW:
        return []
    message = f"The set has {n} particles: the FSC of two halves of it is mostly chance, and the resolution a guess."
    return [Alarm("few-particles", "warning", message, "Use more particles; a hundred are few.")]


def undecided_alarms(poses: ParticlePoses) -> list[Alarm]:
    """What poses give away that are not certain, of a molecule that does not repeat itself."""
    beside = float((1 - poses.max_posterior).mean())
    if beside <= _UNDECIDED:
        return []
    message = (
        f"Other orientations explain the particles nearly as well: their posterior is {100 * beside:.0f} % on average."
    )
    advice = (
        "The map may be a mixture of several views or of both hands: try another --seed, --symmetry if the molecule "
        "has one, or more particles; max_posterior shows which particles are certain."
    )
    return [Alarm("poses-undecided", "warning", message, advice)]


def halves_alarms(agreement: float, confirmed: bool, starts: int) -> list[Alarm]:
    """What two half-sets give away that each made a map of their own: whether it is the same."""
    if confirmed:
        return []
    message = (
        f"The two half-sets did not find the same map: their best maps of {starts} starts correlate to {agreement:.2f}."
    )
    advice = (
        "The map is not to be trusted, whatever its FSC: give --symmetry if the molecule has one, its size with "
        "--mask-diameter-angst, more particles, or more --ab-initio.starts."
    )
    return [Alarm("halves-disagree", "error", message, advice)]


def mixture_alarms(alike: float, cycles: float) -> list[Alarm]:
    """What the FSC of a map with its own mirror image gives away: a mixture of both hands.

    cycles: resolution elements across the molecule that the map shows.
    """
    if not alike > (_MIXED_FINE if cycles >= _FINE_CYCLES else _MIXED):
        return []
    message = f"The map is nearly its own mirror image (FSC {alike:.2f} over its finer half), as no molecule is."
    advice = "It is a mixture of both hands: another --seed, a smaller --mask-diameter-angst, or more particles."
    return [Alarm("mirror-mixture", "error", message, advice)]


def envelope_alarms(resolution_angst: float, diameter_angst: float) -> list[Alarm]:
    """What a resolution gives away that tells no more of a molecule of this diameter than its outline."""
    if diameter_angst / resolution_angst >= _ENVELOPE_CYCLES:
        return []
    message = (
        f"The half-maps agree only to {resolution_angst:.3g} Å, which for a molecule of {diameter_angst:.0f} Å is "
        "little more than its outline."
    )
    advice = (
        "At this resolution a wrong map agrees with itself, too: check CTF, pixel size and contrast with "
        "`cryoloom info`, remove what is no particle, give --symmetry if there is one, or use more particles."
    )
    return [Alarm("outline-only", "warning", message, advice)]


def symmetry_alarms(name: str | None) -> list[Alarm]:
    """What a map gives away that has a point group of its own beyond the one it was given."""
    if name is None:
        return []
    message = f"The map looks like {name}: turned by this symmetry it is the same as far as its half-maps can tell."
    return [Alarm("symmetric-molecule", "warning", message, f"Run again with --symmetry {name}.")]


def given_symmetry_alarms(plain: float, turned: float, symmetry: str) -> list[Alarm]:
    """What the map of given poses gives away when it is turned by the given symmetry: that it does not have it."""
    if turned > _SYMMETRIC * plain:
        return []
    message = (
        f"The map of the given poses does not have the symmetry {symmetry}: turned by it, a half-map correlates to "
        f"{turned:.2f} with the other one, unturned to {plain:.2f}."
    )
    advice = "Leave out --symmetry, or refine the poses with it on RELION's axes: n-fold on z, 2-fold of Dn on x."
    return [Alarm("symmetry-absent", "error", message, advice)]


def copies_alarms(copies: Copies, poses: ParticlePoses) -> list[Alarm]:
    """What an approximate symmetry of the map means for the poses."""
    if not len(copies):
        return []
    alike = float(copies.correlation.max())
    turns = ", ".join(f"{float(a):.0f}°" for a in angular_distance(copies.rotation, torch.eye(3)))
    unsure = float((poses.max_posterior < 0.9).float().mean())
    message = (
        f"The map nearly repeats itself after turns of {turns} (self-correlation {alike:.2f}); "
        f"{100 * unsure:.1f} % of the particles are not sure which copy they show."
    )
    advice = "max_posterior tells which; if the molecule is symmetric, run again with --symmetry."
    return [Alarm("pseudo-symmetry", "warning", message, advice)]


def resolution_alarms(fsc: Tensor, resolution_angst: float, pixel_size: float) -> list[Alarm]:
    """What the FSC (D/2,) gives away: an empty high band, or a resolution that stops at the sampling."""
    box = 2 * len(fsc)
    shell = box * pixel_size / resolution_angst
    if shell < 4:
        message = f"The half-maps agree only to {resolution_angst:.0f} Å."
        advice = "Check CTF, pixel size and contrast with `cryoloom info`, or give --mask-diameter-angst."
        return [Alarm("empty-high-band", "error", message, advice)]
    if shell > 0.95 * len(fsc):
        message = f"The half-maps agree up to the finest detail that the working box holds ({2 * pixel_size:.2g} Å)."
        advice = "If the images are finer than that, run again with a larger --box."
        return [Alarm("sampling-limit", "warning", message, advice)]
    return []
