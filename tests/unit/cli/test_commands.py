"""Help that teaches, lists that list, and faults told apart from input that cannot be used."""

import errno
import os
from pathlib import Path

import pytest

from cryoloom.cli import main
from cryoloom.cli.settings import setting_fields
from cryoloom.systems.catalogue import SYSTEMS

WITH_EXAMPLES = ("reconstruct", "simulate")


@pytest.mark.parametrize("command", main.COMMANDS)
def test_help_teaches(command, cryoloom):
    outcome = cryoloom(command, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert f"Usage: cryoloom {command}" in outcome.out
    assert "Parameters" in outcome.out
    # A summary of what it does, not its name alone.
    assert len(outcome.out.split("Parameters")[0]) > len(command) + 80
    if command in WITH_EXAMPLES:
        assert f"cryoloom {command} " in outcome.out.replace("\n", " ")


def test_every_parameter_is_explained():
    """A parameter without a description shows as a bare name in the help."""
    import importlib
    import inspect

    for command, (module, _) in main.COMMANDS.items():
        function = getattr(importlib.import_module(f"cryoloom.cli.{module}"), command)
        lines = [line.strip() for line in inspect.getdoc(function).splitlines()]
        for name in inspect.signature(function).parameters:
            if name != "fields":
                assert name in lines, f"{command}: {name}"


def test_the_command_alone_lists_the_commands(cryoloom):
    outcome = cryoloom()
    assert outcome.code == 0
    for command in main.COMMANDS:
        assert command in outcome.out


def test_version(cryoloom):
    import cryoloom as package

    assert cryoloom("--version").out.strip() == package.__version__


def test_a_mistyped_command_is_answered_with_the_right_one(cryoloom):
    outcome = cryoloom("recontruct", "particles.star")
    assert outcome.code == 2
    assert "reconstruct" in outcome.sentence
    assert "Traceback" not in outcome.err


def test_systems_lists_every_system(cryoloom):
    outcome = cryoloom("systems")
    assert outcome.code == 0
    for name in SYSTEMS:
        assert name in outcome.out


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_lists_the_settings_of_one(name, cryoloom):
    outcome = cryoloom("systems", name)
    assert outcome.code == 0
    for option, _, _ in setting_fields(SYSTEMS[name].settings):
        assert f"--{option}" in outcome.out


def test_systems_of_an_unknown_name(cryoloom):
    outcome = cryoloom("systems", "lume")
    assert outcome.code == 2
    assert "lume" in outcome.sentence
    assert "loom" in outcome.sentence


class Raises:
    """A stand-in for the commands that raises."""

    def __init__(self, error: BaseException):
        self.error = error

    def __call__(self, *_: object, **__: object) -> None:
        raise self.error


def test_a_fault_of_ours_is_1_without_traceback(cryoloom, monkeypatch):
    monkeypatch.setattr(main, "build_app", lambda _: Raises(ZeroDivisionError("division by zero")))
    outcome = cryoloom("systems")
    assert outcome.code == 1
    assert "ZeroDivisionError: division by zero" in outcome.sentence
    assert "--debug" in outcome.sentence
    assert "Traceback" not in outcome.err
    with pytest.raises(ZeroDivisionError):
        main.run(["systems", "--debug"])


def test_ctrl_c_is_130_with_a_sentence(cryoloom, monkeypatch):
    monkeypatch.setattr("cryoloom.cli.systems.find_system", Raises(KeyboardInterrupt()))
    outcome = cryoloom("systems", "loom")
    assert outcome.code == 130
    assert "cryoloom resume" in outcome.sentence


@pytest.mark.parametrize(
    ("number", "code", "advice"),
    [(errno.ENOSPC, 2, "free some space"), (errno.EACCES, 2, "another place"), (errno.EIO, 1, "fault of ours")],
)
def test_what_the_disk_says(number, code, advice, cryoloom, monkeypatch):
    monkeypatch.setattr(
        main, "build_app", lambda _: Raises(OSError(number, os.strerror(number), "/data/run/step-1.pt"))
    )
    outcome = cryoloom("systems")
    assert outcome.code == code
    assert "/data/run/step-1.pt" in outcome.sentence
    assert advice in outcome.sentence


def test_words_in_brackets_are_not_markup(cryoloom, tmp_path: Path):
    outcome = cryoloom("info", tmp_path / "[bold]odd.star")
    assert outcome.code == 2
    assert "[bold]odd.star" in outcome.sentence


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False)])
def test_one_process_of_a_run_speaks_for_all(rank, speaks, cryoloom, monkeypatch):
    from cryoloom.errors import EchoedError, TeammateLostError

    monkeypatch.setenv("LOCAL_RANK", rank)
    for error, code in ((TeammateLostError("another process stopped"), 1), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr(main, "build_app", lambda _, error=error: Raises(error))
        outcome = cryoloom("systems")
        assert (outcome.code, bool(outcome.err)) == (code, speaks)
    monkeypatch.setattr(main, "build_app", lambda _: Raises(EchoedError("said elsewhere")))
    assert cryoloom("systems")[::2] == (2, "")
