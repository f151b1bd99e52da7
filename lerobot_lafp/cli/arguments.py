"""Command lines of which a part is another program's: it is handed on as it was typed."""

from typing import Any

from typer.core import TyperCommand


def handing_on(*prefixes: str) -> type[TyperCommand]:
    """A parser that leaves words with one of ``prefixes`` in ``Context.args``, and reads the others itself."""

    class HandingOn(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            super().parse_args(ctx, [word for word in args if not word.startswith(prefixes)])
            ctx.args = [word for word in args if word.startswith(prefixes)]
            return ctx.args

    return HandingOn
