"""Nothing of the user's is overwritten: one rule for every command that writes."""

import os
from pathlib import Path

import pytest

from cryoloom.data.outputs import writing
from cryoloom.errors import InputError


def write(target: Path, by: str = "export run", text: str = "new", **more) -> None:
    with writing([target], by, **more):
        target.write_text(text)


def test_a_command_may_write_its_own_file_again(tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    write(target)
    write(target, text="again")
    assert target.read_text() == "again"


def test_what_another_command_wrote_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    write(target)
    with pytest.raises(InputError, match=r"out\.star exists, and this command did not write it.*--overwrite"):
        write(target, by="export other")
    write(target, by="export other", overwrite=True, text="replaced")
    assert target.read_text() == "replaced"


def test_what_the_user_wrote_or_changed_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    target.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write(target)
    target.unlink()
    write(target)
    target.write_text("my own work on it")
    with pytest.raises(InputError, match="exists"):
        write(target)
    assert target.read_text() == "my own work on it"


@pytest.mark.parametrize("how", ["same", "symlink", "hardlink", "relative"])
def test_an_input_is_never_a_target(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source.star"
    source.write_text("mine")
    target = tmp_path / "target.star"
    if how == "symlink":
        target.symlink_to(source)
    elif how == "hardlink":
        os.link(source, target)
    elif how == "relative":
        monkeypatch.chdir(tmp_path)
        target = Path("source.star")
    else:
        target = source
    with pytest.raises(InputError, match="one of the files that are read"):
        write(target, inputs=[source], overwrite=True)
    assert source.read_text() == "mine"


def test_an_interrupted_command_may_go_over_what_it_left(tmp_path: Path) -> None:
    target = tmp_path / "out.star"

    def stopped() -> None:
        with writing([target], "simulate"):
            target.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    write(target, by="simulate")


def test_a_damaged_record_costs_no_file(tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    write(target)
    (tmp_path / ".cryoloom-written.json").write_text("{")
    with pytest.raises(InputError, match="exists"):
        write(target)


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        write(tmp_path)
