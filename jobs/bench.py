"""Benchmarks: python jobs/bench.py NAME [--repeats 5] [--data FOLDER]. One JSON object a line; the rest on stderr.

overlap   the teacherless student's speed that is left with teachers beside it
epochs    the same in epochs after the first, when the store answers
serving   one real teacher on ragged real text, against the plain loop
objective what the objective adds to a step, against the bare operations
store     reading and writing against a memory copy; what each code costs
search    a search of 16 trials, whose teachers answer once, against 16 runs of their own
peer      three real teachers, five epochs, against TextBrewer (of the dev extra)
growth    time and memory against rows and against teachers
all       all of them
"""

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

OPTIONS = {
    "repeats": (int, "at most 3 of peer and growth"),
    "steps": (int, "of a stretch (overlap, objective, epochs)"),
    "data": (Path, "folder of texts (serving, search, peer, growth); default: the demo's reviews"),
    "rows": (int, "of text (serving)"),
    "max_tokens": (int, "of a row (serving)"),
    "peer_rows": (int, "of training data (peer)"),
    "megabytes": (int, "of answers (store)"),
    "trials": (int, "of the search (search)"),
}
DEFAULTS = {
    "repeats": 5, "steps": 6, "data": None, "rows": 1024, "max_tokens": 128, "peer_rows": 4000,
    "megabytes": 256, "trials": 16,
}  # fmt: skip
NAMES = ("overlap", "objective", "epochs", "serving", "store", "search", "peer", "growth")


def run(name: str, options: argparse.Namespace) -> list[dict]:
    """One benchmark's lines."""
    bench = getattr(importlib.import_module(f"benches.{name}"), name)
    arguments = {
        "overlap": (options.repeats, options.steps),
        "objective": (options.repeats, options.steps),
        "epochs": (options.repeats, options.steps),
        "serving": (options.repeats, options.data, options.rows, options.max_tokens),
        "store": (options.repeats, options.megabytes),
        "search": (options.data, options.trials),
        "peer": (min(options.repeats, 3), options.data, options.peer_rows),
        "growth": (min(options.repeats, 3), options.data),
    }[name]
    about = {"data": options.data.name} if options.data is not None else {}
    return [{**line, **about, "command": _command(name, options)} for line in bench(*arguments)]


def _command(name: str, options: argparse.Namespace) -> str:
    """How to measure it again."""
    changed = [
        f" --{key.replace('_', '-')} {value.name if isinstance(value, Path) else value}"
        for key, value in vars(options).items()
        if key not in {"name", "page"} and value != DEFAULTS[key]
    ]
    return f"python jobs/bench.py {name}{''.join(changed)}"


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", choices=[*NAMES, "all"])
    for key, (kind, text) in OPTIONS.items():
        default = DEFAULTS[key]
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, default=default, help=text)
    parser.add_argument("--page", type=Path, help="write table and picture into this folder too")
    options = parser.parse_args()
    for name in NAMES if options.name == "all" else (options.name,):
        found = run(name, options)
        for line in found:
            print(json.dumps(line), flush=True)
        if options.page is not None:  # after each: hours may follow
            from benches.page import write_page

            machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), {platform.system()}"
            print(write_page(found, options.page, machine), file=sys.stderr)


if __name__ == "__main__":
    main()
