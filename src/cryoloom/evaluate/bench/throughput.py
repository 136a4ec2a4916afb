"""How many points a second the fields are evaluated at, forward and backward, in each way to compute."""

import time
from dataclasses import dataclass
from typing import get_args

import torch

from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.settings import FieldName, FieldSettings
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.so3 import random_rotations


@dataclass(frozen=True)
class Sizes:
    """Box and batch of the slices; how long each is measured."""

    box: int = 64
    batch: int = 16
    seconds: float = 5.0
    device: str = "cpu"


def points(book: Notebook) -> None:
    """Points/s of every field with its default network, full slices of a batch."""
    s = book.sizes
    for name in get_args(FieldName):
        eager = points_per_second(s, name, bf16=False, compiled=False)
        book.row(f"{name}, f32: points/s, forward and backward", eager, better="higher")
    for label, bf16, compiled in (("f32 compiled", False, True), ("bf16", True, False), ("bf16 compiled", True, True)):
        book.row(f"mlp, {label}: points/s", points_per_second(s, "mlp", bf16, compiled), better="higher")
    book.notes.append(
        f"Slices of a batch of {s.batch} at box {s.box}, default networks; compiled: the network through "
        f"torch.compile. {torch.get_num_threads()} threads."
    )


def points_per_second(sizes: Sizes, name: FieldName, bf16: bool, compiled: bool) -> float:
    """Points/s, forward and backward, of a field."""
    device, generator = torch.device(sizes.device), torch.Generator().manual_seed(0)
    k = FrequencyLattice.of_box(sizes.box, device).prefix(sizes.box / 2 - 1).k
    rotations = random_rotations(sizes.batch, generator)[:, None].to(device)
    field = build_field(FieldSettings(field=name), sizes.box, generator).to(device)
    if compiled:
        field.compile_network()
    calls, started = -3, time.perf_counter()
    while calls < 1 or time.perf_counter() - started < sizes.seconds:
        if calls == 0:
            started = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            slices = field.slices(rotations, k)
        slices.abs().square().sum().backward()
        # Waits for the device, too.
        float(slices.detach().abs().sum())
        calls += 1
    return calls * sizes.batch * len(k) / (time.perf_counter() - started)


THROUGHPUT = Table(
    name="field-throughput",
    title="Points a second of the fields",
    about="What a field costs: values of its Fourier transform and the gradient of its weights.",
    parts={"points": points},
    scales={"mini": Sizes(), "paper": Sizes(256, 16, 10.0, "cuda"), "quick": Sizes(16, 2, 0.05)},
)
