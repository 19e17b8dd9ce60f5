"""The command line: parse, call, print. Exit 0 done, 2 the input is wrong, 1 failed, 130 interrupted."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from raydistill.cli_config import Config, Output, Settings
from raydistill.cli_config import one_task as _one_task
from raydistill.cli_config import overrides as _overrides
from raydistill.cli_evaluation import compare, evaluate, export
from raydistill.cli_import import import_app
from raydistill.cli_losses import losses
from raydistill.cli_models import Uri, models_app
from raydistill.cli_store import store_app
from raydistill.cli_tune import show_search
from raydistill.errors import ConfigError, Fault, RaydistillError
from raydistill.ui import Ui

__all__ = ["app", "main", "main_of"]

app = typer.Typer(
    name="raydistill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil several frozen teachers into one small student on a Ray cluster.",
)
app.add_typer(models_app, name="models")
app.add_typer(store_app, name="store")
app.add_typer(import_app, name="import")
app.command()(losses)
app.command()(evaluate)
app.command()(compare)
app.command()(export)

INTERRUPTED = 130
# Of a head without CPUs, where every process is one more than Ray expects: no user can do anything about it.
_NO_NEWS = r"worker processes have been started on node"


def _sound(config: Path, overrides: list[str], *, resume: bool = False, output: bool = True) -> Any:
    """The configuration; every fault of it, its files and models at once if it cannot run."""
    from raydistill.config import parse_any, read_settings

    parsed, faults = parse_any(read_settings(config, overrides))
    if faults:
        if parsed is not None:
            from raydistill.several import check

            check(parsed, faults, resume=resume, output=output)
        raise ConfigError(faults)
    return parsed


@app.command()
def train(
    config: Config,
    settings: Settings = None,
    output: Output = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Distil: train a student from its teachers."""
    parsed = _sound(config, _overrides(settings, output), resume=resume)
    from raydistill.several import distill

    with _continued("continue with --resume"):
        _show(distill(parsed, resume=resume).output_dir)


@app.command()
def tune(
    config: Config,
    settings: Settings = None,
    output: Output = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a search.")] = False,
) -> None:
    """Search: many such runs, over what the section `tuning` varies; teachers answer once for all."""
    from raydistill.config import parse_any, read_settings

    parsed, faults = parse_any(read_settings(config, _overrides(settings, output)))
    if faults:
        raise ConfigError(faults)
    from raydistill.tuning import tune as search

    with _continued("continue with --resume"):
        show_search(search(_one_task(parsed, "tune"), resume=resume), Ui())


@app.command()
def teach(
    config: Config,
    settings: Settings = None,
    output: Output = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Fine-tune a teacher on the labelled rows, and register it."""
    parsed = _one_task(_sound(config, _overrides(settings, output), resume=resume), "teach")
    from raydistill.teach import teach as fine_tune

    with _continued("continue with --resume"):
        _show(fine_tune(parsed, resume=resume).output_dir)


@app.command()
def check(config: Config, settings: Settings = None, output: Output = None) -> None:
    """Validate, load models' configurations, and print the plan; nothing is started or written."""
    parsed = _sound(config, _overrides(settings, output))
    from raydistill.plan import plan_lines
    from raydistill.several import check as check_all

    for line in plan_lines(check_all(parsed)):
        typer.echo(line)


@app.command()
def cache(config: Config, settings: Settings = None, output: Output = None) -> None:
    """Fill the signal store: all teachers answer all rows of a run; nothing is trained."""
    parsed = _sound(config, _overrides(settings, output), output=False)
    from raydistill.cache import cache as fill
    from raydistill.config import TasksConfig

    with _continued("what was written is in the store; the same command goes on"):
        runs = [parsed]
        if isinstance(parsed, TasksConfig):
            views = parsed.views.values()
            runs = [view for view in views if view.teachers] or list(views)
        for one in runs:
            fill(one)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Output folder of a run.", show_default=False)],
) -> None:
    """Write report.html of a run, or of a search, again."""
    from raydistill.evaluation.report import write_report
    from raydistill.evaluation.search_report import write_search_report

    searched = (folder / "tuning.json").is_file()
    typer.echo(write_search_report(folder) if searched else write_report(folder))


