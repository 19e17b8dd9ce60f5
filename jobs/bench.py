"""Benchmarks: python jobs/bench.py NAME [--repeats 5] [--data FOLDER]. One JSON object a line; the rest on stderr.

overlap   the teacherless student's speed that is left with teachers beside it
epochs    the same in epochs after the first, when the store answers
serving   one real teacher on ragged real text, against the plain loop
store     reading and writing against a memory copy; what each code costs
search    8 trials that share teachers and store, against 8 runs of their own
peer      three real teachers, five epochs, against TextBrewer (needs it installed)
growth    time and memory against rows and against teachers
all       all of them
"""

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

NAMES = ("overlap", "epochs", "serving", "store", "search", "peer", "growth")


def run(name: str, options: argparse.Namespace) -> list[dict]:
    """One benchmark's lines."""
    bench = getattr(importlib.import_module(f"benches.{name}"), name)
    arguments = {
        "overlap": (options.repeats, options.steps),
        "epochs": (options.repeats, options.steps),
        "serving": (options.repeats, options.data, options.rows, options.max_tokens),
        "store": (options.repeats, options.megabytes),
        "search": (options.data,),
        "peer": (options.repeats, options.data, options.peer_rows),
        "growth": (options.data,),
    }[name]
    return list(bench(*arguments))


def lines(options: argparse.Namespace) -> Iterator[dict]:
    """Of one benchmark, or of all in turn."""
    for name in NAMES if options.name == "all" else (options.name,):
        yield from run(name, options)


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="of a stretch (overlap, epochs)")
    parser.add_argument("--data", type=Path, help="folder of texts (serving); default: the demo's")
    parser.add_argument("--rows", type=int, default=1024, help="of text (serving)")
    parser.add_argument("--max-tokens", type=int, default=128, help="of a row (serving)")
    parser.add_argument("--peer-rows", type=int, default=2000, help="of training data (peer)")
    parser.add_argument("--megabytes", type=int, default=256, help="of answers (store)")
    parser.add_argument("--page", type=Path, help="write table and picture into this folder too")
    options = parser.parse_args()
    found = []
    for line in lines(options):
        print(json.dumps(line), flush=True)
        found.append(line)
    if options.page is not None:
        from benches.page import write_page

        machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), {platform.system()}"
        print(write_page(found, options.page, machine), file=sys.stderr)


if __name__ == "__main__":
    main()
