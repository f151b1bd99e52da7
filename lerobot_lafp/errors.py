"""Errors that a user can mend, and those of others in one line."""


class UserError(RuntimeError):
    """What was asked for cannot be done; the message says why, and what to do instead."""


def in_one_line(error: BaseException) -> str:
    """Its message without line breaks, or its name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
