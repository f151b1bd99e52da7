"""Write docs/options.md: every option that a person sets, from the docstrings in lerobot_lafp/options.

python tools/options_reference.py
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from lerobot_lafp.options.fields import Named, named_fields
from lerobot_lafp.options.groups import Labels
from lerobot_lafp.options.policy import PolicyOptions

FILE = Path(__file__).parent.parent / "docs" / "options.md"
HEAD = """# Options

These are all {count} options of LAFP, as `lerobot-train --policy.NAME=VALUE` takes them. `labels.*` name a second
dataset, as LeRobot's `--dataset.*` name the first. LeRobot adds its own options (`--policy.device`, ..). "Fixed by"
names the stage whose trained weights depend on an option: it cannot change afterwards. All other options can change
at any time. Names, widths, frame rate and tasks of your data are no options. They are in the group `facts` of
config.json.

Written by `python tools/options_reference.py`.
"""


def reference() -> str:
    """The page, as Markdown."""
    options = [each for each in named_fields(PolicyOptions) if each.is_option]
    count = len([option for option in options if option.owner is not Labels])
    sections, page = _sections(), HEAD.format(count=count)
    for option in options:
        if (title := sections.pop(option.name.split(".")[0], None)) is not None:
            page += f"\n## {title}\n\n"
        page += _entry(option) + "\n"
    return page


def _sections() -> dict[str, str]:
    """The field that a section begins with -> the section's title, by the comments in the source."""
    source = inspect.getsource(PolicyOptions)
    found = re.findall(r"# --- ([^\n]+)\n    (\w+):", source)
    return {"stage": "What is trained", **{field: title for title, field in found}}


def _entry(option: Named) -> str:
    annotation, text = _declared(option)
    facts = [_choices(annotation), f"default `{_shown(option.field.default)}`"]
    facts += [] if option.fixed_by is None else [f"fixed by `{option.fixed_by}`"]
    entry = f"- **`{option.name}`** ({'; '.join(facts)}): {text}"
    return "\n  ".join(textwrap.wrap(entry, 118, break_long_words=False, break_on_hyphens=False))


def _choices(annotation: str) -> str:
    """A type in words: its values, where there are few."""
    if annotation == "Trained":
        return "`joint`, `latent_action`, `latent_policy` or `action_decoder`"
    if annotation == "Guidance":
        return "`decoder`, `latents` or `none`"
    values = re.fullmatch(r"Literal\[(.*)\]", annotation)
    if values is None:
        return f"`{annotation.replace(' | None', '')}`"
    *first, last = (f"`{each.strip(' ' + chr(39))}`" for each in values[1].split(","))
    return f"{', '.join(first)} or {last}"


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "unset", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)


def _declared(option: Named) -> tuple[str, str]:
    """The type of a field as it is written, and the docstring below it."""
    for name, annotation, text in _fields_of(option.owner):
        if name == option.field.name:
            return annotation, text
    raise LookupError(f"{option.name} has no docstring in {option.owner.__name__}.")


def _fields_of(kind: type) -> Iterator[tuple[str, str, str]]:
    for cls in kind.__mro__[:-1]:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                words = " ".join(str(text.value.value).replace("``", "`").split())  # type: ignore[attr-defined]
                yield field.target.id, ast.unparse(field.annotation), words


if __name__ == "__main__":
    FILE.write_text(reference())
    print(FILE)
