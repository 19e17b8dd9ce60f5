"""`raydistill import`: configurations of other libraries as ours."""

from pathlib import Path
from typing import Annotated

import typer

from raydistill.errors import ConfigError

__all__ = ["import_app"]

_MOST = 99  # teachers by number

import_app = typer.Typer(no_args_is_help=True, help="Configurations of other libraries, as ours.")


@import_app.callback()
def _group() -> None:
    """Configurations of other libraries, as ours."""


@import_app.command("textbrewer")
def import_textbrewer(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON: the arguments of DistillationConfig, or {distill_config, train_config}.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", help="Where the YAML goes; else it is printed.", show_default=False
        ),
    ] = None,
    teachers: Annotated[
        str,
        typer.Option(
            "--teachers", help="How many, or their names: large,base (MultiTeacherDistiller)."
        ),
    ] = "1",
) -> None:
    """TextBrewer's configuration as ours; what has no equivalent is named on standard error."""
    from raydistill.importing import read_textbrewer

    imported = read_textbrewer(file, teachers=_names(teachers))
    text = imported.to_yaml()
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)
        typer.echo(output)
    for remark in imported.remarks:
        typer.echo(str(remark), err=True)


def _names(teachers: str) -> list[str]:
    """From a number or from names."""
    names = [name.strip() for name in teachers.split(",")]
    if not names[0].isdecimal() or len(names) > 1:
        return names
    if len(names[0]) > len(str(_MOST)) or not 1 <= int(names[0]) <= _MOST:
        raise ConfigError.of("--teachers", f"must be 1 to {_MOST}, or names, got {names[0]}.")
    number = int(names[0])
    return ["teacher"] if number == 1 else [f"teacher_{i}" for i in range(1, number + 1)]


def _write(path: Path, text: str) -> None:
    """A new file; one that is there is not replaced."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError.of("--output", f"exists already: {path}. Nothing was written.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError.of("--output", f"cannot be written: {path} ({reason}).") from None
