"""Particles of a run chosen by cluster, by a condition on their columns, or by a list of rows."""

import ast
import difflib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoloom.data.cryodrgn import read_index_pickle
from cryoloom.data.files import existing
from cryoloom.data.particles import Particles
from cryoloom.data.star import ANGLES, PLAIN
from cryoloom.errors import InputError
from cryoloom.physics.so3 import euler_from_matrix

# What a condition may be made of; no call, no attribute, no name but a column's.
_ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.UAdd),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
    *(ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple),
)
_EXAMPLE = "'rotation_sigma_deg < 5 and cluster == 3'"


def columns_of(particles: Particles, analysis: pd.DataFrame | None) -> pd.DataFrame:
    """Everything that a condition may ask of N particles: our names and RELION's, and what `analyze` found."""
    table = particles.table.drop(columns=["image_file"])
    relion = {label: table[name] for name, label in PLAIN.items() if name in table and label not in table}
    if particles.has_poses:
        degrees = euler_from_matrix(particles.poses().best_rotation.double()).numpy()
        relion |= {label: degrees[:, i] for i, label in enumerate(ANGLES)}
    relion["image_file"] = particles.table["image_file"].astype(str)
    table = table.assign(**relion)
    if analysis is None:
        return table
    return table.assign(**{name: analysis[name].to_numpy() for name in analysis.columns if name not in table})


def rows_where(table: pd.DataFrame, condition: str) -> NDArray:
    """Rows (b,) of a table where a condition on its columns holds.

    It is made of comparisons, arithmetic, `and`, `or`, `not`, `in`; nothing else is evaluated. Raises InputError for
    what is no condition, and for a column that is not there, with the nearest name.
    """
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise InputError(f"--where {condition!r} is no condition: give one such as {_EXAMPLE}.") from error
    if not isinstance(tree.body, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.BinOp):
        raise InputError(f"--where {condition!r} compares nothing: give a condition such as {_EXAMPLE}.")
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED) or _is_tower(node):
            what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise InputError(f"--where cannot use {what!r}: compare columns with numbers or words, as {_EXAMPLE}.")
        if isinstance(node, ast.Name) and node.id not in table:
            raise InputError(_unknown(node.id, table))
    try:
        holds = np.asarray(table.eval(condition.strip(), engine="python"))
    except Exception as error:
        # pandas raises whatever the comparison of a word with a number raises.
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--where {condition!r} cannot be answered ({reason}): give one such as {_EXAMPLE}."
        ) from error
    if holds.dtype != bool or holds.shape != (len(table),):
        raise InputError(f"--where {condition!r} is no condition: give one such as {_EXAMPLE}.")
    return np.flatnonzero(holds)


def _is_tower(node: ast.AST) -> bool:
    """Whether a node is a power whose exponent is no small number: 9 ** 9 ** 9 would never end."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)):
        return False
    exponent = node.right
    return not (isinstance(exponent, ast.Constant) and isinstance(exponent.value, int | float) and exponent.value <= 9)


def _unknown(name: str, table: pd.DataFrame) -> str:
    names = [str(column) for column in table.columns]
    near = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names[:12])} …"
    needs = " (`cryoloom analyze` makes it)" if name in ("cluster", "component", "density") or name[:2] == "pc" else ""
    return f"--where: the run's particles have no column {name}{needs}: {hint}"


def rows_in_cluster(table: pd.DataFrame, cluster: int) -> NDArray:
    """Rows (b,) of one of the clusters that `analyze` found. Raises InputError for one that is not there."""
    if "cluster" not in table:
        raise InputError("the run has no clusters yet: `cryoloom analyze RUN` finds them.")
    labels = table["cluster"].to_numpy()
    if cluster not in labels:
        raise InputError(f"there is no cluster {cluster}: the run has {labels.min()} to {labels.max()}.")
    return np.flatnonzero(labels == cluster)


def rows_in_file(path: Path, n: int) -> NDArray:
    """Rows (b,) that a file lists, in order and each once: cryoDRGN's ind.pkl, .npy, or a text of one row a line.

    Raises InputError for rows outside 0 … n − 1.
    """
    if path.suffix in (".pkl", ".npy"):
        return np.unique(read_index_pickle(path, n))
    words = existing(path, "list of rows").read_text(errors="replace").split()
    wrong = next((word for word in words if not word.isdecimal() or int(word) >= n), None)
    if wrong is not None:
        raise InputError(f"{path} lists {wrong!r}; expected rows of the run's particles, 0 to {n - 1}, one a line.")
    return np.unique(np.array(words, dtype=np.int64))
