"""How a law ends that does not hold, and one that could not be tried."""

__all__ = ["BrokenLawError", "NotExercisedError"]


class BrokenLawError(AssertionError):
    """An adapter or a sink breaks a law."""


class NotExercisedError(Exception):
    """A law could not be tried: the message names the missing part, and the report lists it."""
