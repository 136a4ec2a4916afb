"""How often a reconstruction is right, and whether it says so where it is not: molecules × seeds, one row at a time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from cryoloom.evaluate.bench.success_judge import DEFINITION, DOUBTS, doubts
from cryoloom.evaluate.bench.success_molecules import MOLECULES
from cryoloom.evaluate.bench.success_relion import relion
from cryoloom.evaluate.bench.success_runs import VARIANTS, molecule_named, real, simulated
from cryoloom.evaluate.bench.success_store import Cell, Choice, Stored, measure_cells, store_of
from cryoloom.evaluate.bench.tables import Notebook, Table

_REAL = {"apoferritin": "Apoferritin, real", "sta-ribosome": "Ribosome, real tilts", "trpv1-10": "TRPV1, real, 10"}
_WORDS = {"plain": "", "preferred": ", preferred views", "junk": ", 10 % junk"}
_WORDS |= {"O": ", O", "C1": ", C1", "O-full": ", O, whole box", "known": ", published poses", "real": ", O"}


@dataclass(frozen=True)
class Sizes:
    """How much of it is measured. box, particles: instead of each molecule's own. seeds: of simulated rows.

    real: how many seeds of each variant of a real set. relion: molecules that RELION gets, real set last; its seeds,
    iterations (first, middle, last), oversampling, offsets in pixels and HEALPix order. guess_seconds: of a row
    before any is known.
    """

    molecules: tuple[str, ...] = tuple(molecule.name for molecule in MOLECULES)
    variants: tuple[str, ...] = tuple(VARIANTS)
    snrs: tuple[float, ...] = (0.1, 0.03)
    seeds: int = 5
    real: tuple[tuple[str, str, int], ...] = (
        ("apoferritin", "O", 10),
        ("apoferritin", "C1", 5),
        ("apoferritin", "O-full", 1),
        ("sta-ribosome", "known", 1),
        ("trpv1-10", "known", 1),
    )
    relion: tuple[str, ...] = ("adk-4ake", "spike", "betagal-d2", "apoferritin")
    relion_seeds: int = 2
    relion_iterations: tuple[int, int, int] = (30, 100, 30)
    relion_oversampling: int = 1
    relion_offset: int = 6
    relion_order: int = 1
    box: int | None = None
    particles: int | None = None
    guess_seconds: float = 600.0
    relion_guess_seconds: float = 7200.0
    choice: Choice = field(default_factory=Choice)


def simulated_cells(s: Sizes) -> list[Cell]:
    """The simulated rows, so that the first of them say something of every molecule."""
    return [
        Cell("simulated", molecule, variant, snr, seed)
        for seed in range(s.seeds)
        for snr in s.snrs
        for variant in s.variants
        for molecule in s.molecules
    ]


def real_cells(s: Sizes) -> list[Cell]:
    """The rows of real sets."""
    return [Cell("real", name, variant, None, seed) for name, variant, seeds in s.real for seed in range(seeds)]


def relion_cells(s: Sizes) -> list[Cell]:
    """RELION's rows: plain images at SNR 0.1, and the real set."""
    named = [(name, "real" if name == "apoferritin" else "plain") for name in s.relion]
    return [
        Cell("relion", name, variant, None if variant == "real" else 0.1, seed)
        for seed in range(s.relion_seeds)
        for name, variant in named
    ]


def simulated_part(book: Notebook) -> None:
    """Simulated molecules, default settings."""
    rows = measure_cells(book, simulated_cells(book.sizes), simulated, book.sizes.guess_seconds)
    show_groups(book, rows)
    if rows:
        book.notes.append(DEFINITION)


def real_part(book: Notebook) -> None:
    """Real sets: apoferritin against its model, two small sets at their published poses."""
    rows = measure_cells(book, real_cells(book.sizes), real, book.sizes.guess_seconds)
    show_groups(book, rows)
    if any(row["molecule"] == "apoferritin" for row in rows):
        book.notes.append(
            "Apoferritin (EMPIAR-10146, 2,588 particles) is right where what is not round correlates above 0.8 with "
            "the model 7A4M at 38, 24 and 16 Å. The other sets have no truth: only what their half-maps claim is told."
        )


