"""The whole configuration, and the rules that hold between its sections."""

from typing import Any

from pydantic import Field, model_validator

from raydistill.config.adversarial import AdversarialSection, VATSection
from raydistill.config.augmentation import AugmentationSection
from raydistill.config.augmentation_rules import augmentation_faults
from raydistill.config.base import Section, with_default
from raydistill.config.data import DataSection
from raydistill.config.ensemble import EnsembleSection, ValidationWeighting
from raydistill.config.losses import LossSection
from raydistill.config.models import StudentSection, TeacherName, TeacherSection
from raydistill.config.ranking_rules import ranking_faults
from raydistill.config.retrieval_rules import retrieval_faults
from raydistill.config.rules import objective_faults, with_teachers
from raydistill.config.schedules import BalancingSection, NoBalancing
from raydistill.config.stages import StageSection, stage_faults
from raydistill.config.store import StoreSection
from raydistill.config.students import student_faults
from raydistill.config.task import (
    LABEL_LOSSES,
    METRICS,
    RANKED,
    TaskSection,
    TextClassificationTask,
    selected_by,
)
from raydistill.config.task_rules import task_faults
from raydistill.config.training import (
    EvaluationSection,
    PipelineSection,
    RunSection,
    TrackingSection,
    TrainingSection,
)
from raydistill.config.tuning import TuningSection
from raydistill.errors import Fault

__all__ = ["DistillConfig", "cross_faults", "direct_faults"]


class DistillConfig(Section):
    """One run of raydistill, complete and immutable."""

    run: RunSection
    """The run as a whole."""
    data: DataSection
    """Where rows come from."""
    augmentation: AugmentationSection | None = None
    """Training rows that are made from others. Null: none."""
    task: TaskSection = TextClassificationTask()
    """What is learnt from them."""
    student: StudentSection
    """The model that is trained."""
    teachers: dict[TeacherName, TeacherSection] = {}
    """By name. None: the student is trained on hard labels alone."""
    ensemble: EnsembleSection = EnsembleSection()
    """How several teachers become one soft target."""
    losses: list[LossSection] = Field(min_length=1)
    """Terms of the sum that is minimised."""
    adversarial: AdversarialSection | None = None
    """One more term, on examples made against the student. Null: none."""
    balancing: BalancingSection = NoBalancing(kind="none")
    """How terms of different scale are brought to one."""
    stages: list[StageSection] = []
    """Parts of the run, one after the other, each with its own terms. None: all terms throughout."""
    pipeline: PipelineSection = PipelineSection()
    """How far ahead of the student the teachers are asked."""
    training: TrainingSection = TrainingSection()
    """How the student is trained."""
    store: StoreSection = StoreSection()
    """What is kept of the teachers' answers."""
    tracking: TrackingSection = TrackingSection()
    """What MLflow is told."""
    evaluation: EvaluationSection = EvaluationSection()
    """What is measured at the end."""
    tuning: TuningSection | None = None
    """What `raydistill tune` varies. Null: nothing; other commands do not look at it."""

    @model_validator(mode="before")
    @classmethod
    def _metrics_of_the_task(cls, settings: Any) -> Any:
        """What chooses, where nothing is written: another metric for another kind of task."""
        if not isinstance(settings, dict):
            return settings
        task = settings.get("task")
        kind: Any = task.get("kind") if isinstance(task, dict) else getattr(task, "kind", None)
        if kind not in METRICS:
            return settings
        metric = selected_by(kind)
        if kind in RANKED:
            settings = with_default(settings, "training", "group_rows", 8)
        settings = with_default(settings, "training", "select_by", metric)
        return with_default(settings, "tracking", "champion_metric", metric)

    @property
    def scored_by(self) -> str:
        """The metric that teachers are scored by, where they are."""
        weighting = self.ensemble.weighting
        written = weighting.metric if isinstance(weighting, ValidationWeighting) else None
        return written or METRICS[self.task.kind][0]

    @property
    def measures_teachers(self) -> bool:
        """Whether teachers are scored on the validation rows before training."""
        weighting = self.ensemble.weighting
        by_score = isinstance(weighting, ValidationWeighting) and weighting.scores is None
        return by_score and len(self.teachers) > 1


