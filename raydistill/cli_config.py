"""What several commands take: a configuration, settings that override it, one of several tasks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raydistill.errors import ConfigError

__all__ = ["Config", "Output", "Settings", "Split", "Task", "one_task", "overrides", "sound_data"]

Config = Annotated[Path, typer.Argument(help="Configuration, YAML.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="Override a setting; may be repeated.", show_default=False
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="Same as --set run.output_dir=DIR.", show_default=False),
]
Split = Annotated[str, typer.Option("--split", help="train, validation or test.")]
Task = Annotated[
    str | None, typer.Option("--task", help="Of several tasks, which.", show_default=False)
]


def overrides(settings: list[str] | None, output: Path | None = None) -> list[str]:
    """What `--set` and `--output` say, as overrides."""
    found = list(settings or [])
    if output is not None:
        quoted = str(output).replace("'", "''")  # as YAML has it
        found.append(f"run.output_dir='{quoted}'")
    return found


def sound_data(config: Path, settings: list[str]) -> Any:
    """A configuration by itself; whether its run could start does not matter."""
    from raydistill.config import load_config

    return load_config(config, settings)


def one_task(config: Any, command: str, task: str | None = None) -> Any:
    """A configuration of one task, or the named one of several."""
    from raydistill.config import TasksConfig

    if not isinstance(config, TasksConfig):
        if task is not None:
            raise ConfigError.of("--task", f"is {task}, but the configuration has no tasks.")
        return config
    names = ", ".join(config.tasks)
    if command == "teach":
        raise ConfigError.of("tasks", "must be left out: teach trains one teacher for one task.")
    if command == "tune":
        raise ConfigError.of("tasks", "must be left out: a search is over runs on one task.")
    if task not in config.tasks:
        got = "is missing" if task is None else f"is {task}"
        raise ConfigError.of("--task", f"{got}; it must be one of {names}.")
    return config.view(task)
