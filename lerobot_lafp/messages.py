"""Errors of others, in our own messages."""


def in_one_line(error: BaseException) -> str:
    """Its message without line breaks, or its name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