def cross_faults(config: DistillConfig) -> list[Fault]:
    """Rules between settings that need nothing but the configuration itself."""
    return [
        *_data_faults(config),
        *augmentation_faults(config),
        *task_faults(config),
        *ranking_faults(config),
        *retrieval_faults(config),
        *student_faults(config),
        *_teacher_faults(config),
        *objective_faults(config),
        *stage_faults(config),
        *_adversarial_faults(config),
        *_training_faults(config),
    ]


def _adversarial_faults(config: DistillConfig) -> list[Fault]:
    section, faults = config.adversarial, []
    if section is None:
        return []
    own = isinstance(section, VATSection)
    if not isinstance(section, VATSection) and section.against == "teachers" and not config.teachers:  # fmt: skip
        faults.append(
            Fault(
                "adversarial.against",
                "is teachers, but there is none under teachers. Write against: labels, or use kind: vat.",
                rests_on=("adversarial", "teachers"),
            )
        )
    softened = own or getattr(section, "against", "") == "teachers"
    if section.temperature != 1 and (not softened or config.task.kind == "regression"):
        why = (
            "task.kind is regression: numbers are not softened"
            if softened
            else "it is against labels"
        )
        faults.append(
            Fault(
                "adversarial.temperature",
                f"must be 1: {why}.",
                rests_on=("adversarial", "task.kind"),
            )
        )
    if config.training.sharding == "full":
        faults.append(
            Fault(
                "training.sharding",
                "must be none with an adversarial term, whose inner passes do not gather shards.",
                rests_on=("training.sharding", "adversarial"),
            )
        )
    return faults


def _data_faults(config: DistillConfig) -> list[Fault]:
    faults = []
    data = config.data
    if data.folder is None and data.dataset is None and data.train is None:
        faults.append(
            Fault(
                "data",
                "names no rows to train on: give folder, dataset or train.",
                rests_on=("data.folder", "data.dataset", "data.train"),
            )
        )
    if data.folder is not None and data.dataset is not None:
        faults.append(
            Fault(
                "data.folder",
                "must be left out with data.dataset: each would give the same splits.",
                rests_on=("data.folder", "data.dataset"),
            )
        )
    faults += [
        Fault(
            f"data.{name}",
            "has no effect without data.dataset. Add that, or remove it.",
            rests_on=(f"data.{name}", "data.dataset"),
        )
        for name in ("config", "revision", "splits")
        if data.dataset is None and getattr(data, name)
    ]
    if data.streaming:
        faults += _streaming_faults(config)
    if config.data.unlabelled is not None and not with_teachers(config):
        faults.append(
            Fault(
                "data.unlabelled",
                f"has no effect: only {LABEL_LOSSES[config.task.kind]} is minimised, and it does not count rows without a label. Add a loss with teachers, or remove it.",
                rests_on=("data.unlabelled", "losses"),
            )
        )
    return faults


def _streaming_faults(config: DistillConfig) -> list[Fault]:
    """What is only possible where rows are counted."""
    faults = []
    if config.training.max_steps is None:
        faults.append(
            Fault(
                "training.max_steps",
                "is needed with data.streaming: the rows are not counted, so no number of epochs has an end.",
                rests_on=("training.max_steps", "data.streaming"),
            )
        )
    network = config.student.network
    if network is not None and network.embeddings.kind in ("words", "vectors"):
        path = "student.network.embeddings.kind"
        faults.append(
            Fault(
                path,
                f"is {network.embeddings.kind}, which takes the words of all training rows, but with data.streaming they are not read as a whole. Use teacher, model or random.",
                rests_on=(path, "data.streaming"),
            )
        )
    return faults + [
        Fault(
            f"teachers.{name}.placement",
            "is cached, but with data.streaming nobody knows beforehand what will be asked. Set placement: auto.",
            rests_on=(f"teachers.{name}.placement", "data.streaming"),
        )
        for name, teacher in config.teachers.items()
        if teacher.placement == "cached"
    ]


