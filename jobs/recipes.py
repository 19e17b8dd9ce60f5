"""Which recipe? python jobs/recipes.py --data DIR --models DIR [--sets mr …] [--seeds 0 1 2] [--output DIR].

For each data set: two teachers are fine-tuned on the first 2,000 labelled rows; then the same small
student is trained by each recipe and seed, with the same steps; the rest of the rows has no labels. Prints
a table of test accuracy, mean and spread over the seeds, and writes recipes.jsonl beside the runs. What is
finished already is not repeated.

DATA holds a folder a set (train, validation, test as JSON lines, labels.json); MODELS the encoders named
below. Measured: see jobs/LOG.md.
"""

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from raydistill.cache import cache
from raydistill.cli import run
from raydistill.config import DistillConfig, parse_config
from raydistill.config.training import RunSection
from raydistill.errors import ConfigError
from raydistill.output import OutputFolder
from raydistill.prepare import Resources
from raydistill.run import distill
from raydistill.runtime import connect_ray
from raydistill.ui import Ui

LABELLED = 2000
CHARACTERS = "characters"
"""Stands for a tokenizer made of the characters of the training texts."""
NUM_CPUS = 8.0  # only a count
SETS: dict[str, dict[str, Any]] = {
    "mr": {
        "teachers": {"l6": "minilm-l6", "sre": "minilm-sre"},
        "student": {"model": "bert-tiny"},
        "max_tokens": 48,
    },
    "snli_small": {
        "teachers": {"l6": "minilm-l6", "sre": "minilm-sre"},
        "student": {"model": "bert-tiny"},
        "max_tokens": 48,
        "task": {"text": "premise", "text_pair": "hypothesis"},
    },
    "tnews5": {
        "teachers": {"e5": "e5-small", "e5_other": "e5-small"},
        "student": {  # of its own vocabulary: with the teachers' 250,000 pieces it would be nothing else
            "tokenizer": CHARACTERS,
            "from_config": {
                "model_type": "bert",
                "hidden_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 512,
            },
        },
        "max_tokens": 40,
    },
}
HARD = {"kind": "cross_entropy", "weight": 0.5}
SOFT = {"kind": "forward_kl", "weight": 1.0, "temperature": 2.0}
FEATURES = {
    "kind": "hidden_mse",
    "weight": 1.0,
    "layers": "uniform",
    "positions": "mean",
    "projection": "linear",
}
ALL_LOSSES = [HARD, SOFT, FEATURES]
RECIPES: dict[str, dict[str, Any]] = {
    "alone": {"losses": [{"kind": "cross_entropy"}], "teachers": None},
    "best single teacher": {"losses": [HARD, SOFT], "teachers": "best"},
    "ensemble": {"losses": [HARD, SOFT]},
    "ensemble with features": {"losses": ALL_LOSSES},
    "adaptive weights": {
        "losses": [HARD, SOFT],
        "ensemble": {"weighting": {"kind": "label_cross_entropy"}},
    },
}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """JSON lines; texts may hold other ends of lines than ours."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def character_tokenizer(texts: list[str], folder: Path) -> Path:
    """A BERT tokenizer whose pieces are the characters, and the frequent Latin words, of some texts."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(
        texts, vocab_size=6000, limit_alphabet=5000, min_frequency=2, show_progress=False
    )
    BertTokenizerFast(tokenizer_object=pieces._tokenizer).save_pretrained(folder)
    return folder


def split_rows(source: Path, into: Path) -> Path:
    """A data folder with the first rows labelled, the rest without labels."""
    if not (into / "labels.json").exists():
        into.mkdir(parents=True, exist_ok=True)
        rows = read_rows(source / "train.jsonl")
        without = [{k: v for k, v in row.items() if k != "label"} for row in rows[LABELLED:]]
        for name, some in (("train", rows[:LABELLED]), ("unlabelled", without)):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
            (into / f"{name}.jsonl").write_text(text, "utf-8")
        for name in ("validation.jsonl", "test.jsonl", "labels.json"):
            shutil.copyfile(source / name, into / name)
    return into


def checked(settings: dict[str, Any]) -> DistillConfig:
    """The configuration, or all its faults."""
    config, faults = parse_config(settings)
    if config is None or faults:
        raise ConfigError(faults)
    return config


