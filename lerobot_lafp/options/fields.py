"""What each field of a configuration is: an option that a person sets, or something that a run fills in.

The docstring below a field says what it means; LeRobot's ``--help`` and docs/options.md are made of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from .constants import Stage


def option(
    default: Any = MISSING, *, fixed_by: Stage | None = None, path: bool = False, otherwise: Any = MISSING
) -> Any:
    """A field that a person sets.

    Args:
        default: Its default.
        fixed_by: The stage whose trained weights depend on it, so that it cannot change afterwards; None: free.
        path: Whether it names a folder, or a repository of the Hub.
        otherwise: Of an option that the first dataset decides where nobody does (`training/choices.py`): its value
            until then.
    """
    metadata = {"kind": "option", "fixed_by": fixed_by, "path": path, "otherwise": otherwise}
    return field(default=None if otherwise is not MISSING else default, metadata=metadata)


def group(kind: type, init: bool = True) -> Any:
    """A field that holds several others; ``init=False``: all of them filled in."""
    return field(init=init, default_factory=kind, metadata={"kind": "group"})


def filled_in(fixed_by: Stage | None = None) -> Any:
    """A field that a run fills in, and that the command line does not offer (``init=False``: draccus reads it from a
    file, and makes no argument of it)."""
    return field(init=False, default=None, metadata={"kind": "filled in", "fixed_by": fixed_by})


@dataclass(frozen=True)
class Named:
    """A field of a configuration or of one of its groups.

    Attributes:
        name: As one types it: ``horizon``, ``limits.margin``.
        owner: The class that declares it.
        field: The field.
    """

    name: str
    owner: type
    field: Field[Any]

    @property
    def is_option(self) -> bool:
        return self.field.metadata.get("kind") == "option"

    @property
    def fixed_by(self) -> Stage | None:
        found: Stage | None = self.field.metadata.get("fixed_by")
        return found

    @property
    def by_dataset(self) -> bool:
        """Whether the first dataset decides it where nobody does."""
        return self.field.metadata.get("otherwise", MISSING) is not MISSING

    @property
    def is_path(self) -> bool:
        return bool(self.field.metadata.get("path"))


def named_fields(of: type, prefix: str = "") -> Iterator[Named]:
    """Every field that ``of`` and its groups declare with a kind, by its dotted name."""
    hints = get_type_hints(of)
    for each in fields(of):
        if (kind := each.metadata.get("kind")) is None:
            continue
        if kind != "group":
            yield Named(f"{prefix}{each.name}", of, each)
        elif is_dataclass(inner := hints[each.name]) and isinstance(inner, type):
            yield from named_fields(inner, f"{prefix}{each.name}.")


def read(options: Any, name: str, otherwise: Any = None) -> Any:
    """The value of ``limits.margin`` in a configuration, or in what a ``config.json`` says."""
    for part in name.split("."):
        of_file = isinstance(options, Mapping)
        options = options.get(part, otherwise) if of_file else getattr(options, part, otherwise)
    return options
