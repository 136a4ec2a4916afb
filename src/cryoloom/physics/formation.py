"""Image formation: `X(k) = C(k) · exp(−2πi k·t) · V̂(Rᵀ(kx, ky, 0))`, the one model of every system."""

import torch
from torch import Tensor

from cryoloom.physics.ctf import CTFParameters, ctf
from cryoloom.physics.fourier import FrequencyLattice, shift_phases
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice


def lattice_ctf(parameters: CTFParameters | None, n: int, lattice: FrequencyLattice, pixel_size: float) -> Tensor:
    """CTF values (n, P) on the lattice; ones where there is no CTF."""
    if parameters is None:
        return torch.ones(n, len(lattice), device=lattice.k.device)
    return ctf(parameters, lattice.k / (lattice.box * pixel_size))


def form_images(
    projector: FourierSlice, pose: Pose, parameters: CTFParameters | None, lattice: FrequencyLattice, pixel_size: float
) -> Tensor:
    """Noise-free image spectra (B, P) of particles at the best hypothesis of `pose`, shifts in Å."""
    slices = projector.project(pose.best_rotation, lattice)
    phases = shift_phases(lattice.k, pose.best_shift / pixel_size, lattice.box)
    return slices * phases * lattice_ctf(parameters, len(slices), lattice, pixel_size)
