"""The tables that can be measured."""

from cryoloom.errors import InputError
from cryoloom.evaluate.bench import analysis, cryoai, cryoai_figures, cryoformer, hetero, tempor
from cryoloom.evaluate.bench.amortised import FIG2, FIG3
from cryoloom.evaluate.bench.cryodrgn2 import FIG4, TABLE2
from cryoloom.evaluate.bench.cryoformer_ablations import TABLE3
from cryoloom.evaluate.bench.main_job import MAIN_JOB
from cryoloom.evaluate.bench.peers import VS_CRYODRGN
from cryoloom.evaluate.bench.pose_search import TABLE1
from cryoloom.evaluate.bench.success import SUCCESS
from cryoloom.evaluate.bench.tables import Table
from cryoloom.evaluate.bench.tempor_poses import FIG8
from cryoloom.evaluate.bench.tempor_where import LIQUID, MAP
from cryoloom.evaluate.bench.throughput import THROUGHPUT


def tables() -> dict[str, Table]:
    """All tables by name; a table joins by being added here."""
    found = (
        MAIN_JOB,
        SUCCESS,
        TABLE1,
        TABLE2,
        FIG4,
        FIG2,
        FIG3,
        *(cryoai.TABLE1, cryoai_figures.FIG3, cryoai_figures.FIG5),
        *(cryoformer.TABLE1, cryoformer.TABLE2, TABLE3, cryoformer.FIG5),
        *(tempor.FIG4, tempor.FIG7, FIG8, tempor.FIG9, MAP, LIQUID),
        *(hetero.FIG5, hetero.KNOWN, hetero.ABINITIO),
        analysis.TABLE,
        THROUGHPUT,
        VS_CRYODRGN,
    )
    return {table.name: table for table in found}


def find_table(name: str) -> Table:
    """The table called `name`. Raises InputError with the names there are."""
    known = tables()
    if name not in known:
        raise InputError(f"there is no benchmark {name!r}: choose one of {', '.join(known)}.")
    return known[name]
