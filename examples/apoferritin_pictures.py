"""Pictures of real apoferritin: the map, the agreement of its halves with one another and with the model, its hand.

cryoloom reconstruct apoferritin.star --symmetry O --box 64 -o run
python examples/apoferritin_pictures.py 7a4m.cif run -o docs/images

With --wrong WRONG and --mixture MIXED, the folders of two runs that ended wrong, these are drawn beside it. --profile
measures the spherical average of the particles that the run's config.yaml names. Numbers go to the screen.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import gemmi
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter, label, zoom
from torch import Tensor

from cryoloom.data import read_particles, read_volume
from cryoloom.data.structure import positions, read_structure, with_positions
from cryoloom.evaluate.maps import surface_level
from cryoloom.physics.fourier import centred_fft3, centred_ifft3, fourier_shell_correlation, radii3, shell_sums3
from cryoloom.physics.so3 import point_group
from cryoloom.simulate.density import density_from_structure
from cryoloom.solve.em.independent import without_round_part
from cryoloom.solve.em.masks import low_pass, soft_sphere
from cryoloom.solve.em.spherical import molecule_scope, spherical_average
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.scope import Scope, ScopeSettings

INK, BLUE, ORANGE, RED, GREY = "#24303c", "#2f7ebc", "#d9822b", "#c0392b", "#8a949e"
# The cubic cell of 7A4M, Å: the axes of the 24 chains cross in its middle.
CELL = 136.49921
# Only what lies inside of this is compared, Å: the molecule ends at 64 Å.
RADIUS = 68.0
READ_AT = (38, 24, 16, 12, 8)


@dataclass
class Map:
    """A run's maps (D, D, D) with its voxel in Å, and the model in the hand that fits it better."""

    name: str
    colour: str
    volume: Tensor
    halves: tuple[Tensor, Tensor] | None
    voxel: float
    model: Tensor
    hand: int
    run: Path | None = None

    def rest(self, volume: Tensor) -> Tensor:
        """What is not round in a map, inside the molecule."""
        return without_round_part(volume) * soft_sphere(len(volume), RADIUS / self.voxel)

    def sharpened(self) -> Tensor:
        """The run's sharpened map, or its map where it has none."""
        path = self.run / "volumes/sharpened.mrc"
        return read_volume(path)[0] if path.is_file() else self.volume

    def to_model(self) -> Tensor:
        """FSC of what is not round in the map and in the model."""
        return fourier_shell_correlation(self.rest(self.volume), self.rest(self.model))

    def between_halves(self) -> Tensor | None:
        """The same between the half-maps."""
        return None if self.halves is None else fourier_shell_correlation(*map(self.rest, self.halves))

    def to_mirror(self) -> Tensor:
        """The same between the map and its own mirror image through the centre.

        The axes of O come to lie on themselves, and no turn but those of O keeps them there: nothing is to be aligned.
        """
        return fourier_shell_correlation(self.rest(self.volume), self.rest(inverted(self.volume)))


def inverted(volume: Tensor) -> Tensor:
    """A map (D, D, D) of an even box mirrored through its centre voxel."""
    return volume.flip((0, 1, 2)).roll((1, 1, 1), (0, 1, 2))


def density_of(path: Path, box: int, voxel: float) -> Tensor:
    """The density (D, D, D) of all 24 chains about the centre, from the file of one."""
    one = read_structure(path)
    xyz = positions(one) - CELL / 2
    whole, model = gemmi.Structure(), gemmi.Model(1)
    for number, rotation in enumerate(point_group("O").double().numpy()):
        chain = with_positions(one, xyz @ rotation.T)[0][0].clone()
        chain.name = chr(ord("A") + number)
        model.add_chain(chain)
    whole.add_model(model)
    whole.setup_entities()
    return density_from_structure(whole, box, voxel, centre=np.zeros(3))