@app.command()
def schema(
    tasks: Annotated[
        bool, typer.Option("--tasks", help="Of configurations with several tasks.")
    ] = False,
) -> None:
    """Print the JSON Schema of configurations, for editors."""
    from raydistill.config.schema import schema_text

    typer.echo(schema_text(several=tasks), nl=False)


@app.command()
def sync(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Output folders of runs, or folders of such.", show_default=False),
    ],
    tracking_uri: Uri = None,
) -> None:
    """Send records to MLflow that a server did not take while a run went on."""
    from raydistill.tracking import pending_journals, server_faults
    from raydistill.tracking import sync as send

    if absent := [folder for folder in folders if not folder.is_dir()]:
        raise ConfigError([Fault(str(folder), "must be an existing folder.") for folder in absent])
    if tracking_uri is not None and (
        faults := server_faults(tracking_uri, required=True, path="--tracking-uri")
    ):
        raise ConfigError(faults)
    pending = [journal for folder in folders for journal in pending_journals(folder)]
    if not pending:
        typer.echo("nothing to send")
    left = 0
    for folder in pending:
        result = send(folder, _say, uri=tracking_uri)
        left += result.remaining
        typer.echo(
            f"{folder}: {result.delivered} records sent, {result.remaining} left"
            + (f", {result.model_uri}" if result.model_uri else "")
        )
    if left:
        raise typer.Exit(1)


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--folder", help="Where data, models and results go.")
    ] = Path("outputs/demo"),
    full: Annotated[
        bool, typer.Option("--full", help="All labelled rows; about an hour on two cores.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of every run in it.")] = 0,
) -> None:
    """The whole way on real data and real teachers, in under ten minutes on two CPU cores."""
    from raydistill.demo.demo import run_demo

    run_demo(folder, full=full, seed=seed, ui=Ui())


def _show(folder: Path) -> None:
    """The table of student and teachers, and where everything lies."""
    import json

    from raydistill.evaluation.table import comparison_rows

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    headers, rows = comparison_rows(summary)
    Ui().table(headers, rows)
    typer.echo(f"student: {folder / 'student'}")
    if summary.get("model_uri"):
        typer.echo(f"version: {summary['model_uri']}")
    typer.echo(f"report:  {folder / 'report.html'}")


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


class _Interrupted(SystemExit):
    """By Ctrl-C or SIGTERM, in a command that can be continued."""

    def __init__(self, how: str) -> None:
        self.how = how
        super().__init__(INTERRUPTED)


@contextmanager
def _continued(how: str) -> Iterator[None]:
    """Say after an interruption how the command is continued."""
    try:
        yield
    except KeyboardInterrupt:
        raise _Interrupted(how) from None


def _terminate(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def run(command: Callable[[], Any]) -> int:
    """Call a command; its exit code. No traceback for what raydistill raised on purpose."""
    try:
        command()
    except ConfigError as error:
        _say(str(error))
        return 2
    except RaydistillError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    except _Interrupted as stop:
        _say(f"interrupted; {stop.how}")
        return INTERRUPTED
    except SystemExit as stop:  # typer's own: help, wrong options, and Ctrl-C
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    else:
        return 0
    if code == INTERRUPTED:
        _say("interrupted")
    return code


def main_of(command: str) -> None:
    """Entry of a script in jobs/: one command, with the script's own arguments."""
    sys.argv.insert(1, command)
    main()


def main() -> None:
    """Entry of the `raydistill` command."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers fork after tokenizing
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _NO_NEWS)  # Ray reads it when it is imported
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where custom losses are, here and in Ray's processes
    signal.signal(signal.SIGTERM, _terminate)  # `ray job stop` sends it
    sys.exit(run(app))
