"""One page about a search: ``report.html`` and ``plots/``, from the tuning.json in its folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from raydistill.errors import ConfigError
from raydistill.evaluation.search_plots import (
    front_figure,
    importance_figure,
    parallel_figure,
    save_png,
    svg_of,
)
from raydistill.evaluation.table import format_duration

__all__ = ["write_search_report"]

Table = tuple[list[str], list[list[Any]]]

_PICTURES = (
    ("parallel", parallel_figure, "Values and results", "A line for each finished trial, from its values to its objectives; the winner's is the strong one."),
    ("importance", importance_figure, "What mattered", "Share of the first objective's variation that each parameter explains (fANOVA), over finished trials; of few trials a hint, no more."),
    ("front", front_figure, "Front", "No trial is better than those of the front, which are filled and joined, in all objectives."),
)  # fmt: skip


def write_search_report(folder: Path) -> Path:
    """Write the page and the pictures into the folder of a search, replacing older ones.

    Args:
        folder: Where the search left its results.

    Returns:
        The path of the page.

    Raises:
        ConfigError: There is no tuning.json, or it is not what it should be.
    """
    path = folder / "tuning.json"
    try:
        search = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError.of(str(path), f"is not the record of a search: {error}.") from None
    pictures = []
    for name, draw, title, note in _PICTURES:
        svg = svg_of(draw, search, f"{title} of the search {search['name']}")
        if svg is not None:
            pictures.append((title, note, Markup(svg)))
            save_png(draw, search, folder / "plots" / f"{name}.png")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("search.html.jinja").render(
        name=search["name"],
        sentence=search["sentence"],
        facts=_facts(search),
        final=_final(search),
        pictures=pictures,
        trials=_trials(search),
        mark="" if search["winner"] is None else str(search["winner"]),
        changes=_changes(search),
        best=_text(folder / "best.yaml"),
        config=_text(folder / "config.yaml"),
    )
    report = folder / "report.html"
    part = folder / "report.html.part"
    part.write_text(page, encoding="utf-8")
    part.replace(report)
    return report


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _facts(search: Mapping[str, Any]) -> list[tuple[str, str]]:
    states = [trial["state"] for trial in search["trials"]]
    counted = ", ".join(f"{states.count(s)} {s}" for s in ("finished", "stopped", "failed", "running") if s in states)  # fmt: skip
    goals = ", ".join(f"{o['metric']} ({'more' if o['maximize'] else 'less'} is better)" for o in search["objectives"])  # fmt: skip
    facts = [
        ("Trials", f"{len(states)}: {counted}"),
        ("Objectives", goals),
        ("Search", f"{search['search']['kind']}, seed {search['search']['seed']}, {search['concurrent']} at a time"),
        ("Took", format_duration(search["seconds"])),
    ]  # fmt: skip
    if search["rows_computed"]:
        each = ", ".join(f"{name} {rows:,}" for name, rows in search["rows_computed"].items())
        facts.append(("Rows that teachers computed", each))
    if search["model_uri"]:
        facts.append(("Registered", search["model_uri"]))
    if search["run_id"]:
        facts.append(("MLflow run", search["run_id"]))
    return facts


def _trials(search: Mapping[str, Any]) -> Table:
    paths, metrics = list(search["space"]), [o["metric"] for o in search["objectives"]]
    rows: list[list[Any]] = []
    for trial in search["trials"]:
        point = trial["point"] if trial["number"] or trial["point"] else search["written"]
        state = trial["state"] + (f": {trial['note']}" if trial["note"] else "")
        found = [_number(trial["values"].get(metric)) for metric in metrics]
        values = [_value(point[path]) if path in point else "–" for path in paths]
        rows.append([str(trial["number"]), state, *found, *values, f"{trial['seconds']:.0f}"])
    return ["Trial", "State", *metrics, *paths, "Seconds"], rows


def _final(search: Mapping[str, Any]) -> Table | None:
    runs = [
        (role, seed, metrics)
        for role, seeds in search["final"].items()
        for seed, metrics in seeds.items()
    ]
    if not runs:
        return None
    named = [o["metric"] for o in search["objectives"]]
    tested = [m.replace("validation/", "test/", 1) for m in named if m.startswith("validation/")]
    columns = [m for m in dict.fromkeys([*tested, *named]) if any(m in one for _, _, one in runs)]
    rows: list[list[Any]] = [[role, seed, *(_number(m.get(c)) for c in columns)] for role, seed, m in runs]  # fmt: skip
    for role in dict.fromkeys(role for role, _, _ in runs):
        some = [metrics for one, _, metrics in runs if one == role]
        if len(some) > 1:
            means = [_number(sum(m[c] for m in some) / len(some)) for c in columns]
            rows.append([role, "mean", *means])
    return ["Recipe", "Seed", *columns], rows


def _changes(search: Mapping[str, Any]) -> Table | None:
    rows: list[list[Any]] = [
        [str(trial["number"]), str(step), "–" if source is None else str(source), ", ".join(f"{p} = {_value(v)}" for p, v in point.items())]
        for trial in search["trials"]
        for step, source, point in trial["changes"]
    ]  # fmt: skip
    return (["Trial", "From step", "Weights of", "Values"], rows) if rows else None


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"  # noqa: PLR2004


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
