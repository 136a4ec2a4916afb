"""How large a volume's Fourier coefficients are, as far as the images tell before anything is known."""

import torch
from torch import Tensor

from cryoloom.solve.images import WorkingImages


def signal_amplitude(images: WorkingImages, by_shell: bool = True, n: int = 1000) -> Tensor:
    """Root-mean-square |V̂| by shell, (D/2 + 1,), from up to `n` images: √((⟨|y|²⟩ − noise) / ⟨C²⟩).

    The noise is taken as the power of the outermost shells, and the signal as at least 2 % of the power. A measure to
    scale networks by, not an estimate to rely on. by_shell: else all shells have the root mean square of them.
    """
    index = torch.linspace(0, len(images) - 1, min(n, len(images))).long()
    power = images.mean_power(index)
    transfer = images.lattice.shell_mean(images.ctf(index, images.lattice).square().mean(0)).clamp(min=1e-4)
    amplitude = ((power - power[-4:].mean()).clamp(min=0.02 * power) / transfer).sqrt()
    # The mean grey value is taken off every image, and there is no shell beyond the last.
    amplitude = torch.cat([amplitude[1:2], amplitude[1:], amplitude[-1:]])
    return amplitude if by_shell else amplitude.square().mean().sqrt().expand_as(amplitude)
