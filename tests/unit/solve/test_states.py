"""States of loom survive a checkpoint: what comes back is what was saved, to the bit."""

import dataclasses
import math

import torch

from cryoloom.solve.em.abinitio import AbInitioState
from cryoloom.solve.em.pseudosymmetry import Copies
from cryoloom.solve.em.refine import ParticlePoses, RefineState
from cryoloom.solve.em.starts import FirstMaps, Found, Trials
from cryoloom.solve.em.sums import SliceSums
from cryoloom.solve.run import from_plain, to_plain


def same(a, b) -> bool:
    """Whether two states are of one type and equal, tensors to the bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def through_a_file(kind, value, path):
    torch.save(to_plain(value), path)
    return from_plain(kind, torch.load(path, weights_only=True))


def ab_initio_state(generator: torch.Generator) -> AbInitioState:
    halves = []
    for _ in range(2):
        sums = SliceSums.zeros(16, 6.5, torch.eye(3)[None])
        sums.numerator += torch.randn(sums.numerator.shape, generator=generator, dtype=torch.complex64)
        halves.append(sums)
    volume, radial = torch.randn(16, 16, 16, generator=generator), torch.rand(8, generator=generator)
    return AbInitioState(3, 5.25, radial, tuple(halves), volume, radial + 1, -12.5, (0.1, 0.2), 2)


def test_ab_initio_state(generator, tmp_path):
    state = ab_initio_state(generator)
    assert same(through_a_file(AbInitioState, state, tmp_path / "s.pt"), state)


def found(generator: torch.Generator, box: int) -> Found:
    volume = torch.randn(box, box, box, generator=generator)
    return Found(volume, torch.rand(box // 2, generator=generator), 4.75, -20.5, 0.125)


def test_trials_under_way_and_between_two_searches(generator, tmp_path):
    for trials in (
        Trials(),
        Trials(ab_initio_state(generator), FirstMaps(1, ab_initio_state(generator), -3.5)),
        Trials(None, FirstMaps(2, ab_initio_state(generator), -3.5)),
        Trials(ab_initio_state(generator), marching=True, certain=True, found=(found(generator, 16),)),
        # Maps of later starts may lie on a larger box.
        Trials(found=(found(generator, 16), found(generator, 16), found(generator, 20))),
    ):
        assert same(through_a_file(Trials, trials, tmp_path / "s.pt"), trials)


def test_refine_state(generator, tmp_path):
    volumes = torch.randn(6, 8, 8, 8, generator=generator)
    pair = (volumes[0], volumes[1])
    noise = torch.rand(4, generator=generator)
    poses = ParticlePoses.unknown(5)
    copies = Copies(torch.eye(3)[None], torch.ones(3), torch.ones(1))
    maps = (volumes[2], volumes[3])
    state = RefineState(2, 9.5, noise, pair, maps, volumes[4], volumes[5], noise, poses, copies, 180.0, 0.1, -math.inf)
    assert same(through_a_file(RefineState, state, tmp_path / "s.pt"), state)


def test_plain_values_hold_no_classes(generator):
    def kinds(value):
        if isinstance(value, dict):
            return {dict}.union(*(kinds(part) for part in value.values()))
        if isinstance(value, list):
            return {list}.union(*(kinds(part) for part in value))
        return {type(value)}

    assert kinds(to_plain(ab_initio_state(generator))) <= {dict, list, torch.Tensor, int, float}
