"""The whole configuration, and the rules that hold between its sections."""

from pydantic import Field

from raydistill.config.base import Section
from raydistill.config.data import DataSection, TaskSection, TextClassificationTask
from raydistill.config.losses import (
    CrossEntropyLoss,
    HiddenMSELoss,
    LossSection,
)
from raydistill.config.models import EnsembleSection, StudentSection, TeacherName, TeacherSection
from raydistill.config.training import (
    EvaluationSection,
    PipelineSection,
    RunSection,
    TrackingSection,
    TrainingSection,
)
from raydistill.errors import Fault

__all__ = ["DistillConfig", "cross_faults"]


class DistillConfig(Section):
    """One run of raydistill, complete and immutable."""

    run: RunSection
    data: DataSection
    task: TaskSection = TextClassificationTask()
    student: StudentSection
    teachers: dict[TeacherName, TeacherSection] = {}
    """By name. None: the student is trained on hard labels alone."""
    ensemble: EnsembleSection = EnsembleSection()
    losses: list[LossSection] = Field(min_length=1)
    """Terms of the sum that is minimised."""
    pipeline: PipelineSection = PipelineSection()
    training: TrainingSection = TrainingSection()
    tracking: TrackingSection = TrackingSection()
    evaluation: EvaluationSection = EvaluationSection()


def cross_faults(config: DistillConfig) -> list[Fault]:
    """Rules between sections that need nothing but the configuration itself."""
    faults: list[Fault] = []
    names = sorted(config.teachers)
    known = f"Known: {', '.join(names)}." if names else "There are no teachers."

    def unknown_teacher(path: str, name: str) -> None:
        if name not in config.teachers:
            faults.append(
                Fault(path, f"names the teacher '{name}', which is not under teachers. {known}")
            )

    if config.student.from_teacher is not None:
        unknown_teacher("student.from_teacher.teacher", config.student.from_teacher.teacher)
    if config.student.from_config is not None and config.student.tokenizer is None:
        faults.append(
            Fault(
                "student.tokenizer",
                "is needed with student.from_config: new weights have no vocabulary of their own. Name a model or folder whose tokenizer to use.",
            )
        )
    for name in config.ensemble.weights:
        unknown_teacher(f"ensemble.weights.{name}", name)
    soft = [i for i, loss in enumerate(config.losses) if not isinstance(loss, CrossEntropyLoss)]
    for i, loss in enumerate(config.losses):
        if not isinstance(loss, CrossEntropyLoss) and not config.teachers:
            faults.append(
                Fault(
                    f"losses.{i}",
                    f"is {loss.kind}, which needs a teacher, but there is none under teachers.",
                )
            )
        if isinstance(loss, HiddenMSELoss) and isinstance(loss.layers, dict):
            for name in loss.layers:
                unknown_teacher(f"losses.{i}.layers.{name}", name)
    if config.teachers and not soft:
        faults.append(
            Fault(
                "teachers",
                "are given, but no term of losses uses them. Add e.g. {kind: forward_kl}, or remove the teachers.",
            )
        )
    if all(loss.weight == 0 for loss in config.losses):
        faults.append(Fault("losses", "have weight 0 throughout: nothing would be trained."))
    if config.data.unlabelled is not None and not soft:
        faults.append(
            Fault(
                "data.unlabelled",
                "has no effect: only cross_entropy is minimised, and it does not count rows without a label. Add a loss with teachers, or remove it.",
            )
        )
    if config.data.folder is None and config.data.train is None and config.data.unlabelled is None:
        faults.append(Fault("data", "names no rows to train on: give folder, train or unlabelled."))
    training = config.training
    if training.micro_batch_rows is not None and training.micro_batch_rows > training.batch_rows:
        faults.append(
            Fault(
                "training.micro_batch_rows",
                f"must not exceed training.batch_rows = {training.batch_rows}, got {training.micro_batch_rows}.",
            )
        )
    if training.num_workers > training.batch_rows:
        faults.append(
            Fault(
                "training.num_workers",
                f"must not exceed training.batch_rows = {training.batch_rows}: the global batch is divided among them, got {training.num_workers}.",
            )
        )
    return faults
