"""The success matrix: its molecules, the store that it goes on from, what is right, and what the verdict counts."""

import json
import time
from dataclasses import replace

import gemmi
import numpy as np
import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.data.mrc import read_volume, write_volume
from cryoloom.evaluate.bench import success, success_judge, success_molecules
from cryoloom.evaluate.bench.catalogue import find_table
from cryoloom.evaluate.bench.measure import CommandError, Workbench
from cryoloom.evaluate.bench.page import make_page
from cryoloom.evaluate.bench.success_runs import molecule_named
from cryoloom.evaluate.bench.success_store import Cell, Choice, Store, measure_cells
from cryoloom.evaluate.bench.tables import Notebook, Order, Skip, measure_table
from cryoloom.physics.rigid import apply_to_volume, without_round_part
from cryoloom.physics.so3 import point_group, random_rotations
from cryoloom.simulate.density import density_from_structure

SIZES = success.Sizes(molecules=("adk-4ake", "rod"), variants=("plain", "junk"), snrs=(0.1,), seeds=2, real=())
CELLS = success.simulated_cells(SIZES)


def book_of(folder, commit="abc", again=False, **choice) -> Notebook:
    sizes = replace(SIZES, choice=Choice(**choice))
    bench = Workbench(folder / "work", folder / "data", commit)
    return Notebook(
        bench, sizes, folder, lambda row: None, rows_file=folder / "rows.jsonl", again=again, tell=lambda line: None
    )


def found(right=True, alarms=(), **more):
    named = [{"name": name, "severity": severity} for name, severity in alarms]
    plain = {"ratio": 1.1, "resolution_fsc50_angst": 5.0, "claim_angst": 4.0, "denied_shells": 0, "seconds": 60.0}
    return {"right": right, "alarms": named, **plain, **more}


def test_the_first_rows_say_something_of_every_molecule():
    sizes = success.Sizes()
    cells = success.simulated_cells(sizes)
    assert len(set(cells)) == len(cells) == len(success_molecules.MOLECULES) * 3 * 2 * 5
    names = [molecule.name for molecule in success_molecules.MOLECULES]
    assert [cell.molecule for cell in cells[: len(names)]] == names
    assert len(success.real_cells(sizes)) == 18
    assert {cell.variant for cell in success.relion_cells(sizes)} == {"plain", "real"}


def test_rows_are_kept_at_once_and_only_what_is_missing_is_measured(tmp_path):
    calls = []

    def one(book, cell):
        calls.append(cell)
        assert len(Store(tmp_path / "rows.jsonl").rows) == min(len(calls) - 1, len(CELLS))
        (book.bench.folder / cell.folder).mkdir(parents=True)
        book.bench.commands.append(f"cryoloom {cell.folder}")
        return found()

    assert len(measure_cells(book_of(tmp_path, seeds=(0,)), CELLS, one, 1.0)) == 4
    rows = measure_cells(book_of(tmp_path), CELLS, one, 1.0)
    assert calls == CELLS
    assert [Cell.of(row) for row in rows] == CELLS
    assert rows[0]["commands"] == ["cryoloom simulated/adk-4ake-plain-snr0.1-seed0"]
    assert {"date", "machine", "commit", "row_seconds"} <= set(rows[0])
    assert not (tmp_path / "work" / CELLS[0].folder).exists()
    measure_cells(book_of(tmp_path, again=True, molecules=("rod",), seeds=(1,)), CELLS, one, 1.0)
    assert len(calls) == 10
    measure_cells(book_of(tmp_path, commit="def", variants=("junk",), keep=True), CELLS, one, 1.0)
    assert len(calls) == 14
    assert (tmp_path / "work" / calls[-1].folder).is_dir()
    assert len(Store(tmp_path / "rows.jsonl").rows) == 8


def test_a_row_that_would_not_end_in_time_is_not_begun(tmp_path):
    calls = []
    one = lambda book, cell: calls.append(cell) or found()  # noqa: E731
    measure_cells(book_of(tmp_path, deadline=time.monotonic() + 60), CELLS, one, 100.0)
    assert not calls
    measure_cells(book_of(tmp_path, deadline=time.monotonic() + 200, seeds=(0,)), CELLS, one, 100.0)
    assert len(calls) == 4, "rows that take no time show that the rest will end in time"


