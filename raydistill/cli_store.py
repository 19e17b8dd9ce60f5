"""`raydistill store`: what is in a signal store, whether it is whole, and room in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from raydistill.errors import ConfigError, Fault
from raydistill.ui import Ui

__all__ = ["store_app"]

store_app = typer.Typer(
    no_args_is_help=True, help="The signal store: what is in it, whole, in bounds."
)

Store = Annotated[
    str, typer.Option("--store", help="Folder or URI; by default that of runs in outputs/.")
]


@store_app.command("list")
def store_list(store: Store = "outputs/store") -> None:
    """What is stored of which teacher."""
    from raydistill.evaluation.table import format_bytes
    from raydistill.store.upkeep import list_shelves

    with _place(store) as place:
        shelves = list_shelves(place)
    rows = [
        [
            s.teacher, s.model, f"{s.rows:,}", ", ".join(s.parts), format_bytes(s.num_bytes),
            str(s.segments), s.name[:12],
        ]
        for s in shelves
    ]  # fmt: skip
    headers = ["teacher", "model", "rows", "parts", "size", "segments", "shelf"]
    Ui().table(headers, rows)


@store_app.command("verify")
def store_verify(store: Store = "outputs/store") -> None:
    """Compare every segment with its checksum; broken ones are set aside. Exit 1 if there are any."""
    from raydistill.evaluation.table import format_bytes
    from raydistill.store.upkeep import verify

    with _place(store) as place, Ui().doing("reading all segments"):
        verdict = verify(place)
    for path in verdict.broken:
        typer.echo(f"broken, set aside: {path}")
    for path in verdict.left:
        typer.echo(f"cannot be read, or is broken and cannot be set aside: {path}")
    typer.echo(
        f"{verdict.segments} segments, {format_bytes(verdict.num_bytes)}: {len(verdict.broken)} broken"
        + (f"; {verdict.set_aside} were set aside earlier" if verdict.set_aside else "")
    )
    if verdict.broken or verdict.left:
        raise typer.Exit(1)


@store_app.command("prune")
def store_prune(
    store: Store = "outputs/store",
    max_bytes: Annotated[
        str | None,
        typer.Option(
            "--max-bytes", help="What may remain, e.g. 500MB or 20GB.", show_default=False
        ),
    ] = None,
) -> None:
    """Delete what was set aside; with --max-bytes also what was not used for longest."""
    from raydistill.evaluation.table import format_bytes
    from raydistill.store.upkeep import prune

    limit = None if max_bytes is None else _number_of_bytes(max_bytes)
    with _place(store) as place:
        count, freed = prune(place, limit)
    typer.echo(f"{count} files deleted, {format_bytes(freed)}")


@contextmanager
def _place(store: str) -> Iterator[Any]:
    """A store that is there; what of it cannot be read or written is said in one sentence."""
    from raydistill.filesystems import PLACE_ERRORS, first_line
    from raydistill.store.place import Place, uri_faults

    if faults := uri_faults(store):
        raise ConfigError([Fault("--store", fault) for fault in faults])
    place = Place(store)
    try:
        if not place.exists(""):
            raise ConfigError.of("--store", f"must be an existing folder or a URI, got {store}.")
        if not place.has_shelves():
            raise ConfigError.of(
                "--store",
                f"must be a folder of answers, but no shelf is in {store}. It is what store.path names, "
                "else `store` beside the output folders.",
            )
        yield place
    except PLACE_ERRORS as error:
        raise ConfigError.of(
            "--store", f"cannot be read or written: {store} ({first_line(error)})."
        ) from None


def _number_of_bytes(text: str) -> int:
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise ConfigError.of(
            "--max-bytes", f"must be a number of bytes such as 500MB or 20GB, got '{text}'."
        ) from None
