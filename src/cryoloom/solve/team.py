"""Processes that share one run: each takes a share of the particles, sums are added over all of them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar, cast

import numba
import torch
import torch.distributed as dist
from torch import Tensor

from cryoloom.errors import EchoedError, InputError, TeammateLostError

Device = Literal["auto", "cpu", "cuda"]
T = TypeVar("T")


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

        Raises InputError where CUDA is asked for and absent, or has fewer devices.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: no CUDA device is visible to torch; use --device auto or cpu.")
        use_cuda = device != "cpu" and torch.cuda.is_available()
        if devices == 1 and num_nodes == 1:
            return cls("cuda" if use_cuda else "cpu")
        if use_cuda and devices > torch.cuda.device_count():
            raise InputError(f"--devices {devices}: torch sees {torch.cuda.device_count()} CUDA devices; give as many.")
        from lightning_fabric import Fabric

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        threads = torch.get_num_threads(), numba.get_num_threads()
        fabric = Fabric(accelerator="cuda" if use_cuda else "cpu", devices=devices, num_nodes=num_nodes, strategy="ddp")
        fabric.launch()
        # The processes of one machine share its cores.
        torch.set_num_threads(max(1, threads[0] // devices))
        numba.set_num_threads(max(1, threads[1] // devices))
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
            with _together():
                dist.all_reduce(torch.view_as_real(total) if total.is_complex() else total)
            summed.append(total.to(tensor.device))
        return summed

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            with _together():
                dist.barrier()

    def agree(self, action: Callable[[], T]) -> T:
        """What `action` returns; where it refuses the input (InputError) on any process, every process refuses it."""
        refusal, result = None, None
        try:
            result = action()
        except InputError as error:
            if self.size == 1:
                raise
            refusal = str(error)
        if self.size > 1:
            refusals: list[str | None] = [None] * self.size
            with _together():
                dist.all_gather_object(refusals, refusal)
            spoken = next((rank for rank, text in enumerate(refusals) if text is not None), None)
            if spoken is not None:
                raise (InputError if spoken == self.rank else EchoedError)(refusals[spoken])
        return cast(T, result)


@contextmanager
def _together() -> Iterator[None]:
    """Around every exchange: what the backend raises when a peer is gone becomes a TeammateLostError."""
    try:
        yield
    except RuntimeError as error:
        raise TeammateLostError(f"another process of the run stopped ({str(error).splitlines()[0]})") from error
