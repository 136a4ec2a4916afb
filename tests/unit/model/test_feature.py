"""Deformation features: a point for every image, whatever the noise, that costs nothing."""

import torch

from cryoloom.model.batch import Batch
from cryoloom.model.conformation.feature import DeformationEncoder
from cryoloom.model.encoders import EncoderSettings


def test_a_feature_is_a_point_of_its_image(plant, generator):
    planted = plant(4, snr=1.0)
    encoder = DeformationEncoder(EncoderSettings(network="mlp", box=16, width=2, features=16), 3, generator)
    batch = Batch(torch.arange(4), planted.spectrum, planted.evidence)
    quiet, noisy = (encoder(batch, noise) for noise in (torch.zeros(4, 3), torch.randn(4, 3)))
    assert torch.equal(quiet.z, noisy.z)
    assert torch.equal(quiet.z, quiet.mean)
    assert not quiet.kl.any()
    assert float(quiet.log_var.max()) < -10
    assert not torch.allclose(quiet.z[0], quiet.z[1])
    alone = encoder(Batch(torch.tensor([2]), planted.spectrum[2:3], planted.evidence.select(slice(2, 3))), noisy.z)
    assert torch.allclose(alone.z, quiet.z[2:3], atol=1e-5)
    quiet.z.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
