"""Errors that a user can mend."""


class InputError(Exception):
    """What the user gave cannot be used: one sentence with the file, the place, what was expected and what to do."""


class EchoedError(InputError):
    """What another process of the same run has refused, and says: this one says nothing."""


class TeammateLostError(Exception):
    """Another process of the same run ended while this one waited for it."""
