"""The page of benchmarks: a table and a picture from the lines that bench.py prints."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["read_lines", "write_page"]

_ROW_INCHES = 0.32
_SHOWN = {
    "bench", "case", "value", "unit", "against", "against_value", "ratio", "day", "data", "command",
}  # fmt: skip
"""Fields with a place of their own in the table."""


def read_lines(path: Path) -> list[dict]:
    """Lines written earlier; none if there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def write_page(lines: Sequence[dict], folder: Path, machine: str) -> Path:
    """``BENCHMARKS.md`` and ``benchmarks.png`` in a folder, and the lines they are made of.

    A benchmark that was run again on the same data replaces its earlier lines; others stay.
    """
    record = folder / "benchmarks.jsonl"
    fresh = {(line["bench"], line.get("data")) for line in lines}
    kept = [x for x in read_lines(record) if (x["bench"], x.get("data")) not in fresh]
    day = datetime.now(UTC).date().isoformat()
    every = sorted([*kept, *({**line, "day": day} for line in lines)], key=lambda x: x["bench"])
    record.write_text("".join(json.dumps(line) + "\n" for line in every), encoding="utf-8")
    _picture(every, folder / "benchmarks.png")
    page = folder / "BENCHMARKS.md"
    page.write_text("\n".join(_text(every, machine)) + "\n", encoding="utf-8")
    return page


def _text(lines: Sequence[dict], machine: str) -> list[str]:
    text = [
        "# Benchmarks",
        "",
        f"Written by `jobs/bench.py … --page docs` on {machine}; `make bench` runs all. Each figure stands beside its rival of the",
        "same run, as the median of its repeats; above 1, or near it, is better for raydistill. What each benchmark does is said at",
        "the head of its module in `jobs/benches`.",
        "",
        "![Ratios](benchmarks.png)",
    ]
    for bench in dict.fromkeys(line["bench"] for line in lines):
        some = [line for line in lines if line["bench"] == bench]
        text += [
            "",
            f"## {bench}",
            "",
            "| case | ours | against | | ratio | more |",
            "|---|---|---|---|---|---|",
        ]
        for line in some:
            more = ", ".join(
                f"{key.replace('_', ' ')} {value}"
                for key, value in line.items()
                if key not in _SHOWN
            )
            text.append(
                f"| {line['case']} | {line['value']:g} {line['unit']} | {line['against']} | "
                f"{line['against_value']:g} {line['unit']} | **{line['ratio']:.3g}** | {more} |"
            )
        commands = dict.fromkeys(f"{x['day']}: `{x['command']}`" for x in some)
        text += ["", f"Measured {'; '.join(commands)}"]
    return text


def _picture(lines: Sequence[dict], path: Path) -> None:
    """Ratios as points on a logarithmic axis, 1 marked."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.2 + _ROW_INCHES * len(lines)), layout="constrained")
    names = [f"{line['bench']}: {line['case']}" for line in lines]
    ratios = [line["ratio"] for line in lines]
    axes.axvline(1.0, color="#888888", linewidth=1)
    axes.scatter(ratios, range(len(lines)), color="#1f5f8b", zorder=3)
    for i, ratio in enumerate(ratios):
        axes.annotate(
            f"{ratio:.2f}", (ratio, i), xytext=(6, -3), textcoords="offset points", fontsize=7
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(lines)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ratio to the rival of the same run (above 1: raydistill is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
