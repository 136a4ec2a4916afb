"""Errors that a user can mend."""


class InputError(Exception):
    """What the user gave cannot be used: one sentence with the file, the place, what was expected and what to do."""
