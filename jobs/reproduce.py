"""A system rebuilt, with its rival, in one command: python jobs/reproduce.py NAME [--seeds 0 1 2] [--output DIR].

Teaches the teachers, then runs the student alone and distilled once a seed, and writes what came out
beside the configuration, as jobs/configs/CONFIG.md. What is finished already is not repeated, what was
interrupted goes on. Data and encoders lie in data/ and models/, as the configurations say.
"""

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from compare import over_seeds, spread_of
from derived import derive

from raydistill.cli import run
from raydistill.config import load_config
from raydistill.errors import ConfigError, Fault
from raydistill.output import OutputFolder
from raydistill.teach import teach
from raydistill.ui import Ui

CONFIGS = Path("jobs/configs")
SLIPS = [
    "test/accuracy",
    *(f"test/perturbed/{name}/accuracy" for name in ("typos", "deletions", "swaps", "synonyms")),
]
WORDNET = (
    "data/wordnet/data.noun",
    "WordNet's files: /usr/share/wordnet of Debian's wordnet-base, or corpora/wordnet of nltk",
)


@dataclass(frozen=True)
class System:
    """What is run for one system.

    Attributes:
        title: Of its report.
        teachers: Configurations of `raydistill teach`, in order.
        rivals: What it is compared with, by what it is called.
        distilled: The system; its report lies beside it.
        called: What it is called in the report.
        metrics: What is compared.
        derived: A data set that is made first, and its folder.
        needs: Files beside data sets and encoders, and where to get them.
    """

    title: str
    teachers: Sequence[str]
    rivals: Mapping[str, str]
    distilled: str
    metrics: Sequence[str]
    called: str = "distilled"
    derived: tuple[str, str] | None = None
    needs: Sequence[tuple[str, str]] = ()


SYSTEMS = {
    "tnews5": System(
        "Chinese headlines, a BiLSTM from a fine-tuned encoder",
        ["tnews5_teacher"],
        {"student alone": "tnews5_bilstm_alone"},
        "tnews5_bilstm",
        ["test/accuracy", "test/macro_f1"],
    ),
    "wnut17": System(
        "Names in tweets, BERT-tiny from teachers of two tokenizers",
        ["wnut17_teacher", "wnut17_teacher_e5"],
        {"student alone": "wnut17_alone"},
        "wnut17_student",
        ["test/f1", "test/precision", "test/recall"],
        derived=("wnut17-more", "outputs/wnut17/rows"),
    ),
    "scifact_rerank": System(
        "Reranking scientific claims, BERT-tiny from a cross-encoder",
        ["scifact_rerank_teacher"],
        {"student alone": "scifact_rerank_alone"},
        "scifact_rerank",
        ["test/ndcg_at_10", "test/mrr_at_10", "test/first_stage/ndcg_at_10"],
    ),
    "scifact_retrieval": System(
        "Retrieving scientific abstracts, BERT-tiny from all-MiniLM-L6-v2 as it is",
        [],
        {"student alone": "scifact_retrieval_alone"},
        "scifact_retrieval",
        ["test/corpus/ndcg_at_10", "test/corpus/recall_at_100", "test/ndcg_at_10"],
    ),
    "cmrc_passages": System(
        "Retrieving Chinese passages, two blocks of multilingual-e5-small from the whole encoder as it is",
        [],
        {"student alone": "cmrc_passages_alone"},
        "cmrc_passages",
        ["test/ndcg_at_10", "test/mrr_at_10", "test/first_stage/ndcg_at_10"],
    ),
    "squad": System(
        "Questions about encyclopedia articles, BERT-tiny from MiniLM",
        ["squad_teacher"],
        {"student alone": "squad_alone"},
        "squad_student",
        ["test/f1", "test/exact_match"],
    ),
    "cmrc": System(
        "Questions about Chinese articles, three blocks of multilingual-e5-small",
        ["cmrc_teacher"],
        {"student alone": "cmrc_alone"},
        "cmrc_student",
        ["test/f1", "test/exact_match"],
    ),
    "mr_adversarial": System(
        "Film reviews with slips, BERT-tiny with examples made against it, or with soft labels of augmented rows",
        ["mr_teacher_l6", "mr_teacher_sre"],
        {
            "student alone": "mr_alone",
            "distilled, rows as they are": "mr_two_teachers",
            "distilled, rows augmented, soft labels": "mr_soft_label",
        },
        "mr_adversarial",
        SLIPS,
        called="distilled, adversarial examples",
        needs=(WORDNET,),
    ),
    "mr_robust": System(
        "Film reviews with slips, BERT-tiny with augmented rows",
        ["mr_teacher_l6", "mr_teacher_sre"],
        {
            "student alone": "mr_alone",
            "distilled, rows as they are": "mr_two_teachers",
        },
        "mr_robust",
        SLIPS,
        called="distilled, rows augmented",
        needs=(WORDNET,),
    ),
    "mr": System(
        "Film reviews, BERT-tiny from two teachers, logits and features",
        ["mr_teacher_l6", "mr_teacher_sre"],
        {"student alone": "mr_alone"},
        "mr_two_teachers",
        ["test/accuracy", "test/macro_f1"],
        needs=(WORDNET,),
    ),
    "wnut17_types": System(
        "Kinds of names in tweets, several labels a row",
        ["wnut17_types_teacher"],
        {"student alone": "wnut17_types_alone"},
        "wnut17_types",
        ["test/micro_f1", "test/macro_f1", "test/mean_average_precision"],
        derived=("wnut17-types", "outputs/wnut17-types/rows"),
    ),
    "mr_score": System(
        "Sentiment of film reviews as a number",
        ["mr_score_teacher"],
        {"student alone": "mr_score_alone"},
        "mr_score",
        ["test/rmse", "test/pearson", "test/spearman"],
        derived=("mr-score", "outputs/mr-score/rows"),
    ),
    "tasks": System(
        "Two tasks in one student",
        ["mr_teacher_sre", "snli_teacher"],
        {"student alone": "tasks_reviews_snli_alone"},
        "tasks_reviews_snli",
        ["test/mean", "reviews/test/accuracy", "snli/test/accuracy"],
    ),
}


