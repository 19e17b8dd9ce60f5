"""Benchmarks: python jobs/bench.py NAME [--repeats 5] [--data FOLDER]. One JSON object a line; the rest on stderr.

overlap   the teacherless student's speed that is left with teachers beside it
epochs    the same in epochs after the first, when the store answers
serving   one real teacher on ragged real text, against the plain loop
store     reading and writing against a memory copy; what each code costs
all       all of them
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

NAMES = ("overlap", "epochs", "serving", "store")


def run(name: str, options: argparse.Namespace) -> list[dict]:
    """One benchmark's lines."""
    repeats = options.repeats
    if name == "overlap":
        import ray
        from benches.overlap import overlap

        ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="error")
        try:
            return overlap(repeats, options.steps)
        finally:
            ray.shutdown()
    if name == "epochs":
        from benches.epochs import epochs

        return epochs(repeats, options.steps)
    if name == "serving":
        from benches.serving import serving

        return serving(repeats, options.data, options.rows, options.max_tokens)
    from benches.store import store

    return store(repeats, options.megabytes)


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
    parser.add_argument("--megabytes", type=int, default=256, help="of answers (store)")
    for line in lines(parser.parse_args()):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
