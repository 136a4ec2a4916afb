"""Which rows of two files are of the same image: by stack and image number, never by position in silence."""

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cryoloom.errors import InputError

# Bytes at the beginning of two stacks of equal size that must be equal if they are copies: many pixels of noise.
_COMPARED = 1 << 16


class ImageNames(NamedTuple):
    """Images (N,) of a file: source, the file; stacks, each row's as a category; index, in the stack from 0.

    uid: cryoSPARC's number of each particle where the file has one. named: whether the file itself names the images,
    which a bare stack does not.
    """

    source: Path
    stacks: pd.Categorical
    index: np.ndarray
    uid: np.ndarray | None = None
    named: bool = True

    def text(self, row: int) -> str:
        """One image in words."""
        return f"image {int(self.index[row]) + 1} of {self.stacks[row]}"


class Matched(NamedTuple):
    """Rows (N,) of the known file for each wanted image, −1 where it has none; how: by what they were matched."""

    rows: np.ndarray
    how: str = ""


def matching_rows(wanted: ImageNames, known: ImageNames, by_position: bool = False) -> Matched:
    """The row of `known` that holds each image of `wanted`.

    Stacks are the same if their files are or have the same content, or, where one is not there, if their names end
    alike and no other name ends more alike. Where no stack is the same, cryoSPARC's uid counts; the position of a row
    counts only where one of the files names no images, or with by_position. Raises InputError where stacks or images
    cannot be told apart, or no image of the one is in the other.
    """
    if by_position:
        return _by_position(wanted, known)
    stacks, alike = _same_stacks(wanted, known)
    if (stacks >= 0).any():
        rows = _rows_of(wanted, known, stacks)
        if (rows >= 0).any():
            return Matched(rows, f"stacks matched by the end of their names, such as {alike}" if alike else "")
    if wanted.uid is not None and known.uid is not None:
        rows = _occurrences(pd.Index(wanted.uid), pd.Index(known.uid), wanted, known)
        if (rows >= 0).any():
            return Matched(rows, "rows matched by uid, as the stacks have other names")
    if wanted.named and known.named:
        raise InputError(
            f"{known.source} holds none of the images of {wanted.source}: it names {known.text(0)}, the particles "
            f"{wanted.text(0)}. Give the file of these particles; if the stacks were renamed and the rows stand in the "
            "same order, add --by-position."
        )
    return _by_position(wanted, known)


def check_rows(found: int, needed: int, path: Path, source: Path) -> None:
    """Raise InputError where a file that is read row by row has not as many rows as there are particles."""
    if found != needed:
        raise InputError(f"{path} has {found} rows, but {source} has {needed} particles: give the file made for them.")


def _by_position(wanted: ImageNames, known: ImageNames) -> Matched:
    check_rows(len(known.index), len(wanted.index), known.source, wanted.source)
    return Matched(np.arange(len(wanted.index)), "rows matched by their position, as the images' names do not tell")


def _same_stacks(wanted: ImageNames, known: ImageNames) -> tuple[np.ndarray, str]:
    """For each category of wanted.stacks that one of known's, −1 without; and a name that only ends alike."""
    theirs = [str(name) for name in known.stacks.categories]
    real = {os.path.realpath(name): number for number, name in enumerate(theirs)}
    by_name: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(theirs):
        by_name[PurePosixPath(name).name].append(number)
    found, alike = np.full(len(wanted.stacks.categories), -1), ""
    taken: dict[int, str] = {}
    for code in np.unique(wanted.stacks.codes):
        name = str(wanted.stacks.categories[code])
        number = real.get(os.path.realpath(name))
        if number is None:
            candidates = [n for n in by_name.get(PurePosixPath(name).name, []) if _may_be_same(name, theirs[n])]
            if not candidates:
                continue
            shared = [_shared_tail(name, theirs[n]) for n in candidates]
            best = [n for n, length in zip(candidates, shared, strict=True) if length == max(shared)]
            if len(best) > 1:
                raise _ambiguous(wanted, known, f"the stack {name}, which", f"{theirs[best[0]]} or {theirs[best[1]]}")
            number, alike = best[0], alike or name
            if number in taken:
                raise _ambiguous(wanted, known, f"two stacks, {taken[number]} and {name}, which both", theirs[number])
            taken[number] = name
        found[code] = number
    return found, alike


def _ambiguous(wanted: ImageNames, known: ImageNames, named: str, may_be: str) -> InputError:
    return InputError(
        f"{wanted.source} names {named} may be {may_be} of {known.source}: it cannot be told which. Write the whole "
        "paths of the stacks into both files."
    )


def _may_be_same(a: str, b: str) -> bool:
    """Whether two stacks may be copies of each other: unless both exist and differ in size or at the beginning."""
    if not (os.path.isfile(a) and os.path.isfile(b)):
        return True
    if os.path.getsize(a) != os.path.getsize(b):
        return False
    with Path(a).open("rb") as one, Path(b).open("rb") as other:
        return one.read(_COMPARED) == other.read(_COMPARED)


def _shared_tail(a: str, b: str) -> int:
    pairs = zip(reversed(PurePosixPath(a).parts), reversed(PurePosixPath(b).parts), strict=False)
    length = 0
    for one, other in pairs:
        if one != other:
            break
        length += 1
    return length


def _rows_of(wanted: ImageNames, known: ImageNames, stacks: np.ndarray) -> np.ndarray:
    """Rows (N,) of `known`, −1 where it lacks the image; stacks: of each category of wanted.stacks, known's."""
    ours = pd.MultiIndex.from_arrays([stacks[wanted.stacks.codes], wanted.index.astype(np.int64)])
    theirs = pd.MultiIndex.from_arrays([known.stacks.codes.astype(np.int64), known.index.astype(np.int64)])
    return _occurrences(ours, theirs, wanted, known)


def _occurrences(ours: pd.Index, theirs: pd.Index, wanted: ImageNames, known: ImageNames) -> np.ndarray:
    """Where each of `ours` stands in `theirs`, −1 for nowhere; an image that both list n times, n-th to n-th."""
    if theirs.is_unique:
        return np.asarray(theirs.get_indexer(ours))
    again = theirs.duplicated(keep=False)
    first = theirs[again].unique()
    ours_again: Any = ours[ours.isin(first)].value_counts()
    theirs_again: Any = theirs[again].value_counts()
    counts = ours_again.reindex(theirs_again.index)
    differ = counts.notna() & (counts != theirs_again)
    if bool(differ.any()):
        image = theirs_again.index[int(np.flatnonzero(differ)[0])]
        row = int(np.flatnonzero(theirs == image)[0])
        raise InputError(
            f"{known.source} lists {known.text(row)} {int(theirs_again[image])} times and {wanted.source} "
            f"{int(counts[image])} times: it cannot be told which row counts. Remove the repeated rows."
        )
    return np.asarray(_numbered(theirs).get_indexer(_numbered(ours)))


def _numbered(index: pd.Index) -> pd.MultiIndex:
    """An index with the number of times that each entry occurred before."""
    codes = index.unique().get_indexer(index)
    order = np.argsort(codes, kind="stable")
    run = codes[order]
    start = np.flatnonzero(np.r_[True, np.diff(run) != 0]) if len(run) else np.zeros(0, dtype=int)
    within = np.arange(len(run)) - np.repeat(start, np.diff(np.r_[start, len(run)]))
    number = np.empty(len(run), dtype=np.int64)
    number[order] = within
    frame = index.to_frame(index=False) if isinstance(index, pd.MultiIndex) else pd.DataFrame({0: np.asarray(index)})
    return pd.MultiIndex.from_frame(frame.assign(occurrence=number))