def read_map(name: str, colour: str, run: Path, atoms: Path) -> Map:
    """The maps of a run, with the model in the better of both hands: symmetry has put all of them on the same axes."""
    volume, voxel = read_volume(run / "volumes/volume.mrc")
    halves = tuple(read_volume(run / f"volumes/half_{n}.mrc")[0] for n in (1, 2))
    density = density_of(atoms, len(volume), voxel)
    found = []
    for hand, model in ((1, density), (-1, inverted(density))):
        found.append(Map(name, colour, volume, halves, voxel, model, hand, run))
    last = int(len(volume) * voxel / 12)
    return max(found, key=lambda m: float(m.to_model()[4:last].mean()))


def with_spectrum_of(volume: Tensor, other: Tensor) -> Tensor:
    """A map (D, D, D) with the power of another in every shell: what then looks different is different."""
    spectra = [centred_fft3(v) for v in (volume, other)]
    mine, wanted = (shell_sums3(spectrum.abs() ** 2) for spectrum in spectra)
    gain = torch.cat([(wanted / mine.clamp(min=1e-30)).sqrt(), torch.zeros(1)])
    shell = radii3(len(volume)).round().long().clamp(max=len(volume) // 2)
    return centred_ifft3(spectra[0] * gain[shell])


def surface(volume: np.ndarray, level: float) -> np.ndarray:
    """A lit surface (3D, 3D, 3) of a map, seen along its first axis, white where there is none."""
    fine = zoom(volume, 3, order=3, grid_mode=True, mode="grid-constant")
    regions, count = label(fine > level)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    # Specks of noise hide the molecule behind them.
    fine = np.where((regions == 0) | (sizes > 0.01 * sizes[1:].max())[regions], fine, 0)
    above = fine > level
    seen = above.any(0)
    first = above.argmax(0)
    before = np.clip(first - 1, 0, None)
    rows, columns = np.indices(first.shape)
    a, b = fine[before, rows, columns], fine[first, rows, columns]
    height = before + np.clip((level - a) / np.where(np.abs(b - a) > 1e-12, b - a, 1), 0, 1)
    slope = np.stack([g[first, rows, columns] for g in np.gradient(gaussian_filter(fine, 1.5))], -1)
    normal = -slope / (np.linalg.norm(slope, axis=-1, keepdims=True) + 1e-12)
    light = np.array([-0.8, -0.45, -0.4])
    bright = np.clip(normal @ (light / np.linalg.norm(light)), 0, 1)
    near = 1 - (height - height[seen].min()) / max(np.ptp(height[seen]), 1e-9)
    shade = (0.2 + 0.6 * bright) * (0.45 + 0.55 * near**0.7) + 0.12
    image = np.clip(shade[..., None] * np.array([0.62, 0.8, 0.95]) + 0.15 * bright[..., None] ** 8, 0, 1)
    image[~seen] = 1
    return image


def draw_maps(maps: list[Map], output: Path) -> None:
    """A column for each map, the model last: the surface along a fourfold axis, and the central slice below it."""
    good = maps[0]
    shown = [(m.name, m.sharpened()) for m in maps]
    shown.append(("model 7A4M, filtered alike", with_spectrum_of(good.model, good.sharpened())))
    figure, axes = plt.subplots(2, len(shown), figsize=(2.6 * len(shown), 5.3), facecolor="white")
    for column, (name, volume) in zip(axes.T, shown, strict=True):
        field = len(volume)
        side = slice(*(round(field / 2 + sign * 70 / good.voxel) for sign in (-1, 1)))
        fine = slice(3 * side.start, 3 * side.stop)
        inside = (volume * soft_sphere(field, RADIUS / good.voxel)).numpy()
        column[0].imshow(surface(inside, 0.75 * surface_level(inside))[fine, fine])
        plane = inside[field // 2][side, side]
        column[1].imshow(
            plane, cmap="gray", vmin=np.percentile(inside, 1), vmax=np.percentile(inside, 99.8), interpolation="bicubic"
        )
        column[0].set_title(name, fontsize=10, color=INK)
        for ax in column:
            ax.set_axis_off()
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.95, 0.03, 0.03)
    save(figure, output)


def draw_curves(maps: list[Map], output: Path) -> None:
    """A panel for each run: FSC between its half-maps, and FSC to the model."""
    figure, axes = plt.subplots(
        1, len(maps), figsize=(3.7 * len(maps), 3.2), facecolor="white", sharey=True, squeeze=False
    )
    for ax, m in zip(axes[0], maps, strict=True):
        rulers(ax, len(m.volume) * m.voxel)
        curve(ax, m.between_halves(), BLUE, "between the half-maps")
        curve(ax, m.to_model(), ORANGE, "map to the atomic model")
        ax.set_title(m.name, fontsize=10, color=INK)
    axes[0, 0].set_ylabel("FSC of what is not round", fontsize=8, color=INK)
    axes[0, 0].legend(fontsize=7.5, frameon=False, loc="lower left")
    figure.tight_layout()
    save(figure, output)


def draw_mirror(maps: list[Map], output: Path) -> None:
    """How far maps and the model are their own mirror image, shell by shell."""
    figure, ax = plt.subplots(figsize=(6, 3.3), facecolor="white")
    good = maps[0]
    rulers(ax, len(good.volume) * good.voxel)
    model = Map("the atomic model", GREY, good.model, None, good.voxel, good.model, 1)
    for m in [model, *maps]:
        curve(ax, m.to_mirror(), m.colour, m.name)
    ax.set_ylim(-0.55, 1.05)
    ax.set_ylabel("correlation with the own mirror image", fontsize=8, color=INK)
    ax.legend(fontsize=7.5, frameon=False, loc="lower left")
    figure.tight_layout()
    save(figure, output)


def draw_profile(run: Path, model: Tensor, voxel: float, output: Path) -> None:
    """The spherical average found from the images alone, beside that of the model, and what follows from it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    images = WorkingImages(read_particles(config["particles"], box=config["box"]))
    settings = ScopeSettings.model_validate({})
    usual, scope = Scope.of(settings, images, "O"), molecule_scope(settings, images, "O")
    coarse = images.coarse(16.0)
    found = spherical_average(coarse, usual.shift_px * coarse.box / images.box)
    size = coarse.pixel_size
    r, rho = found.radius * size, found.density * found.sign
    distance = radii3(len(model)).round().long().flatten()
    count = torch.bincount(distance)
    mean = torch.bincount(distance, low_pass(model, 16.0).flatten()) / count
    at = torch.arange(len(mean)) * voxel
    mass, true = rho * r.square(), mean * at.square()
    figure, ax = plt.subplots(figsize=(6, 3.1), facecolor="white")
    ax.plot(r, mass / mass.max(), color=BLUE, linewidth=1.8, label="fitted to 1,000 images, shifts alone")
    ax.plot(at, true / true.max(), color=GREY, linewidth=1.4, label="atomic model, to 12 Å")
    marks = (
        (found.inside_px * size, "95 % of\nthe mass", BLUE, "--"),
        (scope.radius_px * images.pixel_size, "mask", ORANGE, "-"),
        (usual.radius_px * images.pixel_size, "mask without it", RED, ":"),
    )
    for height, (place, name, colour, style) in zip((0.62, 1.04, 1.04), marks, strict=True):
        ax.axvline(place, color=colour, linewidth=1, linestyle=style)
        ax.text(place + 0.7, height, f"{name}\n{place:.0f} Å", fontsize=7, color=colour, va="top")
    ax.set_xlim(0, 96)
    ax.set_ylim(-0.55, 1.08)
    ax.axhline(0, color="#bbbbbb", linewidth=0.7)
    ax.set_xlabel("radius, Å", fontsize=8, color=INK)
    ax.set_ylabel("density × radius²", fontsize=8, color=INK)
    ax.tick_params(labelsize=7, colors=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=7.5, frameon=False, loc="upper left")
    figure.tight_layout()
    save(figure, output)
    print(
        f"diameter {scope.diameter_px * images.pixel_size:.1f} Å, outer edge {found.outer_px * size:.1f} Å, "
        f"mask radius {scope.radius_px * images.pixel_size:.1f} Å, sign {found.sign:+d}, clarity {found.clarity:.0f}"
    )


def rulers(ax: plt.Axes, field: float) -> None:
    """An axis of shells of a field of view in Å, named by their resolution."""
    ax.field = field
    ax.axhline(0, color="#bbbbbb", linewidth=0.7)
    ax.set_xlim(2 / field, 1 / 6)
    ticks = (38, 24, 16, 12, 10, 8, 7, 6)
    ax.set_xticks([1 / t for t in ticks], [f"{t}" for t in ticks])
    ax.set_xlabel("resolution, Å", fontsize=8, color=INK)
    ax.set_ylim(-0.45, 1.05)
    ax.tick_params(labelsize=7, colors=INK)
    ax.spines[["top", "right"]].set_visible(False)


def curve(ax: plt.Axes, fsc: Tensor, colour: str, name: str) -> None:
    """An FSC (D/2,) from its third shell on: coarser ones hold hardly anything that is not round."""
    shell = torch.arange(3, len(fsc))
    ax.plot(shell / ax.field, fsc[3:], color=colour, label=name, linewidth=1.8)


def save(figure: plt.Figure, output: Path) -> None:
    """Write a picture in 256 colours, which halves the file, and print its size."""
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    plt.close(figure)
    Image.open(output).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(output, optimize=True)
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")


def tell(m: Map) -> None:
    """Print how a map compares with the model, at three shells around each of a few resolutions."""
    field = len(m.volume) * m.voxel
    for name, fsc in (("model", m.to_model()), ("halves", m.between_halves()), ("mirror", m.to_mirror())):
        at = {d: round(field / d) for d in READ_AT}
        values = ", ".join(f"{d} Å {float(fsc[k - 1 : k + 2].mean()):+.2f}" for d, k in at.items())
        print(f"{m.name}, {name}: {values}")
    fine = slice(round(field / 16), round(field / 9.6) + 1)
    model = fourier_shell_correlation(m.rest(m.model), m.rest(inverted(m.model)))
    print(
        f"{m.name}, mirror, 16 to 9.6 Å: {float(m.to_mirror()[fine].mean()):.2f}, model {float(model[fine].mean()):.2f}"
    )
    denied = (m.between_halves()[6:] > 0.5) & (m.to_model()[6:] < 0.3)
    below = [k for k, value in enumerate(m.to_model().tolist()) if k >= 5 and value < 0.5]
    print(f"{m.name}: hand {m.hand:+d}, to the model {field / below[0]:.1f} Å, shells denied {int(denied.sum())}")


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="7a4m.cif")
    parser.add_argument("run", type=Path, help="a run that ended right")
    parser.add_argument("--wrong", type=Path, help="a run that ended in the wrong basin")
    parser.add_argument("--mixture", type=Path, help="a run that ended in a mixture of both hands")
    parser.add_argument("--profile", action="store_true", help="measure and draw the spherical average of the images")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"), help="folder of the pictures")
    given = parser.parse_args()
    maps = [read_map("right", BLUE, given.run, given.model)]
    if given.wrong:
        maps.append(read_map("wrong basin", RED, given.wrong, given.model))
    if given.mixture:
        maps.append(read_map("mixture of both hands", ORANGE, given.mixture, given.model))
    for m in maps:
        tell(m)
    draw_maps(maps, given.output / "apoferritin_map.png")
    draw_curves(maps, given.output / "apoferritin_fsc.png")
    draw_mirror(maps, given.output / "apoferritin_mirror.png")
    if given.profile:
        draw_profile(given.run, maps[0].model, maps[0].voxel, given.output / "apoferritin_profile.png")


if __name__ == "__main__":
    main()