def _teacher_faults(config: DistillConfig) -> list[Fault]:
    faults = []
    for name, teacher in config.teachers.items():
        low, high = teacher.replica_bounds
        if low > high:
            faults.append(
                Fault(
                    f"teachers.{name}.replicas.min",
                    f"must not exceed teachers.{name}.replicas.max = {high}, got {low}.",
                    rests_on=(f"teachers.{name}.replicas",),
                )
            )
        faults += _backend_faults(config, name)
        if teacher.transport == "nixl":
            faults += direct_faults(config, name)
    return faults


def _backend_faults(config: DistillConfig, name: str) -> list[Fault]:
    teacher, path = config.teachers[name], f"teachers.{name}"
    if teacher.backend == "torch":
        return []
    needs: list[tuple[str, str, str]] = [(f"{path}.dtype", teacher.dtype, "float32")]
    if teacher.placement != "inline":
        needs.append((f"{path}.num_gpus", f"{teacher.num_gpus:g}", "0"))
    if teacher.placement in ("inline", "auto"):
        gpus = config.training.gpus_per_worker
        needs.append(("training.gpus_per_worker", f"{gpus:g}", "0"))
    return [
        Fault(
            f"{path}.backend",
            f"is onnx, which computes in float32 on CPUs, but {setting} is {value}. Set backend: torch.",
            rests_on=(f"{path}.backend", f"{path}.placement", setting),
        )
        for setting, value, needed in needs
        if value != needed
    ]


def direct_faults(config: DistillConfig, name: str) -> list[Fault]:
    """Why a teacher's answers cannot go from device to device, whatever its transport says."""
    teacher, path = config.teachers[name], f"teachers.{name}.transport"
    low, high = teacher.replica_bounds
    worker_gpus = config.training.gpus_per_worker
    rules = [
        (
            config.store.enabled,
            "store.enabled",
            "keeps answers on their way from device to device, but the store takes them from host memory. Set store.enabled: false",
        ),
        (
            teacher.placement not in ("remote", "auto"),
            f"teachers.{name}.placement",
            f"is for replicas, but teachers.{name}.placement is {teacher.placement}. Set placement: remote",
        ),
        (
            low != high,
            f"teachers.{name}.replicas",
            "leaves answers with the replica, and they would go with one that is stopped. Set replicas to a number",
        ),
        (
            (teacher.num_gpus > 0) != (worker_gpus > 0),
            "training.gpus_per_worker",
            f"needs the same kind of device on both sides, but teachers.{name}.num_gpus is {teacher.num_gpus:g} and training.gpus_per_worker is {worker_gpus:g}. Give both GPUs",
        ),
    ]
    return [
        Fault(path, f"is nixl, which {why}, or transport: auto.", rests_on=(path, setting))
        for broken, setting, why in rules
        if broken
    ]


def _training_faults(config: DistillConfig) -> list[Fault]:
    training, faults = config.training, []
    rows = training.batch_rows
    if training.micro_batch_rows is not None and training.micro_batch_rows > rows:
        faults.append(
            Fault(
                "training.micro_batch_rows",
                f"must not exceed training.batch_rows = {rows}, got {training.micro_batch_rows}.",
                rests_on=("training.micro_batch_rows", "training.batch_rows"),
            )
        )
    if training.sharding == "full" and 0 < training.gpus_per_worker < 1:
        faults.append(
            Fault(
                "training.sharding",
                f"is full, which needs whole GPUs or none, but training.gpus_per_worker is {training.gpus_per_worker:g}.",
                rests_on=("training.sharding", "training.gpus_per_worker"),
            )
        )
    if training.num_workers > rows:
        faults.append(
            Fault(
                "training.num_workers",
                f"must not exceed training.batch_rows = {rows}: the global batch is divided among them, got {training.num_workers}.",
                rests_on=("training.num_workers", "training.batch_rows"),
            )
        )
    return faults
