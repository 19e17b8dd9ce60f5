"""`raydistill losses`: every loss, or one of them."""

from typing import Annotated

import typer

from raydistill.errors import ConfigError

__all__ = ["losses"]

_PIPE_COLUMNS = 200


def losses(
    name: Annotated[
        str | None, typer.Argument(help="One of them; all of it.", show_default=False)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As in docs/LOSSES.md.")] = False,
) -> None:
    """The catalogue of losses: what each needs and costs; with a name its formula, options and papers."""
    from raydistill.catalogue import describe, entry_markdown, entry_plain, page_text

    if name is not None:
        found = describe(_known(name))
        typer.echo(entry_markdown(found) if markdown else entry_plain(found))
    elif markdown:
        typer.echo(page_text(), nl=False)
    else:
        _print_table()


def _known(name: str) -> str:
    """A loss's own name."""
    import difflib

    from raydistill.losses import ALIASES, CATALOG

    found = ALIASES.get(name, name)
    if found not in CATALOG:
        near = difflib.get_close_matches(name, [*CATALOG, *ALIASES], n=1)
        question = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError.of("NAME", f"'{name}' is no loss. Known: {', '.join(CATALOG)}.{question}")
    return found


def _print_table() -> None:
    from rich.console import Console
    from rich.table import Table

    from raydistill.catalogue import loss_rows

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("kind", "needs", "bytes a row"):
        table.add_column(header, no_wrap=True)
    table.add_column("what it is")
    for row in loss_rows():
        table.add_row(*row)
    out = Console(highlight=False, markup=False)
    if not out.is_terminal:
        out.width = _PIPE_COLUMNS
    out.print(table)
    typer.echo(
        "* a function only, no kind of a configuration yet. `raydistill losses NAME` prints all of one.",
        err=True,
    )
