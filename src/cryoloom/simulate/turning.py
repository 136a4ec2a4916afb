"""A molecule of which one part turns about a bond, as in the 7bcq set of TEMPOR (Ye et al. 2023, §5.1)."""

from collections.abc import Callable

import gemmi
import numpy as np

from cryoloom.data.structure import positions, with_positions
from cryoloom.errors import InputError
from cryoloom.simulate.phantom import turn

# Of the phantom: half of its atoms come after it, and hardly any of them meet the other half on the way.
PHANTOM_BOND = "A:186"


def turning(structure: gemmi.Structure, about: str) -> Callable[[float], gemmi.Structure]:
    """The structure by degrees: what comes after residue `about` (CHAIN:NUMBER) turns about its Cα–C bond.

    The chain's rest turns and so do the chains that follow it in the file.
    Raises InputError where there is no such residue, no such bond, or nothing after it.
    """
    chain, _, number = about.partition(":")
    keys = [(site.chain.name, str(site.residue.seqid), site.atom.name) for site in structure[0].all()]
    place = {key: i for i, key in reversed(list(enumerate(keys)))}
    ends = [place.get((chain, number, name)) for name in ("CA", "C")]
    if ends[0] is None or ends[1] is None:
        raise InputError(
            f"--about {about}: {structure.name or 'the structure'} has no such residue with a Cα and a C atom; "
            "expected CHAIN:NUMBER, such as A:186."
        )
    last = max(i for i, key in enumerate(keys) if key[:2] == (chain, number))
    if last + 1 == len(keys):
        raise InputError(f"--about {about}: nothing comes after that residue, so nothing would turn: name another.")
    xyz = positions(structure)
    start, axis = xyz[ends[0]], xyz[ends[1]] - xyz[ends[0]]
    axis /= np.linalg.norm(axis)

    def turned(degrees: float) -> gemmi.Structure:
        moved = xyz.copy()
        moved[last + 1 :] = (xyz[last + 1 :] - start) @ turn(axis, degrees).T + start
        return with_positions(structure, moved)

    return turned
