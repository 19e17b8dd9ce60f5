"""What `raydistill tune` prints at its end."""

from typing import TYPE_CHECKING

import typer

from raydistill.ui import Ui

if TYPE_CHECKING:
    from raydistill.tuning import SearchResult

__all__ = ["show_search"]


def show_search(result: "SearchResult", ui: Ui) -> None:
    """The trials, the winner, and where everything lies."""
    metrics = list(dict.fromkeys(name for record in result.records for name in record.values))
    ui.table(
        ["trial", "state", *metrics, "seconds"],
        [
            [
                str(record.number),
                record.state,
                *(f"{record.values[m]:,.4f}" if m in record.values else "–" for m in metrics),
                f"{record.seconds:.0f}",
            ]
            for record in result.records
        ],
    )
    typer.echo(result.sentence)
    for name, rows in result.computed.items():
        typer.echo(f"{name}: {rows:,} rows computed")
    if result.winner is not None:
        typer.echo(f"winner:  {result.output_dir / 'best.yaml'}")
    if result.model_uri:
        typer.echo(f"version: {result.model_uri}")
    typer.echo(f"report:  {result.output_dir / 'report.html'}")
