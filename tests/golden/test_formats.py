"""Every odd or broken file in the shared formats loads right, or is refused in one sentence with file and reason."""

from pathlib import Path

import numpy as np
import pytest

from cryoloom.data import read_particles, read_stack, read_volume
from cryoloom.errors import InputError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FORMATS = DATA / "formats"
pytestmark = pytest.mark.skipif(not FORMATS.is_dir(), reason="needs ../shared/data/formats beside the repository")

# name: particles, box (0: not said and no images), pixel size in Å, CTF, poses, images on disk
LOADED = {
    "cs/cryosparc_P12_J24_001_particles.cs": (2019, 180, 2.95, True, True, False),
    "cs/empiar_10076_7.cs": (7, 320, 1.309998, True, False, False),
    "mrc/derived_bigendian_float32.mrcs": (10, 48, 4.88, False, False, True),
    "mrc/derived_mode0_int8.mrcs": (10, 48, 4.88, False, False, True),
    "mrc/derived_mode12_float16.mrcs": (10, 48, 4.88, False, False, True),
    "mrc/derived_mode1_int16.mrcs": (10, 48, 4.88, False, False, True),
    "mrc/derived_mode6_uint16.mrcs": (10, 48, 4.88, False, False, True),
    "mrc/derived_stack.mrcs.bz2": (10, 48, 4.88, False, False, True),
    "mrc/derived_stack.mrcs.gz": (10, 48, 4.88, False, False, True),
    "star/derived_CRLF_relion31.star": (5, 256, 2.806, True, True, False),
    "star/isecc_zernike_lists.star": (1, 300, 1.1, True, True, False),
    "star/relion5.star": (17, 448, 0.89, True, True, False),
    "star/scipion_input_particles.star.gz": (2021, 86, 3.0, True, False, False),
    "star/sta_testing.star": (219, 0, 1.96, True, True, False),
}
# name: words of the reason
REFUSED = {
    "cs/empty_106fields_4k_dataset.cs": "holds no particles",
    "cs/headerless_J511_050_particles.cs": "lacks the numpy header",
    "mrc/anisotropic_voxel_int8.mrc": "expected squares",
    "mrc/derived_truncated.mrcs": "truncated",
    "mrc/fei-extended.mrc.gz": "expected squares",
    "mrc/imp_bad_ispg_1oel_10.mrc.gz": "expected squares",
    "mrc/tiny_5x5_int8.mrc": "no pixel size",
    "star/CRLF_mtf_f3_200_linear.star": "cannot be parsed",
    "star/aspire_sample.star": "line 12: the STAR file cannot be parsed",
    "star/aspire_sample_incomplete_ctf_params.star": "rlnVoltage is missing",
    "star/cryocat_relion_3.0.star": "subtomograms",
    "star/cryocat_relion_3.1_optics2.star": "subtomograms",
    "star/cryocat_relion_4.0.star": "subtomograms",
    "star/napari_example_with_optics.star": "subtomograms",
    "star/relion31.6opticsgroups.star": "differ in pixel size (1.24, 1.25 Å)",
    "star/relion5_refine3d_job.star": "no rlnImageName",
    "star/tom_test_2018.star": "subtomograms",
    "star/toy.star": "no pixel size",
    "star/toy_projections.txt": "toy_projections.mrcs does not exist",
}


def test_every_file_has_an_expected_outcome() -> None:
    names = {str(path.relative_to(FORMATS)) for path in FORMATS.glob("*/*")}
    assert names == set(LOADED) | set(REFUSED)


@pytest.mark.parametrize("name", sorted(LOADED))
def test_loads(name: str) -> None:
    n, box, pixel_size, has_ctf, has_poses, has_images = LOADED[name]
    particles = read_particles(FORMATS / name)
    assert len(particles) == n
    assert particles.box == box
    assert particles.pixel_size == pytest.approx(pixel_size, abs=1e-6)
    assert (particles.has_ctf, particles.has_poses, particles.has_images) == (has_ctf, has_poses, has_images)
    if has_images:
        assert particles.images([0, n - 1]).isfinite().all()
        return
    with pytest.raises(InputError, match="does not exist"):
        particles.images([0])
    with pytest.raises(InputError, match="does not exist"):
        read_particles(FORMATS / name, require_images=True)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(InputError) as caught:
        read_particles(FORMATS / name)
    message = str(caught.value)
    assert REFUSED[name] in message
    assert Path(name).name in message or Path(name).stem in message
    assert "\n" not in message
    assert message.endswith((".", ")")) or message[-1].isalnum()


@pytest.mark.parametrize("name", [name for name in sorted(LOADED) if name.startswith("mrc/")])
def test_encodings_agree_up_to_their_precision(name: str) -> None:
    reference = read_stack(DATA / "particles" / "trpv1_10" / "trpv1_small_stack.mrcs").read()
    found = read_stack(FORMATS / name).read()
    same = np.corrcoef(reference.ravel(), found.ravel())[0, 1]
    assert same > 0.999
    if any(exact in name for exact in ("float32", "stack")):
        np.testing.assert_array_equal(found, reference)


def test_optics_groups_in_either_order_read_the_same() -> None:
    folder = DATA / "particles/relion31_5"
    first, second = (read_particles(folder / name) for name in ("relion31.star", "relion31.v2.star"))
    assert first.table.equals(second.table)
    np.testing.assert_array_equal(first.rotation, second.rotation)


def test_pixel_size_of_detector_and_magnification_agrees_with_cryosparc() -> None:
    folder = DATA / "particles/empiar10076_7"
    star, cs = read_particles(folder / "empiar_10076_7.star"), read_particles(folder / "empiar_10076_7.cs")
    assert star.pixel_size == pytest.approx(cs.pixel_size, rel=1e-6)
    for a, b in zip(star.ctf(), cs.ctf(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_array_equal(star.images([3, 1]), cs.images([3, 1]))


@pytest.mark.parametrize("name", ["maps/cryodrgn_50S-vol_noncubic.mrc", "formats/mrc/anisotropic_voxel_int8.mrc"])
def test_volumes_that_are_not_cubes_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="expected a cube"):
        read_volume(DATA / name)


@pytest.mark.parametrize(
    ("name", "n", "pixel_size"), [("betaGal_100_3.54A.mrc", 100, 3.54), ("polnet_4v4r_10A.mrc", 66, 10)]
)
def test_maps_load(name: str, n: int, pixel_size: float) -> None:
    volume, found = read_volume(DATA / "maps" / name)
    assert volume.shape == (n, n, n)
    assert found == pytest.approx(pixel_size)
    with pytest.raises(InputError, match="looks like a volume"):
        read_particles(DATA / "maps" / name)


def test_large_metadata_read_quickly_and_stay_small() -> None:
    particles = read_particles(DATA / "metadata" / "betagal_empiar10204_particles.star")
    assert len(particles) == 4501
    assert particles.has_ctf
    assert particles.table.memory_usage(deep=True).sum() / len(particles) < 500
