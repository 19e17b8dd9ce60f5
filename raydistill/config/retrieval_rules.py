"""Rules of retrieval, and of settings that only models which embed texts read."""

from typing import TYPE_CHECKING, Any

from raydistill.config.losses import CustomLoss, EmbeddingLoss, FeatureLoss
from raydistill.config.rules import block_queries
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["retrieval_faults"]

_OF_STUDENTS = ("pooling", "normalize", "prompts")
_OF_TEACHERS = (*_OF_STUDENTS, "similarity")
_USUAL = {"layers": "last", "positions": "mean"}


def retrieval_faults(config: "DistillConfig") -> list[Fault]:
    """What does not fit models that embed texts, or fits no other task."""
    if config.task.kind != "retrieval":
        return _elsewhere(config)
    faults = [*_teacher_faults(config), *_student_faults(config), *_block_faults(config)]
    for index, loss in enumerate(config.losses):
        faults += _loss_faults(f"losses.{index}", loss)
    if config.evaluation.retrieval == "corpus" and not (config.data.corpus or config.data.folder):
        path = "evaluation.retrieval"
        message = "is corpus, but there is no data.corpus to find passages in."
        faults.append(Fault(path, message, rests_on=(path, "data.corpus", "data.folder")))
    return faults


def _elsewhere(config: "DistillConfig") -> list[Fault]:
    """Settings that no other task reads."""
    written = [
        f"student.{name}" for name in _OF_STUDENTS if getattr(config.student, name) is not None
    ]
    for teacher, section in config.teachers.items():
        names = [name for name in _OF_TEACHERS if getattr(section, name) is not None]
        names += ["encodes"] if section.encodes != "auto" else []
        written += [f"teachers.{teacher}.{name}" for name in names]
    for index, loss in enumerate(config.losses):
        if isinstance(loss, EmbeddingLoss) and loss.texts != "both":
            written.append(f"losses.{index}.texts")
        if loss.kind == "score_kl" and loss.among == "block":
            written.append(f"losses.{index}.among")
    written += ["evaluation.retrieval"] if config.evaluation.retrieval != "candidates" else []
    return [
        Fault(
            path,
            f"has no effect: it is for task.kind: retrieval, got {config.task.kind}. Remove it.",
            rests_on=(path, "task.kind"),
        )
        for path in written
    ]


def _teacher_faults(config: "DistillConfig") -> list[Fault]:
    return [
        Fault(
            f"teachers.{name}.{setting}",
            f"has no effect with teachers.{name}.encodes: pairs, which embeds nothing. Remove one.",
            rests_on=(f"teachers.{name}.{setting}", f"teachers.{name}.encodes"),
        )
        for name, section in config.teachers.items()
        for setting in _OF_TEACHERS
        if section.encodes == "pairs" and getattr(section, setting) is not None
    ]


def _student_faults(config: "DistillConfig") -> list[Fault]:
    faults, student = [], config.student
    if student.network is not None:
        path = "student.network" if student.preset is None else "student.preset"
        message = "must be left out with task.kind: retrieval, whose student is a transformer. Use model, from_teacher or from_config."
        faults.append(Fault(path, message, rests_on=(path, "student.network", "task.kind")))
    if config.training.sharding == "full":
        path = "training.sharding"
        faults.append(
            Fault(path, "must be none with task.kind: retrieval.", rests_on=(path, "task.kind"))
        )
    return faults


def _loss_faults(base: str, loss: Any) -> list[Fault]:
    """Terms on what is inside: rows are pairs, but states are of single texts."""
    if isinstance(loss, EmbeddingLoss):
        return [
            Fault(
                f"{base}.{name}",
                "must be left out with task.kind: retrieval, where the embeddings themselves are compared.",
                rests_on=(f"{base}.{name}", "task.kind"),
            )
            for name, usual in _USUAL.items()
            if getattr(loss, name) != usual
        ]
    inside = isinstance(loss, FeatureLoss)
    if inside or (isinstance(loss, CustomLoss) and loss.needs == "hidden"):
        message = (
            f"is {loss.kind}, which compares states of a row, but with task.kind: retrieval a row is two texts. Use "
            "embedding_cos, embedding_mse or embedding_l2."
        )
        return [Fault(f"{base}.kind", message, rests_on=(base, "task.kind"), doubts=(base,))]
    return []


def _block_faults(config: "DistillConfig") -> list[Fault]:
    """Steps and forward passes are made of whole blocks, if a term sees them."""
    training, block = config.training, block_queries(config)
    size, faults = block * training.group_rows, []
    if block == 1:
        return []
    micro, path = training.micro_batch_rows, "training.micro_batch_rows"
    basis = ("training.block_queries", "training.group_rows")
    if micro is not None and micro % size and micro % training.group_rows == 0:
        message = (
            f"must be a multiple of {size}, the {block} queries of a block (training.block_queries) times "
            f"training.group_rows = {training.group_rows}, got {micro}."
        )
        faults.append(Fault(path, message, rests_on=(path, *basis)))
    blocks = -(-(training.batch_rows // training.group_rows) // block)
    if training.num_workers > blocks:
        path = "training.num_workers"
        message = (
            f"must not exceed the {blocks} blocks of a step ({block} queries each, training.block_queries), got "
            f"{training.num_workers}."
        )
        faults.append(Fault(path, message, rests_on=(path, "training.batch_rows", *basis)))
    return faults
