"""Wraps a Hugging Face folder as an MLflow model that runs anywhere, without raydistill."""

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.errors import TrackingError
from raydistill.tracking.connection import prepare_mlflow, quiet

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

__all__ = ["save_model_folder"]

_REQUIREMENTS = ("mlflow", "pandas", "safetensors", "tokenizers", "torch", "transformers")
_SCRIPTS = {
    "tagging": "serving_words.py",
    "question_answering": "serving_answers.py",
    "retrieval": "serving_embeddings.py",
}
_MAX_LENGTH = 512  # where a tokenizer does not know its limit, it says 10^30
_MAX_BELIEVED = 1_000_000


def save_model_folder(
    student_dir: Path,
    out_dir: Path,
    *,
    task_kind: str,
    labels: Sequence[str],
    text_columns: Sequence[str],
    example: Mapping[str, Any],
    answering: Mapping[str, Any] | None = None,
) -> Path:
    """Writes an MLflow model directory around a student. An older one is replaced.

    Args:
        student_dir: With ``config.json``, ``*.safetensors`` and the tokenizer.
        out_dir: Made; copied files and weights go into it.
        task_kind: What it answers, see ``serving.py``, ``serving_words.py``, ``serving_answers.py`` and
            ``serving_embeddings.py``; kept in the model's metadata.
        labels: In the order of the outputs.
        text_columns: One column, or two that the model reads as a pair; one of lists of words, for tagging.
        example: One row, by column; stored as the input example.
        answering: How answers are found, if that is what it does.

    Returns:
        ``out_dir``.

    Raises:
        TrackingError: ``student_dir`` is not such a folder, or the columns do not fit.
    """
    # What embeds texts has no outputs to be named.
    named = None if task_kind == "retrieval" else labels
    _require_fitting(student_dir, named, text_columns, example)
    prepare_mlflow()
    import mlflow.pyfunc
    import pandas as pd

    settings = {
        "task_kind": task_kind,
        "labels": list(labels),
        "text_columns": list(text_columns),
        "max_length": _max_length(student_dir),
        **(answering or {}),
    }
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=".model-") as home, quiet():
        settings_file = Path(home) / "settings.json"
        settings_file.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
        draft = Path(home) / "draft"
        # MLflow runs the script once, to see what it defines; the module's name is nobody else's.
        mlflow.pyfunc.save_model(
            path=str(draft),
            python_model=str(Path(__file__).with_name(_SCRIPTS.get(task_kind, "serving.py"))),
            artifacts={"student": str(student_dir.resolve()), "settings": str(settings_file)},
            signature=_signature(task_kind, labels, text_columns),
            input_example=pd.DataFrame([{name: example[name] for name in text_columns}]),
            pip_requirements=_requirements(*_REQUIREMENTS, *(("regex",) if answering else ())),
            metadata={"raydistill": settings},
        )
        if out_dir.exists():
            shutil.rmtree(out_dir)
        draft.rename(out_dir)
    return out_dir


def _requirements(*names: str) -> list[str]:
    """What is installed here, without the part behind + that names a build: PyPI has no 2.13.0+cpu of torch."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


def _signature(
    task_kind: str, labels: Sequence[str], text_columns: Sequence[str]
) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    if task_kind == "question_answering":
        kinds = {"answer": DataType.string, "score": DataType.double}
        places = {"start": DataType.long, "end": DataType.long}
        return ModelSignature(
            Schema([ColSpec(DataType.string, name) for name in text_columns]),
            Schema([ColSpec(kind, name) for name, kind in (kinds | places).items()]),
        )
    if task_kind == "tagging":
        return _words_signature(text_columns[0])
    if task_kind == "retrieval":  # a query, a passage, or both; a text of no name is a passage
        columns = [ColSpec(DataType.string, name, required=False) for name in text_columns]
        columns.append(ColSpec(DataType.string, "text", required=False))
        answers = [ColSpec(Array(DataType.double), "embedding", required=False)]
        answers.append(ColSpec(DataType.double, "score", required=False))
        return ModelSignature(Schema(columns), Schema(answers))
    # A single column has no name here, because with one MLflow refuses a plain list of texts. The
    # serving code looks at the name again where there is one.
    inputs = (
        [ColSpec(DataType.string)]
        if len(text_columns) == 1
        else [ColSpec(DataType.string, name) for name in text_columns]
    )
    outputs = [
        ColSpec(DataType.string, "label"),
        ColSpec(DataType.double, "score"),
        ColSpec(Array(DataType.double), "scores"),
    ]
    if task_kind == "multi_label_classification":
        outputs = [ColSpec(Array(DataType.string), "labels"), outputs[-1]]
    if task_kind in ("regression", "reranking"):
        outputs = [ColSpec(DataType.double, name) for name in labels]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _words_signature(column: str) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Array, Object, Property

    number, text = DataType.long, DataType.string
    kinds = {"type": text, "begin": number, "end": number, "text": text}
    span = Object([Property(name, kind) for name, kind in kinds.items()])
    outputs = [
        ColSpec(Array(text), "words"),
        ColSpec(Array(text), "tags"),
        ColSpec(Array(DataType.double), "scores"),
        ColSpec(Array(span), "spans"),
    ]
    # A row may be a list of words or a text. The column has a name: of rows without one, MLflow would take
    # the first word of each and drop the others.
    return ModelSignature(Schema([ColSpec(AnyType(), column)]), Schema(outputs))


def _max_length(student_dir: Path) -> int:
    """The tokenizer's limit, bounded by the positions that the model has."""
    limits = []
    for file, name in (
        ("tokenizer_config.json", "model_max_length"),
        ("config.json", "max_position_embeddings"),
    ):
        try:
            value = json.loads((student_dir / file).read_text(encoding="utf-8")).get(name)
        except FileNotFoundError:
            continue
        if isinstance(value, int | float) and 0 < value <= _MAX_BELIEVED:
            limits.append(int(value))
    return min(limits, default=_MAX_LENGTH)


def _require_fitting(
    student_dir: Path,
    labels: Sequence[str] | None,
    text_columns: Sequence[str],
    example: Mapping[str, Any],
) -> None:
    if not (student_dir / "config.json").is_file() or not list(student_dir.glob("*.safetensors")):
        raise TrackingError(
            f"{student_dir} is not a model's folder: config.json or weights are missing."
        )
    if len(text_columns) not in {1, 2}:
        raise TrackingError(f"a model reads one or two text columns, got {len(text_columns)}.")
    if missing := [name for name in text_columns if name not in example]:
        raise TrackingError(f"the example lacks {', '.join(missing)}.")
    if labels is None:
        return
    config = json.loads((student_dir / "config.json").read_text(encoding="utf-8"))
    outputs = len(config.get("id2label", labels))
    if outputs != len(labels):
        raise TrackingError(
            f"{student_dir} has {outputs} outputs, but {len(labels)} labels are named."
        )
