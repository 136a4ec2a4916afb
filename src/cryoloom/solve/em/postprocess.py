"""What two half-maps say together: corrected FSC, resolution and a sharpened map."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cryoloom.physics.fourier import centred_fft3, centred_ifft3, crossing_shell, radii3, shell_sums3
from cryoloom.solve.em.agreement import Agreement, agreement
from cryoloom.solve.em.alarms import Alarm


@dataclass(frozen=True)
class Postprocessed:
    """FSC curves by shell, resolution in Å at 0.143 of the corrected one, sharpened map, its B-factor in Å²."""

    curves: Agreement
    resolution_angst: float
    sharpened: Tensor
    b_factor: float

    @property
    def fsc(self) -> Tensor:
        """The FSC (D/2,) corrected for the mask."""
        return self.curves.fsc

    @property
    def fsc_unmasked(self) -> Tensor:
        """The FSC (D/2,) of the half-maps as they are."""
        return self.curves.unmasked

    @property
    def fsc_masked(self) -> Tensor:
        """The FSC (D/2,) inside the mask, not corrected."""
        return self.curves.masked

    @property
    def fsc_phase_randomised(self) -> Tensor:
        """The FSC (D/2,) that the mask makes by itself."""
        return self.curves.randomised

    @property
    def fsc_chance(self) -> Tensor:
        """The FSC (D/2,) that noise alone may reach inside the mask."""
        return self.curves.chance


def postprocess(
    half_maps: tuple[Tensor, Tensor], volume: Tensor, mask: Tensor, pixel_size: float, seed: int, copies: int = 1
) -> Postprocessed:
    """Mask-corrected FSC of two half-maps, and the map sharpened by its own Guinier plot.

    copies is the order of the point group that was put on the maps: noise that was repeated counts once. Half-maps that
    share nothing have the resolution of the first shell, the whole box.
    """
    curves = agreement(half_maps, mask, seed, copies)
    shell = max(curves.shell_at(0.143), 1.0)
    sharpened, b_factor = _sharpen(volume * mask, curves.fsc, shell, pixel_size)
    return Postprocessed(curves, volume.shape[-1] * pixel_size / shell, sharpened, b_factor)


def agreement_alarms(curves: Agreement, field_angst: float) -> list[Alarm]:
    """What the curves of half-maps in a box of `field_angst` Å give away: a mask that hides their end, or chance."""
    ends = curves.shell_at(0.143)
    if curves.hidden_by_mask(0.143):
        message = f"Beyond {field_angst / max(ends, 1.0):.3g} Å most of what the half-maps share came through the mask."
        advice = "They may agree further: measure with a mask that fits less tightly, `cryoloom fsc --mask`."
        return [Alarm("mask-too-tight", "warning", message, advice)]
    seeming = crossing_shell(curves.fsc, 0.143)
    if seeming > max(4.0, 1.2 * ends):
        message = (
            f"The half-maps seem to agree to {field_angst / seeming:.3g} Å, but beyond "
            f"{field_angst / max(ends, 1.0):.3g} Å no better than noise may by chance."
        )
        advice = "There are few independent values inside the mask: more of the box, or a wider mask, tell more."
        return [Alarm("agreement-by-chance", "warning", message, advice)]
    return []


def _sharpen(volume: Tensor, fsc: Tensor, last: float, pixel_size: float) -> tuple[Tensor, float]:
    """Map weighted by √(2 FSC / (1 + FSC)) and sharpened by its Guinier plot's slope from 10 Å to the resolution."""
    box = volume.shape[-1]
    spectrum = centred_fft3(volume)
    counts = shell_sums3(torch.ones_like(volume)).clamp(min=1)
    amplitude = (shell_sums3(spectrum.abs() ** 2) / counts).sqrt().float().cpu()
    g2 = (torch.arange(box // 2) / (box * pixel_size)) ** 2
    fitted = (torch.arange(box // 2) >= box * pixel_size / 10) & (torch.arange(box // 2) <= last)
    b_factor = 0.0
    if int(fitted.sum()) >= 4:
        x, y = g2[fitted], amplitude[fitted].clamp(min=1e-20).log()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        b_factor = min(0.0, float(4 * slope))
    weight = (2 * fsc.clamp(0, 1) / (1 + fsc.clamp(0, 1))).sqrt() * torch.exp(-b_factor * g2 / 4)
    weight[torch.arange(box // 2) > last] = 0
    shell = radii3(box, volume.device).round().long().clamp(max=box // 2)
    gain = torch.cat([weight, weight.new_zeros(1)]).to(volume.device)[shell]
    return centred_ifft3(spectrum * gain), b_factor
