"""What is worth knowing of a particle file: what it holds and is not used, what had to be guessed, what looks wrong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether a reconstruction should be expected to suffer from it.

    name: of the alarm that a run raises about it, "" where it raises none. advice: what to do then.
    """

    text: str
    serious: bool
    name: str = ""
    advice: str = ""
