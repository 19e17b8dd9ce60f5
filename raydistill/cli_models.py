"""`raydistill models`: what is in the registry, where it came from, and which version has an alias."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from raydistill.ui import Ui

if TYPE_CHECKING:
    from raydistill.tracking import Move, VersionDetails

__all__ = ["Uri", "models_app"]

models_app = typer.Typer(
    no_args_is_help=True, help="The MLflow registry: versions, aliases, where each came from."
)

Uri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow tracking URI.", show_default=False)
]
Name = Annotated[str, typer.Argument(help="Registered model.", show_default=False)]
One = Annotated[str, typer.Argument(help="name@alias or name/version.", show_default=False)]
Alias = Annotated[str, typer.Option("--alias", help="Which alias moves.")]

_SHORT = 12
_OWN = "raydistill."
_DIGITS = 4


@models_app.command("list")
def models_list(tracking_uri: Uri = None) -> None:
    """Registered models, their versions, aliases, and the metric that decides."""
    from raydistill.tracking import list_models

    rows = [
        [v.name, str(v.version), ", ".join(v.aliases), _deciding(v), _day(v.created_ms)]
        for model in list_models(tracking_uri)
        for v in model.versions
    ]
    Ui().table(["model", "version", "aliases", "metric", "created"], rows)


@models_app.command("show")
def models_show(
    model: Annotated[
        str,
        typer.Argument(
            help="Name, models:/name@alias or models:/name/version.", show_default=False
        ),
    ],
    tracking_uri: Uri = None,
) -> None:
    """One model: every version with its metrics and where it came from, and how its aliases moved."""
    from raydistill.tracking import show_model

    found = show_model(model, tracking_uri)
    for v in found.versions:
        aliases = f" ({', '.join(v.aliases)})" if v.aliases else ""
        typer.echo(f"{v.uri}{aliases}")
        for name, text in _origin(v).items():
            typer.echo(f"  {name}: {text}")
        for name, number in sorted(v.metrics.items()):
            typer.echo(f"  {name}: {number:.4f}")
    if found.moves:
        typer.echo("moves")
    for move in found.moves:
        typer.echo(f"  {_day(move.at_ms)}  {_move(move)}")


@models_app.command("compare")
def models_compare(first: One, second: One, tracking_uri: Uri = None) -> None:
    """Two versions side by side: metrics, where they came from, and settings that differ."""
    from raydistill.tracking import compare_models

    found = compare_models(first, second, tracking_uri)
    ui, versions = Ui(), (found.first, found.second)
    headers = [v.uri.removeprefix("models:/") for v in versions]
    numbers = [
        [name, *(_number(value) for value in pair), _difference(*pair)]
        for name, pair in found.metrics.items()
    ]
    ui.table(["metric", *headers, "difference"], numbers)
    origins = [_origin(v) for v in versions]
    typer.echo("\nwhere they came from")
    _pairs(
        {
            name: (origins[0].get(name), origins[1].get(name))
            for name in {**origins[0], **origins[1]}
        }
    )
    typer.echo("\nsettings that differ" if found.settings else "\nno settings that differ")
    _pairs(found.settings)
    for note in found.notes:
        typer.echo(note, err=True)


@models_app.command("promote")
def models_promote(
    name: Name,
    version: Annotated[int, typer.Argument(help="Its version.", show_default=False)],
    alias: Alias = "champion",
    force: Annotated[
        bool, typer.Option("--force", help="Whatever the rule of its configuration says.")
    ] = False,
    tracking_uri: Uri = None,
) -> None:
    """Move an alias to a version, if it is better by the rule it was registered with."""
    from raydistill.tracking import promote

    moved = promote(name, version, alias, tracking_uri, force=force)
    before = "" if moved.previous is None else f" (was version {moved.previous})"
    because = f", because {moved.why}" if moved.why else " already"
    typer.echo(f"{moved.name}@{moved.alias} is version {moved.version}{before}{because}")


@models_app.command("rollback")
def models_rollback(name: Name, alias: Alias = "champion", tracking_uri: Uri = None) -> None:
    """Move an alias back to the version that had it before; again, to the one before that."""
    from raydistill.tracking import rollback

    moved = rollback(name, alias, tracking_uri)
    typer.echo(
        f"{moved.name}@{moved.alias} is version {moved.version} again (was version {moved.previous})"
    )


def _origin(version: "VersionDetails") -> dict[str, str]:
    """Where a version came from, by what is said: run, configuration, rows, teachers, first weights."""
    found = {"created": _day(version.created_ms), "run": version.run_id or "–"}
    own = {k: v for k, v in version.lineage.items() if k.startswith(_OWN)}
    if version.run_id and own:
        found["configuration"] = f"runs:/{version.run_id}/config.yaml"
    if (rule := version.rule) is not None:
        margin = f", better by {rule.better_by:g} at least" if rule.better_by else ""
        found["promotion"] = f"{rule.alias} by {rule.metric}{margin}"
    detailed = any(key.startswith(f"{_OWN}data.") for key in own)
    for key, text in sorted(version.lineage.items()):
        if detailed and key in (f"{_OWN}teachers", f"{_OWN}data_fingerprint"):
            continue  # said by name
        name = key.removeprefix(_OWN)
        found["raydistill" if name == "version" else name] = _readable(text)
    return found


def _readable(text: str) -> str:
    """A tag's JSON object as a clause."""
    from raydistill.tracking import as_settings

    value = as_settings(text)
    if value is None:
        return text
    parts = []
    for name, item in value.items():
        if name in ("model", "source"):
            parts.append(str(item))
        elif name == "version":
            parts[-1:] = [f"{' '.join(parts[-1:])} = {item}"]
        elif name == "rows":
            parts.append(f"{item:,} rows")
        else:
            parts.append(f"{name} {str(item)[:_SHORT]}")
    return ", ".join(parts)


def _deciding(version: "VersionDetails") -> str:
    """The metric that its alias goes by; all of them where that is not known."""
    rule = version.rule
    names = (
        [rule.metric] if rule is not None and rule.metric in version.metrics else [*version.metrics]
    )
    return ", ".join(f"{name} {version.metrics[name]:.4f}" for name in sorted(names))


def _move(move: "Move") -> str:
    before = "" if move.before is None else f"version {move.before} -> "
    because = f", because {move.why}" if move.why else ""
    return f"{move.alias}: {before}version {move.after}, {move.how}{because}"


def _pairs(pairs: Mapping[str, tuple[str | None, str | None]]) -> None:
    """One line where both say the same, else one for each."""
    for name, (first, second) in pairs.items():
        if first == second:
            typer.echo(f"  {name}: {first}")
        else:
            typer.echo(f"  {name}:")
            for value in (first, second):
                typer.echo(f"    {'–' if value is None else value}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.{_DIGITS}f}"


def _difference(first: float | None, second: float | None) -> str:
    return "–" if first is None or second is None else f"{second - first:+.{_DIGITS}f}"


def _day(milliseconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(sep=" ", timespec="minutes")
