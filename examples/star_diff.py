"""What a selection left of a STAR file, column by column: `python star_diff.py WHOLE.star SELECTED.star`.

Rows are matched by rlnImageName; every cell is compared as text, so a digit that was rounded would show.
"""

import sys

import starfile


def as_text(path: str) -> dict:
    """The blocks of a STAR file, no cell read as a number."""
    columns = {column for block in starfile.read(path, always_dict=True).values() for column in block}
    return starfile.read(path, always_dict=True, parse_as_string=list(columns))


whole, selected = (as_text(path) for path in sys.argv[1:3])
assert list(whole) == list(selected), f"blocks differ: {list(whole)} and {list(selected)}"
for block, before in whole.items():
    after = selected[block]
    assert list(before) == list(after), f"columns of {block!r} differ"
    print(f"block {block or 'without a name'}: {len(after)} of {len(before)} rows, {len(before.columns)} columns")
    if "rlnImageName" in before:
        before = before.set_index("rlnImageName", drop=False).loc[after["rlnImageName"]]
    for column in before:
        changed = int((before[column].to_numpy() != after[column].to_numpy()).sum())
        print(f"  {column:28} {'the same' if not changed else f'{changed} cells differ'}")
