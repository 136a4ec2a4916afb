"""Settings: defaults, then the file, then the command line."""

import pytest
import yaml

from cryoloom.cli.settings import read_settings, setting_fields
from cryoloom.errors import InputError
from cryoloom.systems.catalogue import SYSTEMS
from cryoloom.systems.cryoai import CryoAISettings
from cryoloom.systems.cryodrgn import CryodrgnSettings
from cryoloom.systems.loom import LoomSettings


def test_defaults_then_file_then_options(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("max_shift_angst: 12\nab_initio:\n  starts: 2\n  iterations: 30\n")
    settings = read_settings(LoomSettings, file, ("--ab-initio.starts", "3", "--refinement.iterations=5"))
    assert settings.max_shift_angst == 12
    assert (settings.ab_initio.starts, settings.ab_initio.iterations) == (3, 30)
    assert settings.refinement.iterations == 5
    assert settings.ab_initio.batch_size == LoomSettings().ab_initio.batch_size


def test_the_config_of_a_run_serves_as_settings(run, tmp_path):
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["settings"]["ab_initio"]["starts"] == 2
    settings = read_settings(LoomSettings, run / "config.yaml", ())
    assert settings.ab_initio.starts == 2


@pytest.fixture
def run(tmp_path):
    from cryoloom.solve.run import Run, RunConfig

    settings = LoomSettings.model_validate({"ab_initio": {"starts": 2}})
    return Run.create(tmp_path / "run", RunConfig(particles=tmp_path, settings=settings.model_dump(mode="json"))).path


def test_none_takes_a_value_back(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("max_shift_angst: 12\nab_initio:\n")
    settings = read_settings(LoomSettings, file, ("--max-shift-angst", "none", "--ab_initio.starts", "1"))
    assert settings.max_shift_angst is None
    assert settings.ab_initio.starts == 1


def test_none_is_a_word_where_an_option_lists_it():
    settings = read_settings(CryodrgnSettings, None, ("--z-start", "none", "--mask-diameter-angst", "None"))
    assert settings.z_start == "none"
    assert settings.mask_diameter_angst is None


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=lambda system: system.name)
def test_every_setting_is_explained_and_its_default_is_valid(system):
    names = [name for name, _, _ in setting_fields(system.settings)]
    assert names
    assert len(set(names)) == len(names)
    for name, default, meaning in setting_fields(system.settings):
        assert len(meaning) > 10, name
        if default is not None:
            read_settings(system.settings, None, (f"--{name}", str(default)))


def test_the_nearest_name_is_offered():
    with pytest.raises(InputError, match=r"did you mean --refinement\.candidates"):
        read_settings(LoomSettings, None, ("--refinement.candidate", "3"))
    with pytest.raises(InputError, match="did you mean --symmetry"):
        read_settings(LoomSettings, None, ("--symetry", "C3"), ["symmetry", "seed"])
    with pytest.raises(InputError, match="cryoloom systems loom"):
        read_settings(LoomSettings, None, ("--zzz", "3"))


def test_one_option_leaves_the_rest_of_its_group_as_the_system_has_it():

    default = CryoAISettings()
    read = read_settings(CryoAISettings, None, ("--encoder.width", "8", "--train.passes", "3"))
    assert read.encoder == default.encoder.model_copy(update={"width": 8})
    assert read.train == default.train.model_copy(update={"passes": 3})


def test_a_system_s_own_defaults_are_listed():

    listed = {option: default for option, default, _ in setting_fields(CryoAISettings)}
    assert listed["encoder.network"] == CryoAISettings().encoder.network != "cnn"
    assert listed["train.noise"] == "white"


def test_switches_stand_without_a_value():

    assert CryoAISettings().symmetric_loss
    assert not read_settings(CryoAISettings, None, ("--no-symmetric-loss",)).symmetric_loss
    read = read_settings(CryoAISettings, None, ("--polish", "--compute.compile", "--encoder.width", "8"))
    assert read.polish
    assert read.compute.compile
    assert read.encoder.width == 8
    assert not read_settings(CryoAISettings, None, ("--polish", "false")).polish
    assert not read_settings(CryoAISettings, None, ("--compute.no-compile",)).compute.compile