def finished(settings: dict[str, Any], ui: Ui) -> dict[str, float]:
    """The metrics of a run, which is started, gone on with, or done already."""
    config = checked(settings)
    ui.say(f"— {config.run.name}")
    again = OutputFolder.of(config).read_manifest() is not None
    return dict(distill(config, resume=again, ui=ui).metrics)


def main(options: argparse.Namespace) -> None:
    """All sets, recipes and seeds on one Ray, then the table."""
    with connect_ray(RunSection(name="recipes"), Resources(NUM_CPUS, 0.0)):
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """What Ray is there for."""
    ui, table = Ui(), []
    output = Path(options.output)
    results = output / "recipes.jsonl"
    for name in options.sets:
        shape = SETS[name]
        common: dict[str, Any] = {
            "data": {"folder": str(split_rows(Path(options.data) / name, output / "data" / name))},
            "task": {"kind": "text_classification", **shape.get("task", {})},
            "tracking": {"enabled": False},
            "store": {"path": str(output / "store" / name)},
        }
        teachers, scores = {}, {}
        for number, (teacher, model) in enumerate(shape["teachers"].items()):
            folder = output / name / f"teacher-{teacher}"
            metrics = finished(
                {
                    **common,
                    "run": {"name": f"{name}-{teacher}", "seed": 10 + number, "output_dir": str(folder)},
                    "student": {"model": str(Path(options.models) / model), "max_tokens": shape["max_tokens"]},
                    "losses": [{"kind": "cross_entropy"}],
                    "training": {"epochs": 2, "batch_rows": 16, "micro_batch_rows": 8, "learning_rate": 1e-4, "cpus_per_worker": 2},
                },
                ui,
            )  # fmt: skip
            teachers[teacher] = {"model": str(folder / "student")}
            scores[teacher] = metrics["validation/accuracy"]
            _note(results, {"set": name, "teacher": teacher, "validation": scores[teacher], "test": metrics["test/accuracy"]})  # fmt: skip
        best = max(scores, key=lambda teacher: scores[teacher])
        student = {
            key: str(Path(options.models) / value) if isinstance(value, str) else value
            for key, value in shape["student"].items()
        }
        if shape["student"].get("tokenizer") == CHARACTERS:
            rows = read_rows(Path(options.data) / name / "train.jsonl")
            folder = output / name / CHARACTERS
            student["tokenizer"] = str(character_tokenizer([row["text"] for row in rows], folder))
        common["student"] = {**student, "max_tokens": shape["max_tokens"]}
        common["training"] = {"epochs": 1000, "max_steps": options.steps, "batch_rows": 16, "learning_rate": 5e-4, "evaluate_every_steps": options.steps // 4}  # fmt: skip
        common["evaluation"] = {"teachers": False, "latency": False}
        # The teachers answer once what any of the runs will ask.
        filling = {"name": f"{name}-store", "output_dir": str(output / name / "store")}
        cache(
            checked({**common, "run": filling, "teachers": teachers, "losses": ALL_LOSSES}), ui=ui
        )
        for recipe, parts in RECIPES.items():
            chosen = parts.get("teachers", "all")
            used = {} if chosen is None else teachers if chosen == "all" else {best: teachers[best]}
            values = []
            for seed in options.seeds:
                folder = output / name / f"{recipe.replace(' ', '-')}-seed{seed}"
                metrics = finished(
                    {
                        **common,
                        "run": {"name": f"{name}-{recipe.replace(' ', '-')}", "seed": seed, "output_dir": str(folder)},
                        "teachers": used,
                        "losses": parts["losses"],
                        "ensemble": parts.get("ensemble", {}),
                    },
                    ui,
                )  # fmt: skip
                values.append(metrics["test/accuracy"])
                _note(results, {"set": name, "recipe": recipe, "seed": seed, "test": values[-1]})
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            each = " ".join(f"{value:.4f}" for value in values)
            table.append([name, recipe, f"{statistics.mean(values):.4f}", f"{spread:.4f}", each])
    ui.table(["set", "recipe", "mean test accuracy", "spread (sd)", "each seed"], table)


def _note(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--output", default="outputs/recipes")
    given = parser.parse_args()
    sys.exit(run(lambda: main(given)))
