"""Table 3 of CryoFormer: what each part of the network is good for, and what an image costs."""

from dataclasses import replace

from cryoloom.evaluate.bench.cryoformer import SCALES, likeness_rows, reconstructed_likeness, simulated, spike_of
from cryoloom.evaluate.bench.density_speed import density_speed
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.model.fields.settings import TransformerSettings

# Of the chains of 6VYB only B is open.
_ALL_THREE = ("--hinge", "B:331-527", "A:331-527", "C:331-527", "--hinge-like", *"ABB")


def one_domain(book: Notebook) -> None:
    """The spike of Table 1."""
    _taken_out(book, simulated(book, "table3/data", spike_of(book)), "table3")


def three_domains(book: Notebook) -> None:
    """The spike with all three receptor-binding domains swinging, each by itself: as much as a spike can move."""
    s = book.sizes
    several = replace(book, sizes=replace(s, states=s.states_each, particles=s.particles_each))
    data = simulated(several, "table3-three/data", spike_of(book, _ALL_THREE))
    _taken_out(book, data, "table3-three")
    book.notes.append(
        f"The domains of chains A, B and C swing each by itself in {s.states_each} steps, which makes "
        f"{s.states_each**3} conformations; {s.particles_each:,} images."
    )


def _taken_out(book: Notebook, data: str, folder: str) -> None:
    """Rows of the network with one part taken out at a time."""
    s = book.sizes
    most = s.queries[-1]
    changes: dict[str, tuple[object, ...]] = {
        "Fourier": ("--transformer.domain", "fourier", "--transformer.queries", most),
        "without deformation-aware blocks": ("--transformer.deformation", "concatenation"),
        "without region-wise attention": ("--transformer.region", "concatenation"),
    }
    changes |= {f"n = {n}": ("--transformer.queries", n) for n in s.queries}
    others = {f"{grid} grid instead of hash": ("--transformer.grid", grid) for grid in ("dense", "triplane")}
    found = {}
    for i, (name, options) in enumerate((changes | others).items()):
        queries = () if "--transformer.queries" in options else ("--transformer.queries", most)
        changed = (*s.quick, *queries, *options)
        size = {"box": s.box_ablated, "passes": s.passes_ablated}
        found[name] = reconstructed_likeness(book, data, f"{folder}/{i}", "cryoformer", *changed, **size)
        likeness_rows(book, name, found[name])
    full = found[f"n = {most}"]
    worse, what = sum(found[name].moving < full.moving for name in changes), "ablations worse than the full model"
    book.row(f"{what} where the molecule moves", worse, must=len(changes) - 1, better="higher")


def speed(book: Notebook) -> None:
    """Images and their gradient from a density on voxels that stay, and at the points of each image's rays."""
    s = book.sizes
    settings = TransformerSettings(queries=s.queries[-1])
    what = f"box {s.box}, n = {settings.queries}"
    ways: dict[str, dict[str, bool]] = {"voxels": {}, "rays": {"rays": True}, "voxels in bf16": {"bf16": True}}
    found = {name: density_speed(settings, s.box, s.device, **way) for name, way in ways.items()}
    if s.compiled:
        try:
            found["voxels, compiled"] = density_speed(settings, s.box, s.device, compiled=True)
        except RuntimeError as why:
            # A compiler for C++ is not on every machine.
            book.notes.append(f"torch.compile failed: {str(why).strip().splitlines()[0]}.")
    for name, row in found.items():
        book.row(f"{what}, {name}: one image, forward and backward", 1000 * row.seconds, "ms")
        book.row(f"{what}, {name}: points of the density", row.points_per_s / 1e6, "M/s", better="higher")
    ratio = found["rays"].seconds / found["voxels"].seconds
    book.row(f"{what}: rays / voxels, time", ratio, "×", must=3, better="higher")


TABLE3 = Table(
    name="cryoformer-table3",
    title="CryoFormer, Table 3: what each part is good for",
    about="As Table 1, the spike at SNR 0.1, with one part of the network taken out at a time, in a smaller box.",
    parts={"speed": speed, "ablations": one_domain, "ablations-three": three_domains},
    scales=SCALES,
)
