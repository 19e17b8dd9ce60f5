"""One page about one run: ``report.html``, complete in itself, from what lies in the run's folder.

::

    config.yaml     the resolved configuration
    metrics.json    flat, split/metric -> number; without it there was no finished run
    history.jsonl   one object a line: a step and what was measured at it
    summary.json    what the run was made of, and every model that was compared

Only ``metrics.json`` must be there; what is missing is left out of the page. Names and labels are
the user's: everything is escaped, and the page's own policy allows neither scripts nor network.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from raydistill.errors import ConfigError
from raydistill.evaluation.comparison_plot import comparison_svg
from raydistill.evaluation.history_curves import markup, run_curves, selected_by, words_of
from raydistill.evaluation.perturbed import perturbed_rows
from raydistill.evaluation.report_tables import (
    classes_table,
    comparison_table,
    each_title,
    run_facts,
    teachers_table,
)
from raydistill.evaluation.run_files import read_history, read_object, read_text
from raydistill.evaluation.table import (
    MISSING,
    format_duration,
    format_integer,
    format_share,
    number,
    result_sentence,
)

__all__ = ["write_report"]

_MAX_PER_CLASS_OPEN = 30


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run, replacing an older one.

    Args:
        run_folder: Where the run left its results.

    Returns:
        The path of the page.

    Raises:
        ConfigError: there is no ``metrics.json``, or a file is not what it should be.
    """
    folder = Path(run_folder)
    if not (folder / "metrics.json").is_file():
        raise ConfigError.of(
            str(folder),
            "holds no finished run: metrics.json is missing. Give the output folder of one.",
        )
    metrics = read_object(folder / "metrics.json")
    summary = read_object(folder / "summary.json")
    history, num_torn = read_history(folder / "history.jsonl")
    config = read_text(folder / "config.yaml")
    summary = {**summary, "models": summary.get("models") or _models_from(metrics)}

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(
        name=str(summary.get("name") or folder.resolve().name),
        task=words_of(summary.get("task")),
        sentence=result_sentence(summary),
        facts=run_facts(summary),
        notes=[str(note) for note in summary.get("notes") or ()] + _torn_note(num_torn),
        picture=markup(comparison_svg(summary)),
        comparison=comparison_table(summary),
        calibrated=any("ece" in model for model in summary["models"]),
        timed=any("latency_ms_batch1" in model for model in summary["models"]),
        **run_curves(history, selected_by(config)),
        time=_time(metrics),
        store=_store(metrics),
        perturbed=perturbed_rows(metrics),
        per_class=classes_table(summary),
        each_title=each_title(summary),
        num_classes=len(summary.get("per_class") or ()),
        per_class_open=len(summary.get("per_class") or ()) <= _MAX_PER_CLASS_OPEN,
        teachers=teachers_table(summary, metrics),
        config=config.strip(),
        metrics=[[key, _figure(value)] for key, value in sorted(metrics.items())],
        versions=[[str(k), str(v)] for k, v in sorted((summary.get("versions") or {}).items())],
        missing=MISSING,
    )
    path = folder / "report.html"
    part = folder / "report.html.part"
    part.write_text(page, encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105  a reader sees the old page or the new one
    return path


def _torn_note(num_torn: int) -> list[str]:
    lines = "line is" if num_torn == 1 else "lines are"
    return [f"history.jsonl: {num_torn} {lines} torn and left out."] if num_torn else []


def _models_from(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Who was measured on the test split, when no summary tells."""
    models: dict[tuple[str, str], dict[str, Any]] = {}
    for key, value in metrics.items():
        match key.split("/"):
            case ["test", metric]:
                role, name = "student", ""
            case ["test", "corpus", metric]:
                role, name, metric = "student", "", f"corpus_{metric}"
            case ["test", "teachers", name, "corpus", metric]:
                role, metric = "teacher", f"corpus_{metric}"
            case ["test", "ensemble", metric]:
                role, name = "ensemble", ""
            case ["test", "first_stage", metric]:
                role, name = "baseline", "order of the first stage"
            case ["test", "teachers", name, metric]:
                role = "teacher"
            case _:
                continue
        models.setdefault((role, name), {"role": role, "name": name})[metric] = value
    return list(models.values())


def _time(metrics: Mapping[str, Any]) -> dict[str, str] | None:
    """How training time was divided."""
    waited = number(metrics.get("train/teacher_wait_fraction"))
    speed = number(metrics.get("train/samples_per_s"))
    lasted = number(metrics.get("train/seconds"))
    if waited is None and speed is None:
        return None
    shown = {}
    if waited is not None:
        waited = min(max(waited, 0.0), 1.0)
        shown = {
            "width": f"{100 * waited:.2f}",
            "waiting": f"{100 * waited:.1f} %",
            "working": f"{100 - round(100 * waited, 1):.1f} %",
        }
    if speed is not None:
        shown["speed"] = f"{speed:,.1f}"
    if lasted is not None:
        shown["lasted"] = format_duration(lasted)
    return shown


def _store(metrics: Mapping[str, Any]) -> str:
    """What the signal store saved, in a sentence; empty when it was not asked."""
    hits, misses = number(metrics.get("store/hits")), number(metrics.get("store/misses"))
    if not hits:
        return ""
    share = (
        "" if misses is None else f" ({format_share(hits / (hits + misses))} of those asked for)"
    )
    return f"{format_integer(hits)} answers{share} came from the signal store, computed before."


def _figure(value: object) -> str:
    """Any number of metrics.json, exact where it is a count."""
    amount = number(value)
    if amount is None:
        return str(value)
    return format_integer(amount) if amount.is_integer() else f"{amount:,.6g}"