def taught(name: str, ui: Ui) -> None:
    """Fine-tune a teacher, unless that is done."""
    config = load_config(CONFIGS / f"{name}.yaml")
    folder = OutputFolder.of(config)
    if folder.finished() is None:
        ui.say(f"— {name}")
        teach(config, resume=folder.read_manifest() is not None, ui=ui)


def reproduce(options: argparse.Namespace) -> None:
    """Teachers, students, report."""
    ui, system = Ui(), SYSTEMS[options.system]
    if missing := [(file, what) for file, what in system.needs if not Path(file).is_file()]:
        raise ConfigError([Fault(file, f"must be there: {what}.") for file, what in missing])
    if system.derived is not None:
        name, folder = system.derived
        derive(name, Path(folder))
    for name in system.teachers:
        taught(name, ui)
    students = {**system.rivals, system.called: system.distilled}
    results = {
        called: over_seeds(
            str(CONFIGS / f"{name}.yaml"),
            options.seeds,
            output=Path(options.output),
            ui=ui,
        )
        for called, name in students.items()
    }
    page = report_of(options.system, system, results, options.seeds)
    target = CONFIGS / f"{system.distilled}.md"
    target.write_text(page, "utf-8")
    ui.say(page)
    ui.say(f"written: {target}")


def report_of(
    name: str,
    system: System,
    results: Mapping[str, Sequence[Mapping[str, float]]],
    seeds: Sequence[int],
) -> str:
    """The page: means with their spread, each seed, and what the teachers reach."""
    there = [
        m for m in system.metrics if all(m in one for some in results.values() for one in some)
    ]
    lines = [
        f"# {system.title}",
        "",
        f"`python jobs/reproduce.py {name}` ran {system.distilled}.yaml"
        f" beside {', '.join(f'{one}.yaml' for one in system.rivals.values())};"
        f" mean and standard deviation over seeds {', '.join(map(str, seeds))}.",
        "",
        f"| | {' | '.join(there)} |",
        f"|---|{'---|' * len(there)}",
    ]
    for called, some in results.items():
        cells = [_mean_cell([one[metric] for one in some]) for metric in there]
        lines.append(f"| {called} | {' | '.join(cells)} |")
    last = list(results.values())[-1][0]
    for teacher in sorted({t for key in last if (t := _teacher_in(key)) is not None}):
        cells = [_cell(last.get(_of_teacher(metric, teacher))) for metric in there]
        if any(cells):
            lines.append(f"| teacher {teacher} | {' | '.join(cells)} |")
    lines += ["", f"| {there[0]} | {' | '.join(f'seed {seed}' for seed in seeds)} |"]
    lines.append(f"|---|{'---|' * len(seeds)}")
    for called, some in results.items():
        lines.append(f"| {called} | {' | '.join(_cell(one[there[0]]) for one in some)} |")
    rates = [one["train/samples_per_s"] for one in results[next(reversed(results))]]
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "ray"))
    lines += [
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPU cores, Python {platform.python_version()}, {packages}."
        f" The distilled student saw {statistics.median(rates):.0f} rows a second.",
        "",
    ]
    return "\n".join(lines)


def _teacher_in(key: str) -> str | None:
    _, found, rest = key.partition("/teachers/")
    return rest.split("/")[0] if found else None


def _of_teacher(metric: str, teacher: str) -> str:
    return metric.replace("test/", f"test/teachers/{teacher}/", 1)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _mean_cell(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {spread_of(values):.4f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", default="outputs/reproduce")
    given = parser.parse_args()
    sys.exit(run(lambda: reproduce(given)))
