"""Every alarm goes off on its own case and stays silent on a good reconstruction."""

import pytest
import torch

from cryoloom.physics.fourier import radii3
from cryoloom.physics.so3 import matrix_from_rotvec, random_rotations
from cryoloom.solve.em.alarms import (
    few_alarms,
    map_alarms,
    mirror_alarms,
    misread_alarms,
    mixture_alarms,
    pose_alarms,
    resolution_alarms,
    undecided_alarms,
)
from cryoloom.solve.em.refine import ParticlePoses


def names(alarms) -> list[str]:
    return [alarm.name for alarm in alarms]


def poses(rotation: torch.Tensor, sigma: float = 2.0) -> ParticlePoses:
    n = len(rotation)
    return ParticlePoses(rotation, torch.zeros(n, 2), torch.full((n,), sigma), torch.zeros(n), torch.ones(n))


def curve(last: int, box: int = 64) -> torch.Tensor:
    """FSC that is one up to shell `last`."""
    return (torch.arange(box // 2) <= last).float()


def test_a_good_reconstruction_is_silent(blobs):
    assert map_alarms(blobs, 14) == []
    assert pose_alarms(poses(random_rotations(300, torch.Generator().manual_seed(0)))) == []
    assert resolution_alarms(curve(16), 64 * 1.5 / 16, 1.5) == []


def test_nan_in_the_map(blobs):
    broken = blobs.clone()
    broken[3, 4, 5] = torch.nan
    assert names(map_alarms(broken, 14)) == ["not-a-number"]


def test_a_negative_molecule(blobs):
    assert names(map_alarms(-blobs, 14)) == ["contrast-sign"]


def test_a_hollow_shell():
    shell = torch.exp(-(((radii3(32) - 12) / 1.5) ** 2))
    assert "hollow-shell" in names(map_alarms(shell, 14))


def test_a_false_mirror_plane(molecule):
    assert mirror_alarms(molecule) == []
    # The box's first plane has no partner.
    reflected = molecule.flip(2).roll(1, 2)
    assert names(mirror_alarms(molecule + reflected)) == ["mirror-plane"]


@pytest.mark.parametrize(("share", "severity"), [(0.02, []), (0.3, ["warning"]), (0.8, ["error"])])
def test_poses_that_a_search_finds_elsewhere(share, severity):
    alarms = misread_alarms(share)
    assert [alarm.severity for alarm in alarms] == severity
    assert all(f"{100 * share:.0f} %" in alarm.message for alarm in alarms)


@pytest.mark.parametrize(("share", "severity"), [(0.6, "warning"), (0.97, "error")])
def test_one_orientation(share, severity):
    generator = torch.Generator().manual_seed(1)
    rotation = random_rotations(400, generator)
    n = int(share * 400)
    turns = torch.zeros(n, 3)
    turns[:, 2] = 6.28 * torch.rand(n, generator=generator)
    # In-plane turns of one view are still one view.
    rotation[:n] = matrix_from_rotvec(turns) @ rotation[0]
    found = pose_alarms(poses(rotation))
    assert names(found) == ["one-orientation"]
    assert found[0].severity == severity


def test_the_views_across_a_hemisphere_are_not_one_orientation():
    rotation = random_rotations(400, torch.Generator().manual_seed(2))
    assert pose_alarms(poses(rotation[rotation[:, 2, 2] > 0])) == []


def test_poses_unknown():
    rotation = random_rotations(100, torch.Generator().manual_seed(3))
    assert names(pose_alarms(poses(rotation, sigma=60.0))) == ["poses-unknown"]


def test_poses_undecided():
    """A mixture of two views leaves each particle two poses; a few uncertain particles are no sign of one."""
    found = poses(random_rotations(100, torch.Generator().manual_seed(4)))
    assert undecided_alarms(found) == []
    found.max_posterior[:20] = 0.6
    assert undecided_alarms(found) == []
    found.max_posterior[:60] = 0.55
    assert names(undecided_alarms(found)) == ["poses-undecided"]


def test_nothing_above_the_lowest_shells():
    assert names(resolution_alarms(curve(2), 64 * 1.5 / 2, 1.5)) == ["empty-high-band"]


def test_resolution_at_the_edge_of_the_box():
    assert names(resolution_alarms(curve(31), 64 * 1.5 / 31, 1.5)) == ["sampling-limit"]


def test_an_alarm_is_words_for_a_file(blobs):
    entry = map_alarms(-blobs, 14)[0].as_dict()
    assert set(entry) == {"name", "severity", "message", "advice"}
    assert all(entry.values())


def test_a_handful_of_particles():
    assert names(few_alarms(11)) == ["few-particles"]
    assert few_alarms(300) == []


def test_a_mixture_of_both_hands_is_told_the_better_the_finer_the_map():
    assert names(mixture_alarms(0.33, 17.0)) == ["mirror-mixture"]
    assert mixture_alarms(0.33, 10.0) == []
    assert names(mixture_alarms(0.4, 10.0)) == ["mirror-mixture"]
    assert mixture_alarms(0.27, 17.0) == []
