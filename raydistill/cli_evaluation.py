"""`raydistill evaluate`, `compare` and `export`: models beside each other, and out of the house."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from raydistill.cli_config import Config, Settings, Split, Task, one_task, overrides, sound_data
from raydistill.errors import ConfigError, Fault
from raydistill.ui import Ui

__all__ = ["compare", "evaluate", "export"]

_MODEL = "Folder, export, Hugging Face id, models:/name@alias or models:/name/version"
NoLatency = Annotated[bool, typer.Option("--no-latency", help="Do not time anything.")]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write all figures there.", show_default=False)
]


def evaluate(
    config: Config,
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help=f"{_MODEL}; may be repeated, or left out beside --teachers or --ensemble.",
            show_default=False,
        ),
    ] = None,
    split: Split = "test",
    teachers: Annotated[
        bool, typer.Option("--teachers", help="Teachers too, and how much models answer like them.")
    ] = False,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Their ensemble too.")] = False,
    no_latency: NoLatency = False,
    json_file: Json = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", help="Write what was said of each row there.", show_default=False
        ),
    ] = None,
    task: Task = None,
    settings: Settings = None,
) -> None:
    """Figures of models on a split: a table; of one alone as JSON on standard output."""
    _refuse_files({"--json": json_file, "--predictions": predictions})
    parsed = one_task(sound_data(config, overrides(settings)), "evaluate", task)
    from raydistill.evaluate import Wanted, evaluate
    from raydistill.evaluation.sheet import sheet_rows

    wanted = Wanted(
        tuple(model or ()),
        split,
        teachers=teachers,
        ensemble=ensemble,
        latency=not no_latency,
        predictions=predictions is not None,
    )
    ui = Ui()
    found = evaluate(parsed, wanted, ui)
    if json_file is not None:
        _write_json(json_file, found.document)
    if predictions is not None:
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in found.lines]
        predictions.write_text("".join(lines), encoding="utf-8")
    headers, rows = sheet_rows([vars(one) for one in found.figures])
    if len(found.figures) > 1:
        ui.table(headers, rows)
        return
    ui.aside(headers, rows)
    typer.echo(json.dumps(found.flat, indent=1))


def compare(
    config: Config,
    first: Annotated[str, typer.Argument(metavar="A", help=f"{_MODEL}.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="Likewise.", show_default=False)],
    *,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="Of the task, but not ece; by default the first one.",
            show_default=False,
        ),
    ] = None,
    split: Split = "test",
    resamples: Annotated[
        int, typer.Option("--resamples", help="How often rows are drawn.")
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the draws.")] = 0,
    json_file: Json = None,
    task: Task = None,
    settings: Settings = None,
) -> None:
    """Whether two models differ by more than chance: a paired bootstrap over rows."""
    _refuse_files({"--json": json_file})
    parsed = one_task(sound_data(config, overrides(settings)), "compare", task)
    from raydistill.compare import compare

    ui = Ui()
    found = compare(
        parsed, first, second,
        metric=metric, split=split, resamples=resamples, seed=seed, ui=ui,
    )  # fmt: skip
    if json_file is not None:
        _write_json(json_file, found.document)
    ui.table(*found.table)
    typer.echo(found.sentence)


def export(
    config: Annotated[
        Path, typer.Argument(help="Configuration, YAML, or output folder.", show_default=False)
    ],
    *,
    to: Annotated[
        Literal["onnx", "int8"],
        typer.Option("--to", help="In float32, or with weights of 8 bits.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="By default beside the student.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Instead of the run's student: as of evaluate.", show_default=False
        ),
    ] = None,
    split: Split = "test",
    no_latency: NoLatency = False,
    task: Task = None,
    settings: Settings = None,
) -> None:
    """Write a student as ONNX, compare it with torch, and measure both."""
    folder = config if config.is_dir() else None
    if folder is not None and not (folder / "config.yaml").is_file():
        raise ConfigError.of(
            str(folder), "must be a run's output folder, but holds no config.yaml."
        )
    whole = sound_data(config if folder is None else folder / "config.yaml", overrides(settings))
    parsed = one_task(whole, "export", task)
    from raydistill.config import TasksConfig
    from raydistill.evaluation.sheet import sheet_rows
    from raydistill.onnx_export import export_model
    from raydistill.output import OutputFolder

    if folder is None:
        folder = OutputFolder.of(whole.joint if isinstance(whole, TasksConfig) else whole).path
    student = folder / "student" / (task or "")
    path = "--model" if model is not None else str(config)
    if model is None and not (student / "config.json").is_file():
        raise ConfigError.of(path, f"has no student yet in {student}. Train it, or name --model.")
    ui = Ui()
    found = export_model(
        parsed,
        model or str(student),
        to,
        (output or folder / to / (task or "")).resolve(),
        split=split,
        path=path,
        latency=not no_latency,
        ui=ui,
    )
    ui.table(*sheet_rows([vars(one) for one in found.figures], in_order=True))
    typer.echo(f"{to}: {found.folder}")


def _refuse_files(files: dict[str, Path | None]) -> None:
    """Whether what is found could be written, before hours of looking for it."""
    faults = []
    for option, file in files.items():
        if file is None:
            continue
        if file.is_dir():
            faults.append(Fault(option, f"must be a file, but {file} is a folder."))
        elif not file.absolute().parent.is_dir():
            faults.append(Fault(option, f"must be in an existing folder, got {file}."))
        elif not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
            faults.append(Fault(option, f"must be writable, but {file} is not."))
    if faults:
        raise ConfigError(faults)


def _write_json(file: Path, document: dict[str, Any]) -> None:
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
