"""What was measured: particles, their images, CTF and poses. The only room that knows a file format's conventions."""

from cryoloom.data.mrc import read_stack, read_volume, write_stack, write_volume
from cryoloom.data.particles import Particles
from cryoloom.data.read import read_particles
from cryoloom.data.star_out import write_star

__all__ = [
    "Particles",
    "read_particles",
    "read_stack",
    "read_volume",
    "write_stack",
    "write_star",
    "write_volume",
]
