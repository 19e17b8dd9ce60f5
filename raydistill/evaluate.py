"""Metrics of any one model on a split, in this process."""

from raydistill.alignment import in_outputs, output_columns
from raydistill.config import DistillConfig
from raydistill.config.ranking import SCORE, RetrievalTask
from raydistill.config.task import EXCLUSIVE, HEADS, Head
from raydistill.errors import ConfigError
from raydistill.evaluation.evaluator import metrics_of, predict
from raydistill.final import as_teacher, found_in
from raydistill.losses import PairScorer
from raydistill.models import EmbedderSpec, ModelSource, load_tokenizer, read_traits
from raydistill.models.embedding_files import read_embedder
from raydistill.prepare import perturbed, plan_operations
from raydistill.prepare.embedders import embeds, scorer_of
from raydistill.prepare.prepare import load_data
from raydistill.prepare.sources import head_faults, meaning_faults, resolve_source
from raydistill.tasks import task_of
from raydistill.teachers.teacher import LocalTeacher, TeacherSettings
from raydistill.ui import Ui

__all__ = ["evaluate_model"]


def evaluate_model(config: DistillConfig, model: str, split: str, ui: Ui) -> dict[str, float]:
    """Load a model as any frozen one and measure it.

    Args:
        config: Whose data, task and cut of long texts are used.
        model: Folder, Hugging Face id, or registry URI.
        split: Of the data.
        ui: Where progress goes.

    Raises:
        ConfigError: The split or the model is not there, its labels are others, or perturbations cannot be made.
    """
    import torch

    splits = load_data(config)
    if split not in splits:
        raise ConfigError.of("--split", f"must be one of {', '.join(splits)}, got '{split}'.")
    if splits[split].stream is not None:
        raise ConfigError.of(
            "--split", f"must be a split that is read as a whole, {split} is streamed."
        )
    labels = splits["train"].labels
    source = resolve_source("--model", model, tracking_uri=config.tracking.uri)
    traits = read_traits("--model", source)
    kind = config.task.kind
    head, embedder, scorer = _encoding(config, source)
    known_labels = (SCORE,) if embedder is not None else traits.labels
    if wrong := head_faults("--model", source, head) or meaning_faults("--model", traits, kind):
        raise ConfigError(wrong)
    try:
        alone = kind not in EXCLUSIVE
        columns = output_columns(kind, known_labels, labels, partial=alone)
    except ValueError as error:
        raise ConfigError.of("--model", str(error)) from None
    own = config.model_copy(update={"augmentation": None})  # nothing is trained
    operations = plan_operations(own, lambda: load_tokenizer(source).mask_token)
    copies = perturbed(own, operations, splits[split].table)
    use_gpu = torch.cuda.is_available()
    loaded = LocalTeacher(
        TeacherSettings(
            name=model,
            source=source,
            dtype="float32",
            max_tokens=config.student.max_tokens,
            batch_rows=config.evaluation.batch_rows,
            num_threads=torch.get_num_threads(),
            use_gpu=use_gpu,
            head=head,
            embedder=embedder,
        )
    )
    asked = as_teacher(loaded, scorer)
    task = task_of(kind, splits[split].table, labels)
    with ui.doing(f"measuring {model} on {task.num_rows:,} rows"):
        logits = predict(asked, task, config.evaluation.batch_rows)
    unknown = [label for label, column in zip(labels, columns, strict=True) if column < 0]
    if unknown:
        ui.say(f"{model} does not know {', '.join(unknown)}; measured on the other labels")
    known = columns if unknown else ()
    metrics = metrics_of(in_outputs(kind, logits, columns), task, split, known)
    corpus = splits[split].corpus
    if corpus is not None:
        with ui.doing(f"looking among {len(corpus):,} passages"):
            metrics |= found_in(corpus.to_pylist(), asked, task, split)
    for name, table in copies.items():
        changed = task_of(kind, table, labels)
        with ui.doing(f"measuring {model} on {name}"):
            logits = predict(asked, changed, config.evaluation.batch_rows)
        metrics |= metrics_of(
            in_outputs(kind, logits, columns), changed, f"{split}/perturbed/{name}", known
        )
    return metrics


def _encoding(
    config: DistillConfig, source: ModelSource
) -> tuple[Head, EmbedderSpec | None, PairScorer | None]:
    """What a model gives outputs for; of retrieval pairs, or texts that it embeds as its folder says.

    Raises:
        ConfigError: It embeds in a way that is not known.
    """
    if not isinstance(config.task, RetrievalTask):
        return HEADS[config.task.kind], None, None
    if not embeds(source):
        return "texts", None, None
    try:
        spec, _ = read_embedder(source)
    except ValueError as error:
        raise ConfigError.of("--model", f"{error}.") from None
    return "embeddings", spec, scorer_of(config.task, spec)