def test_rows_fail_and_lack_data_with_a_reason(tmp_path):
    def one(book, cell):
        if cell.molecule == "rod":
            raise Skip("no rod here")
        raise CommandError(f"exit 1: no luck ({tmp_path}/log.txt)")

    book = book_of(tmp_path)
    rows = measure_cells(book, CELLS, one, 1.0)
    assert {row["failed"] for row in rows} == {"exit 1: no luck"}
    assert {row["molecule"] for row in rows} == {"adk-4ake"}
    assert book.notes == ["rod: not measured, no rod here."]
    with pytest.raises(Skip, match="no rod here"):
        measure_cells(book, [cell for cell in CELLS if cell.molecule == "rod"], one, 1.0)


def test_a_broken_last_line_costs_that_line_only(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"kind": "simulated", "molecule": "rod", "variant": "plain", "snr": 0.1, "commit": "abc"}
    Store(path).append(row | {"seed": 0})
    with path.open("a") as file:
        file.write('{"kind": "simul')
    Store(path).append(row | {"seed": 1})
    store = Store(path)
    assert [cell.seed for cell in store.rows] == [0, 1]
    assert store.has(Cell("simulated", "rod", "plain", 0.1, 1), "abc")
    assert not store.has(Cell("simulated", "rod", "plain", 0.1, 1), "def")


def test_right_needs_the_part_that_is_not_round():
    assert success_judge.verdict(1.2, 30.0, 0.9)
    assert success_judge.verdict(1.6, 3.0, 0.9)
    assert not success_judge.verdict(1.6, 30.0, 0.9)
    assert not success_judge.verdict(1.0, 2.0, 0.3)


def test_rows_are_judged_anew_from_their_numbers_when_they_are_read(tmp_path):
    row = {"kind": "simulated", "molecule": "rod", "variant": "plain", "snr": 0.1, "seed": 0, "commit": "abc"}
    Store(tmp_path / "rows.jsonl").append(
        row | {"right": True, "ratio": 2.0, "rotation_error_deg_median": 40.0, "not_round": 0.9}
    )
    assert [row["right"] for row in Store(tmp_path / "rows.jsonl").rows.values()] == [False]


def test_a_bare_shell_is_not_taken_for_the_molecule(tmp_path):
    truth = success_molecules.shell(48, 3.5)
    bare = truth - without_round_part(truth)
    (tmp_path / "truth").mkdir()
    (tmp_path / "volumes").mkdir()
    write_volume(tmp_path / "truth/volume.mrc", truth, 3.5)
    likeness = {}
    for name, volume in (("bare", bare), ("same", truth)):
        write_volume(tmp_path / "volumes/aligned_to_truth.mrc", volume, 3.5)
        likeness[name] = success_judge.likeness_of_rest(tmp_path, tmp_path / "truth", 12.0)
    assert likeness["same"] == pytest.approx(1, abs=1e-4)
    assert likeness["bare"] < 0.2


def test_shells_that_half_maps_claim_and_the_truth_denies_are_counted(tmp_path):
    head = "shell,resolution_angst,fsc\n"
    for name, values in (("fsc", [1, 1, 0.9, 0.9, 0.6, 0.2]), ("fsc_truth", [1, 0.1, 0.9, 0.2, 0.29, 0.1])):
        lines = [f"{i},{100 / max(i, 0.5)},{value}" for i, value in enumerate(values)]
        (tmp_path / f"{name}.csv").write_text(head + "\n".join(lines) + "\n")
    assert success_judge.claimed_but_denied(tmp_path) == 2


def test_errors_and_listed_alarms_doubt_a_map():
    alarms = [("pseudo-symmetry", "warning"), ("anything", "error"), ("hollow-shell", "warning")]
    assert success_judge.doubts(found(alarms=alarms)["alarms"]) == ["anything", "hollow-shell"]


