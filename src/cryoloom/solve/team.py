"""Processes that share one run: each takes a share of the particles, sums are added over all of them."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from cryoloom.errors import InputError

Device = Literal["auto", "cpu", "cuda"]


class Team:
    """The processes of a run, one a device; a team of one needs no communication."""

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1

    @classmethod
    def launch(cls, device: Device = "auto", devices: int = 1, num_nodes: int = 1) -> "Team":
        """Start the processes of a run (by lightning-fabric: torchrun and SLURM are recognised).

        Raises InputError where CUDA is asked for and absent.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: no CUDA device is visible to torch; use --device auto or cpu.")
        use_cuda = device != "cpu" and torch.cuda.is_available()
        if devices == 1 and num_nodes == 1:
            return cls("cuda" if use_cuda else "cpu")
        from lightning_fabric import Fabric

        fabric = Fabric(accelerator="cuda" if use_cuda else "cpu", devices=devices, num_nodes=num_nodes, strategy="ddp")
        fabric.launch()
        if not use_cuda:
            torch.set_num_threads(max(1, torch.get_num_threads() // devices))
        return cls(fabric.device)

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, index: Tensor) -> Tensor:
        """This process's part of some particle indices."""
        return index[self.rank :: self.size]

    def add(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor summed over the processes."""
        if self.size == 1:
            return list(tensors)
        summed = []
        for tensor in tensors:
            total = tensor.to(self.device).contiguous()
            dist.all_reduce(torch.view_as_real(total) if total.is_complex() else total)
            summed.append(total.to(tensor.device))
        return summed

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()
