"""README.md of a student's folder: a model card as Hugging Face reads it, written from the run.

It tells what is known and nothing else: no dates and no times, so that equal runs leave equal cards, as far as the
hub answers alike about terms of use; and no path of this machine beyond a folder's and a file's name.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill.config.task import HEADS, METRICS, RANKED, Head, TaskKind
from raydistill.evaluation.table import format_bytes, format_count, format_ms, format_score, number
from raydistill.figures import Figures
from raydistill.models import ModelSource
from raydistill.models.exported import ExportRecord
from raydistill.models.licences import Licences
from raydistill.models.pieces import word_prefix
from raydistill.output import OutputFolder, write_atomically
from raydistill.prepare import Prepared
from raydistill.subjects import Rows
from raydistill.teachers.protocol import TeacherDescription
from raydistill.training.student import make_tokenizer
from raydistill.version import __version__

__all__ = ["export_card", "write_card"]

NOT_STATED = "not stated"
_CARD = "README.md"
_PIPELINES: Mapping[TaskKind, str] = {
    "text_classification": "text-classification",
    "multi_label_classification": "text-classification",
    "regression": "text-classification",
    "tagging": "token-classification",
    "reranking": "text-ranking",
    "question_answering": "question-answering",
    "retrieval": "sentence-similarity",
}
_CLASSES: Mapping[Head, str] = {
    "texts": "AutoModelForSequenceClassification",
    "words": "AutoModelForTokenClassification",
    "spans": "AutoModelForQuestionAnswering",
}
_OF_WORDS = "  # of pieces: a word's tag is that of its first one, see inputs.word_ids()"
_ANSWERS: Mapping[Head, str] = {
    "texts": "logits = model(**inputs).logits",
    "words": f"logits = model(**inputs).logits{_OF_WORDS}",
    "spans": "outputs = model(**inputs)\nstart_logits, end_logits = outputs.start_logits, outputs.end_logits",
}


@dataclass(frozen=True)
class _Terms:
    """What is stated; None: nothing.

    Attributes:
        start: Of the weights that the student began with.
        teachers: Of each.
        data: Of the rows.
    """

    start: str | None
    teachers: Mapping[str, str | None]
    data: str | None

    @classmethod
    def of(cls, prepared: Prepared, start: ModelSource | None, teachers: Iterable[str]) -> "_Terms":
        licences, data = Licences(), prepared.config.data
        of_rows = None
        if data.dataset is not None:
            of_rows = licences.of_data(data.dataset, data.revision)
        elif data.folder is not None and Path(data.folder).is_dir():
            of_rows = licences.of_model(Path(data.folder))
        return cls(
            None if start is None else licences.of_model(start),
            {name: licences.of_model(prepared.sources[name]) for name in teachers},
            of_rows,
        )


def write_card(
    folder: OutputFolder,
    prepared: Prepared,
    metrics: Mapping[str, float],
    descriptions: Mapping[str, TeacherDescription],
) -> None:
    """Write the card of a run's student.

    Args:
        folder: Of the run, or of one task of it.
        prepared: The run.
        metrics: As in ``metrics.json``.
        descriptions: Of the teachers.
    """
    from huggingface_hub import EvalResult, ModelCardData

    config, kind = prepared.config, prepared.config.task.kind
    head = HEADS[kind]
    start = prepared.student.source if prepared.student.random_config is None else None
    terms = _Terms.of(prepared, start, descriptions)
    data_name = config.data.dataset or _last(config.data.folder) or _last(_first_origin(prepared))
    splits = [name for name in config.evaluation.splits if name in prepared.splits]
    results = [
        EvalResult(
            task_type=_PIPELINES.get(kind, "other"),
            dataset_type=config.data.dataset or "local",
            dataset_name=data_name or "local",
            dataset_split=split,
            metric_type=metric,
            metric_value=round(metrics[f"{split}/{metric}"], 6),
        )
        for split in splits
        for metric in METRICS[kind]
        if f"{split}/{metric}" in metrics
    ]
    data = ModelCardData(
        model_name=config.run.name,
        library_name="transformers" if head != "embeddings" else "sentence-transformers",
        pipeline_tag=_PIPELINES.get(kind),
        license=terms.start,
        base_model=_hub_id(start),
        datasets=_hub_data(config.data.dataset),
        metrics=list(METRICS[kind]) if results else None,
        tags=[*(["knowledge-distillation"] if descriptions else []), "raydistill"],
        eval_results=results or None,
    )
    parts = [
        f"# {config.run.name}",
        f"A student for {kind.replace('_', ' ')}, distilled by raydistill {__version__} from "
        f"{_number(len(descriptions), 'teacher')}."
        if descriptions
        else f"A model for {kind.replace('_', ' ')}, trained by raydistill {__version__} on labels.",
        *_about_labels(prepared.labels),
        "## How to load",
        _how_to_load(
            folder.student,
            head,
            _row(kind, prepared.splits["train"].table, lambda: make_tokenizer(prepared.student)),
        ),
        "## Figures",
        _figures(prepared, metrics, descriptions, splits),
        "## Data",
        _data(prepared),
        *(["## Teachers", _teachers(prepared, descriptions, terms)] if descriptions else []),
        "## Licence",
        _licences(start, terms),
        "Nothing here was checked: these are the terms that configurations and cards beside models and data state.",
    ]
    _write(folder.student, data, parts)


def export_card(
    folder: Path,
    record: ExportRecord,
    rows: Rows,
    figures: Sequence[Figures],
    tokenizer: Any,
) -> None:
    """Write the card of an export.

    Args:
        folder: Of the export.
        record: What it says about itself.
        rows: That figures are of.
        figures: Of the model in torch first, then of its exports.
        tokenizer: Of the model.
    """
    from huggingface_hub import ModelCardData

    kind = rows.kind
    if kind == "retrieval":  # models that embed texts are not exported
        kind = "reranking"
    answers = ""
    if kind == "tagging":
        answers = _OF_WORDS
    elif kind == "question_answering":
        answers = "\nstart_logits, end_logits = logits[..., 0], logits[..., 1]"
    data = ModelCardData(
        library_name="onnx",
        pipeline_tag=_PIPELINES.get(kind),
        tags=["onnx", "raydistill", *(["int8"] if record.form == "int8" else [])],
    )
    metric = METRICS[kind][0]
    lines = [
        [
            one.name,
            format_score(one.metrics.get(metric)),
            format_bytes(one.disk_bytes),
            *(format_ms(one.latency[size].p50) for size in sorted(one.latency)),
        ]
        for one in figures
    ]
    times = [f"p50, {_number(size, 'row')} (ms)" for size in sorted(figures[0].latency)]
    what = "float32" if record.form == "onnx" else "weights of 8 bits, quantised dynamically"
    limit = "" if record.tolerance is None else f"; at most {record.tolerance:g} was allowed"
    parts = [
        f"# {record.source.rpartition('/')[2]} as ONNX",
        f"`{record.source}` ({format_count(record.num_parameters)} parameters) for ONNX Runtime: {what}. Rows and "
        f"tokens are free. Its logits differ from torch's by {record.difference:.1e} of the largest{limit}.",
        _table(["", metric, "on disk", *times], lines),
        f"Measured on {rows.name}, on one machine.",
        "```python\nimport onnxruntime\nfrom transformers import AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        'session = onnxruntime.InferenceSession("FOLDER/model.onnx")\n'
        "wanted = {entry.name for entry in session.get_inputs()}\n"
        f'inputs = tokenizer({_row(kind, rows.split.table, lambda: tokenizer)}, padding=True, return_tensors="np")\n'
        'logits = session.run(["logits"], {k: v for k, v in inputs.items() if k in wanted})[0]'
        f"{answers}\n```",
    ]
    _write(folder, data, parts)


def _write(folder: Path, data: Any, parts: Sequence[str]) -> None:
    body = "\n\n".join(part for part in parts if part)
    write_atomically(folder / _CARD, f"---\n{data.to_yaml()}\n---\n\n{body}\n")


def _about_labels(labels: Sequence[str]) -> list[str]:
    return [f"Outputs, in order: {', '.join(f'`{label}`' for label in labels)}."] if labels else []


def _row(kind: TaskKind, table: pa.Table, tokenizer: Callable[[], Any]) -> str:
    """What a tokenizer is given, so that it makes of a row what the model reads.

    Args:
        kind: Of the task.
        table: Rows of it.
        tokenizer: Gives that of the model.
    """
    if kind == "tagging":
        # As in training: some tokenizers must see the space before a word to cut it as within a text.
        before = word_prefix(tokenizer())
        words = ", ".join(f'"{before}{word}"' for word in ("words", "of", "a", "row"))
        return f"[[{words}]], is_split_into_words=True, truncation=True"
    if kind == "question_answering":
        return '["a question"], ["a context"], truncation="only_second"'
    if kind in RANKED:
        return '["a query"], ["a passage"], truncation=True'
    pair = ', ["its second text"]' if "text_pair" in table.column_names else ""
    return f'["a text"]{pair}, truncation=True'


def _how_to_load(student: Path, head: Head, row: str) -> str:
    settings = json.loads((student / "config.json").read_text(encoding="utf-8"))
    own = ", trust_remote_code=True" if settings.get("auto_map") else ""
    if head == "embeddings":
        return (
            "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
            f'model = SentenceTransformer("FOLDER"{own})\n'
            'queries = model.encode(["a query"], prompt_name="query")\n'
            'passages = model.encode(["a passage"], prompt_name="document")\n'
            "scores = model.similarity(queries, passages)\n```"
        )
    name = _CLASSES[head]
    return (
        f"```python\nfrom transformers import {name}, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        f'model = {name}.from_pretrained("FOLDER"{own})\n'
        f'inputs = tokenizer({row}, padding=True, return_tensors="pt")\n'
        f"{_ANSWERS[head]}\n```"
    )


def _figures(
    prepared: Prepared,
    metrics: Mapping[str, float],
    descriptions: Mapping[str, TeacherDescription],
    splits: Sequence[str],
) -> str:
    """The student on every split; teachers and ensemble where they were measured."""
    names = METRICS[prepared.config.task.kind]
    models = {"student": ""} | {f"teacher {name}": f"/teachers/{name}" for name in descriptions}
    models |= {"teachers together": "/ensemble"} if len(descriptions) > 1 else {}
    rows = []
    for split in splits:
        for model, part in models.items():
            values = [metrics.get(f"{split}{part}/{name}") for name in names]
            if any(value is not None for value in values):
                rows.append([split, model, *(_digits(value) for value in values)])
    if not rows:
        return "Nothing was measured: no row has a label."
    return _table(["split", "model", *names], rows)


def _data(prepared: Prepared) -> str:
    rows = [
        [
            name,
            ", ".join(_last(origin, 2) for origin in split.origins),
            "a stream" if split.num_rows is None else f"{split.num_rows:,}",
            f"`{split.fingerprint[:16]}`",
        ]
        for name, split in prepared.splits.items()
    ]
    return _table(["split", "from", "rows", "fingerprint"], rows)


def _teachers(
    prepared: Prepared, descriptions: Mapping[str, TeacherDescription], terms: _Terms
) -> str:
    rows = []
    for name, said in descriptions.items():
        section = prepared.config.teachers[name]
        revision = f" at {section.revision}" if section.revision else ""
        rows.append(
            [
                name,
                f"`{_named(section.model)}`{revision}",
                format_count(said.num_parameters),
                f"`{said.fingerprint[:16]}`",
                terms.teachers[name] or NOT_STATED,
            ]
        )
    return _table(["name", "model", "parameters", "fingerprint", "licence"], rows)


def _licences(start: ModelSource | None, terms: _Terms) -> str:
    began = "none, they were random"
    if start is not None:
        began = f"`{_named(start.name)}`, {terms.start or NOT_STATED}"
    lines = [f"- The weights the student began with: {began}."]
    lines += [f"- Teacher {name}: {one or NOT_STATED}." for name, one in terms.teachers.items()]
    return "\n".join([*lines, f"- Data: {terms.data or NOT_STATED}."])


def _named(model: str) -> str:
    """Of a folder only its name."""
    return _last(model) if Path(model).expanduser().is_dir() else model


def _last(path: str | None, parts: int = 1) -> str:
    """The end of a path or URI."""
    return "/".join((path or "").rstrip("/").split("/")[-parts:])


def _first_origin(prepared: Prepared) -> str:
    return next(iter(prepared.splits["train"].origins), "")


def _hub_id(source: ModelSource | None) -> str | None:
    local = source is None or Path(source.location).is_dir()
    return None if source is None or local else source.location


def _hub_data(dataset: str | None) -> list[str] | None:
    local = dataset is None or Path(dataset).expanduser().is_dir()
    return None if dataset is None or local else [dataset]


def _digits(value: float | None) -> str:
    return "–" if number(value) is None else f"{value:.4f}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
