"""A team of one does everything itself; what shares and sums mean for several is plain arithmetic."""

import pytest
import torch

from cryoloom.errors import InputError
from cryoloom.solve.team import Team


def test_a_team_of_one_leads_and_keeps_everything():
    team = Team()
    index = torch.arange(7)
    assert team.leads
    assert team.size == 1
    assert torch.equal(team.share(index), index)
    tensors = [torch.ones(2), torch.zeros(1, dtype=torch.complex64)]
    assert all(a is b for a, b in zip(team.add(tensors), tensors, strict=True))
    team.wait()


def test_shares_are_disjoint_and_complete():
    index = torch.randperm(11)
    teams = [Team() for _ in range(3)]
    for rank, team in enumerate(teams):
        team.rank, team.size = rank, 3
    shares = [team.share(index) for team in teams]
    assert sorted(torch.cat(shares).tolist()) == list(range(11))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [team.leads for team in teams] == [True, False, False]


def test_launch_of_one_process_needs_nothing():
    assert Team.launch("cpu").device.type == "cpu"
    assert not torch.distributed.is_initialized()


def test_cuda_must_be_there_when_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device"):
        Team.launch("cuda")
    assert Team.launch("auto").device.type == "cpu"


def test_a_team_of_one_agrees_with_itself():
    assert Team().agree(lambda: 7) == 7

    def refuse() -> None:
        raise InputError("no such file")

    with pytest.raises(InputError, match="no such file") as caught:
        Team().agree(refuse)
    assert type(caught.value) is InputError


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="--devices 4"):
        Team.launch("cuda", devices=4)
