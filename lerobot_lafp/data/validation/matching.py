"""Names of two sources side by side: the same, in another order, or others."""

from collections.abc import Sequence
from typing import Any

from ...options.names import listed, positions_of


def compare_names(own: Sequence[str] | None, theirs: Sequence[str] | None) -> dict[str, Any]:
    """How two lists of names go together, for JSON.

    Args:
        own: Of the first source; None: it has none.
        theirs: Of the second.

    Returns:
        ``relation``: ``same``, ``order``, ``some`` (names in common), ``other`` or ``unnamed``; ``only_own`` and
        ``only_theirs``: names that the other side lacks.
    """
    if own is None or theirs is None:
        return {"relation": "unnamed", "only_own": [], "only_theirs": []}
    only_own = [name for name in own if positions_of([name], theirs) is None]
    only_theirs = [name for name in theirs if positions_of([name], own) is None]
    where = positions_of(own, theirs)
    if where is not None and not only_theirs:
        relation = "same" if where == list(range(len(theirs))) else "order"
    else:
        relation = "some" if len(only_own) < len(own) else "other"
    return {"relation": relation, "only_own": only_own, "only_theirs": only_theirs}


def in_words(compared: dict[str, Any], own: str, theirs: str) -> str:
    """What ``compare_names`` found, a sentence without its end."""
    lacks = [
        f"{listed(compared[which], 6)} {'is' if len(compared[which]) == 1 else 'are'} in {who} only"
        for which, who in (("only_own", own), ("only_theirs", theirs))
        if compared[which]
    ]
    return {
        "same": "the same names in the same order",
        "order": "the same names in another order",
        "some": f"some names in common; {', '.join(lacks)}",
        "other": "no names in common",
        "unnamed": f"{own} or {theirs} has no names",
    }[compared["relation"]]