def relion_part(book: Notebook) -> None:
    """RELION on some of the same images."""
    rows = measure_cells(book, relion_cells(book.sizes), relion, book.sizes.relion_guess_seconds)
    show_groups(book, rows)
    if rows:
        book.notes.append(
            "RELION 3.1's `relion_refine --sgd` with an unknown start, one thread, images white and of unit variance; "
            "its last map and poses are judged by the same `cryoloom evaluate`."
        )


def show_groups(book: Notebook, rows: list[Stored]) -> None:
    """Rows of the same molecule, variant and SNR as one line: how many are right, how fine, how long."""
    groups: dict[str, list[Stored]] = {}
    for row in rows:
        groups.setdefault(_title(row), []).append(row)
    for title, group in groups.items():
        known = [row for row in group if row["right"] is not None]
        if known:
            right = [row for row in known if row["right"]]
            book.row(f"{title}: right", len(right), f"of {len(known)}", better="higher")
            alone = [row for row in known if not row["right"] and not _doubted(row)]
            if group[0]["kind"] != "relion":
                book.row(f"{title}: wrong, no alarm", len(alone))
                book.row(f"{title}: right, false alarm", sum(map(_doubted, right)))
        _middle(book, f"{title}: resolution / oracle", group, "ratio", "×")
        _middle(book, f"{title}: resolution to the truth", group, "resolution_fsc50_angst", "Å")
        _middle(book, f"{title}: half-maps claim", group, "claim_angst", "Å")
        ratios = [r["claim_angst"] / r["resolution_fsc50_angst"] for r in group if _both(r)]
        if ratios:
            book.row(f"{title}: claim / truth", float(median(ratios)), "×")
        denied = [row["denied_shells"] for row in group if row.get("denied_shells") is not None]
        if denied:
            book.row(f"{title}: shells denied", max(denied))
        _middle(book, f"{title}: time", group, "seconds", "s")
    if rows:
        # Hundreds of rows differ by molecule and seed only: the commands of the first one say how all were made.
        book.bench.commands += rows[0]["commands"]


def _title(row: Stored) -> str:
    title = _REAL[row["molecule"]] if row["snr"] is None else molecule_named(row["molecule"]).title
    return title + _WORDS[row["variant"]] + ("" if row["snr"] is None else f", SNR {row['snr']:g}")


def _middle(book: Notebook, name: str, rows: list[Stored], name_of: str, unit: str) -> None:
    values = [float(row[name_of]) for row in rows if row.get(name_of) is not None]
    if values:
        book.row(name, float(median(values)), unit)


def _both(row: Stored) -> bool:
    return bool(row.get("claim_angst") and row.get("resolution_fsc50_angst"))


def _doubted(row: Stored) -> bool:
    """Whether a run names its map as one that may be wrong; one that failed gave none."""
    return bool(row.get("failed")) or bool(doubts(row["alarms"]))


def verdict_part(book: Notebook) -> None:
    """What all rows that exist come to, beside what a release must reach."""
    s = book.sizes
    cells = simulated_cells(s) + real_cells(s)
    rows = store_of(book).of(cells)
    known = [row for row in rows if row["right"] is not None]
    ours = [row for row in known if row["kind"] == "simulated"]
    book.row("Rows of the matrix that exist", len(rows), f"of {len(cells)}")
    for snr in s.snrs:
        at = [row for row in ours if row["snr"] == snr]
        goals = {"must": 95} if snr == s.snrs[0] else {}
        book.row(f"Right at SNR {snr:g}", _share(at, [r for r in at if r["right"]]), _of(at), better="higher", **goals)
    right = [row for row in known if row["right"]]
    wrong = [row for row in known if not row["right"]]
    alone = [row for row in wrong if not _doubted(row)]
    book.row("Wrong without an alarm", len(alone), f"of {len(wrong)} wrong", must=0)
    book.row("Right with a false alarm", _share(right, filter(_doubted, right)), _of(right), must=5)
    cage = [row for row in known if (row["kind"], row["molecule"], row["variant"]) == ("real", "apoferritin", "O")]
    of = next((seeds for name, variant, seeds in s.real if (name, variant) == ("apoferritin", "O")), 0)
    if of:
        book.row("Apoferritin, real, O: right", sum(row["right"] for row in cage), f"of {of}", must=of, better="higher")
    denied = [row["denied_shells"] for row in known if row.get("denied_shells") is not None]
    most = max(denied) if denied else float("nan")
    book.row("Most shells that half-maps claim and the truth denies, in one run", most, "", must=1)
    failed = sum(bool(row.get("failed")) for row in rows)
    book.row("Runs that failed", failed)
    _note_origin(book, rows, alone)