def test_verdict_and_calibration_stand_on_the_page(tmp_path):
    outcomes = iter(
        [
            found(),
            found(alarms=[("hollow-shell", "warning")]),
            found(False, denied_shells=3),
            found(False, alarms=[("hollow-shell", "warning")]),
            *[found() for _ in range(4)],
        ]
    )
    parts = dict(success.SUCCESS.parts)
    parts["simulated"] = lambda book: success.show_groups(
        book, measure_cells(book, CELLS, lambda book, cell: next(outcomes), 1.0)
    )
    parts = {name: parts[name] for name in ("simulated", "verdict", "calibration")}
    table = replace(success.SUCCESS, parts=parts, scales={"mini": SIZES})
    order = Order(table, "mini", tmp_path, tmp_path / "work", tmp_path, tmp_path, "bench success")
    result = measure_table(order, lambda: "abc", lambda: "abc", lambda line: None)
    values = {row.name: (row.value, row.unit, row.ok) for row in result.rows}
    assert values["Rows of the matrix that exist"][:2] == (8, "of 8")
    assert values["Right at SNR 0.1"] == (75, "% of 8", False)
    assert values["Wrong without an alarm"] == (1, "of 2 wrong", False)
    assert values["Right with a false alarm"][0] == pytest.approx(100 / 6)
    assert values["Most shells that half-maps claim and the truth denies, in one run"] == (3, "", False)
    page = make_page(tmp_path, tmp_path)
    assert "| `hollow-shell`, warning | 1 | 1 of 6 | 1 of 2 |" in page
    assert "| Wrong without an alarm | 1 of 2 wrong | ≤ 0 |  | ✗ |" in page
    assert "| AdK 4AKE, 10 % junk, SNR 0.1 | 1 of 2 | 1 | 0 |" in page
    lines = (tmp_path / "success.mini.rows.jsonl").read_text().splitlines()
    assert len(lines) == 8
    assert json.loads(lines[0])["commit"] == "abc"
    # The parts are asked each time, but rows of the same code are not measured again: `outcomes` would end.
    measure_table(order, lambda: "abc", lambda: "abc", lambda line: None)


def test_rod_and_shell_look_different_from_everywhere():
    for volume in (success_molecules.rod(32, 6.0), success_molecules.shell(32, 5.2)):
        assert float(volume.max()) > 0
        ends = torch.cat([volume[face].flatten() for face in (0, -1)])
        assert float(ends.max()) < 0.01 * float(volume.max())
        detail = without_round_part(volume)
        for rotation in random_rotations(8, torch.Generator().manual_seed(0)):
            turned = apply_to_volume(detail, rotation, False, torch.zeros(3))
            assert float((turned * detail).sum() / (turned.norm() * detail.norm())) < 0.9


def test_a_cage_has_the_symmetry_that_the_run_is_given():
    structure, chain, residue = gemmi.Structure(), gemmi.Chain("A"), gemmi.Residue()
    structure.add_model(gemmi.Model(1))
    residue.name, residue.seqid = "ALA", gemmi.SeqId(1, " ")
    for place in np.random.default_rng(0).normal((118, 88, 73), 6, size=(20, 3)):
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos, atom.occ, atom.b_iso = (
            "CA",
            gemmi.Element("C"),
            gemmi.Position(*place),
            1,
            30,
        )
        residue.add_atom(atom)
    chain.add_residue(residue)
    structure[0].add_chain(chain)
    whole = success_molecules.cage(structure)
    assert whole[0].count_atom_sites() == 24 * 20
    volume = density_from_structure(whole, 48, 4.0)
    for rotation in point_group("O")[1::5]:
        turned = apply_to_volume(volume, rotation, False, torch.zeros(3))
        assert float((turned * volume).sum() / (turned.norm() * volume.norm())) > 0.98


def test_maps_are_centred_by_whole_voxels(tmp_path):
    volume = torch.zeros(16, 16, 16)
    volume[3:6, 9:12, 8] = 1
    centred = success_molecules.centred(volume)
    assert centred.nonzero().float().mean(0).tolist() == [8, 8, 8]
    write_volume(tmp_path / "hand.mrc", volume, 1.0)
    success_molecules.make_molecule(molecule_named("hand"), tmp_path / "hand.mrc", tmp_path / "made.mrc")
    assert read_volume(tmp_path / "made.mrc")[1] == pytest.approx(4)


def test_preferred_views_crowd_about_one_axis(tmp_path):
    success_molecules.preferred_views(tmp_path / "views.star", 4000)
    view = read_particles(tmp_path / "views.star").poses().best_rotation[:, 2]
    near = float((view[:, 2].abs() > np.cos(np.deg2rad(30))).float().mean())
    area = 1 - np.cos(np.deg2rad(30))
    assert len(view) == 4000
    assert near == pytest.approx(5 * area / (5 * area + 1 - area), abs=0.03)


def test_the_table_is_in_the_catalogue():
    assert list(find_table("success").parts) == ["simulated", "real", "relion", "verdict", "calibration"]
