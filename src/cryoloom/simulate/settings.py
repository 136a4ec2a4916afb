"""What a simulation is made of, checked before anything is drawn."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cryoloom.errors import InputError

Noise = Literal["white", "coloured"]
Motion = Literal["constant", "reversing", "fluctuating"]

SNR_DEFINITION = (
    "variance of the noise-free images (CTF applied) over all pixels and particles, "
    "divided by the variance of the noise over all pixels"
)


@dataclass(frozen=True)
class Simulation:
    """Settings of simulated particles: pixel_size in Å, shift in pixels, defocus in µm, voltage in kV, cs in mm.

    snr: see SNR_DEFINITION; infinite for no noise. shift: uniform within ± this, x and y. noise_spectrum, orientations,
    ctf_from: files that measured values are drawn from. junk: part of the images that hold no particle. movies × frames
    replace `particles`. tumbling: degrees (root mean square) that a molecule turns between frames; None: every frame
    has an orientation of its own. drift: pixels that it moves between frames, straight on; None: every frame is off
    centre on its own. b_factor: of all images, Å². dose: of a frame, e⁻/Å². pad: sampling of the slices; None: see
    `sampling`. Raises InputError for impossible values.
    """

    box: int = 64
    pixel_size: float = 1.6
    particles: int = 5000
    snr: float = 0.1
    shift: float = 5.0
    ctf: bool = True
    defocus: tuple[float, float] = (0.8, 2.0)
    voltage: float = 300.0
    cs: float = 2.7
    amplitude_contrast: float = 0.1
    b_factor: float = 0.0
    ctf_from: Path | None = None
    orientations: Path | None = None
    noise: Noise = "white"
    noise_spectrum: Path | None = None
    weights: tuple[float, ...] | None = None
    junk: float = 0.0
    movies: int | None = None
    frames: int | None = None
    motion: Motion = "constant"
    tumbling: float | None = None
    drift: float | None = None
    dose: float = 0.0
    pad: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.defocus
        drift = self.drift or 0.0
        wrong = {
            f"box is {self.box}: expected an even number of at least 16.": self.box < 16 or self.box % 2,
            f"pixel size is {self.pixel_size:g} Å: expected more than 0.": not 0 < self.pixel_size < math.inf,
            f"particles is {self.particles}: expected at least 1.": self.particles < 1,
            f"snr is {self.snr:g}: expected more than 0, or inf for images without noise.": not self.snr > 0,
            f"shift is {self.shift:g} px: expected 0 to half the box.": not 0 <= self.shift <= self.box / 2,
            f"defocus is {low:g} {high:g}: expected MIN MAX in µm, MIN not above MAX.": not low <= high < math.inf,
            f"voltage is {self.voltage:g}: expected kV, 60 to 1000.": not 60 <= self.voltage <= 1000,
            f"amplitude contrast is {self.amplitude_contrast:g}: expected 0 to 1.": (
                not 0 <= self.amplitude_contrast <= 1
            ),
            f"B-factor is {self.b_factor:g}: expected Å², 0 or more.": not 0 <= self.b_factor < math.inf,
            "a B-factor belongs to the CTF: leave out --no-ctf or --b-factor.": bool(self.b_factor) and not self.ctf,
            f"junk is {self.junk:g}: expected a part of the images, 0 or more and less than 1.": not 0 <= self.junk < 1,
            "junk goes with single images: leave out --movies or --junk.": bool(self.junk and self.movies),
            f"seed is {self.seed}: expected 0 or more.": self.seed < 0,
            "movies and frames belong together: give both, each at least 1, or neither.": self._movies_are_wrong(),
            "motion of an orientation needs movies: give --movies and --frames with --tumbling.": (
                self.tumbling is not None and self.movies is None
            ),
            "drift needs movies: give --movies and --frames with --drift.": (
                self.drift is not None and self.movies is None
            ),
            f"drift is {drift:g} px a frame: expected 0 or more.": not drift >= 0,
            f"drift is {drift:g} px a frame: with the shift it carries molecules out of the box.": (
                not self.shift + drift * ((self.frames or 1) - 1) <= self.box / 2
            ),
            f"dose is {self.dose:g}: expected e⁻/Å² of a frame, 0 or more.": not 0 <= self.dose < math.inf,
            "dose fades images by the B-factor of the CTF, frame by frame: give --movies and leave out --no-ctf.": (
                bool(self.dose) and (self.movies is None or not self.ctf)
            ),
            "measured spectra are for coloured noise: add --noise coloured.": (
                self.noise_spectrum is not None and self.noise != "coloured"
            ),
        }
        for sentence, applies in wrong.items():
            if applies:
                raise InputError(sentence)

    def _movies_are_wrong(self) -> bool:
        if self.movies is None or self.frames is None:
            return self.movies is not self.frames
        return min(self.movies, self.frames) < 1

    @property
    def sampling(self) -> int:
        """Padding of the Fourier slices: 3 (error 0.7 % of the exact projections) up to box 96, above it 2 (1.7 %)."""
        return self.pad or (3 if self.box <= 96 else 2)

    @property
    def n(self) -> int:
        """Number of images."""
        return self.particles if self.movies is None or self.frames is None else self.movies * self.frames

    def plain(self) -> dict[str, Any]:
        """Every setting as plain JSON types; an infinite SNR as the word inf."""
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return plain | {"snr": "inf" if math.isinf(self.snr) else self.snr, "n_images": self.n, "pad": self.sampling}