def _note_origin(book: Notebook, rows: list[Stored], alone: list[Stored]) -> None:
    commits: dict[str, int] = {}
    for row in rows:
        commits[row["commit"]] = commits.get(row["commit"], 0) + 1
    if len(commits) > 1:
        told = ", ".join(f"{n} of `{commit}`" for commit, n in commits.items())
        book.notes.append(f"The rows are not of one code: {told}.")
    if alone:
        names = ", ".join(f"{_title(row)}, seed {row['seed']}" for row in alone[:20])
        more = f" and {len(alone) - 20} more" if len(alone) > 20 else ""
        book.notes.append(f"Wrong without an alarm: {names}{more}.")
    book.notes.append("Goals are those of the whole matrix; they are held against the rows that exist so far.")


def calibration_part(book: Notebook) -> None:
    """On how many right and wrong runs each alarm fired."""
    s = book.sizes
    rows = store_of(book).of(simulated_cells(s) + real_cells(s))
    known = [row for row in rows if row["right"] is not None and not row.get("failed")]
    right = [row for row in known if row["right"]]
    wrong = [row for row in known if not row["right"]]
    names = sorted({(alarm["name"], alarm["severity"]) for row in known for alarm in row["alarms"]})
    for name, severity in names:
        counts = [sum({"name": name, "severity": severity} in row["alarms"] for row in part) for part in (right, wrong)]
        what = f"`{name}`, {severity}"
        doubting = bool(doubts([{"name": name, "severity": severity}]))
        book.row(f"{what}: doubts the map", float(doubting))
        book.row(f"{what}: on right runs", counts[0], f"of {len(right)}")
        book.row(f"{what}: on wrong runs", counts[1], f"of {len(wrong)}", better="higher")
    for doubting, what in ((True, "Any alarm that doubts the map"), (False, "None of them")):
        for name, part in (("right", right), ("wrong", wrong)):
            if part:
                book.row(f"{what}: on {name} runs", sum(_doubted(r) == doubting for r in part), f"of {len(part)}")
    listed = ", ".join(f"`{name}`" for name in sorted(DOUBTS))
    book.notes.append(f"A map is doubted by an error of any name, and by {listed}. Failed runs are left out.")


def _share(rows: list[Stored], part: Iterable[Any]) -> float:
    return 100 * len(list(part)) / len(rows) if rows else float("nan")


def _of(rows: list[Stored]) -> str:
    return f"% of {len(rows)}"


SUCCESS = Table(
    name="success",
    title="The success matrix: how often a map is right, and what is said where it is not",
    about=(
        "Molecules of many shapes, sizes and symmetries, each over several seeds, two noise levels, preferred views "
        "and junk, with default settings; real apoferritin beside them, and RELION on some of the same images. Every "
        "row is a `cryoloom simulate`, `reconstruct` and `evaluate` in processes of their own, and is kept as a line "
        "of `success.SCALE.rows.jsonl` as soon as it is measured."
    ),
    parts={
        "simulated": simulated_part,
        "real": real_part,
        "relion": relion_part,
        "verdict": verdict_part,
        "calibration": calibration_part,
    },
    scales={
        "mini": Sizes(),
        "quick": Sizes(
            molecules=("adk-4ake",),
            variants=("preferred",),
            snrs=(0.1,),
            seeds=1,
            real=(("trpv1-10", "known", 1),),
            relion=("adk-4ake",),
            relion_seeds=1,
            relion_iterations=(1, 1, 1),
            relion_oversampling=0,
            relion_offset=2,
            relion_order=0,
            relion_guess_seconds=60,
            box=32,
            particles=200,
            guess_seconds=60,
        ),
    },
    resumes=True,
    side_by_side=("simulated", "real", "relion", "calibration"),
)
