"""Rules of the student section that need nothing but the configuration."""

from typing import TYPE_CHECKING

from raydistill.config.networks import (
    ModelEmbeddings,
    RandomEmbeddings,
    TeacherEmbeddings,
)
from raydistill.config.presets import PRESETS
from raydistill.config.rules import unknown_teacher
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["only_teacher", "student_faults"]

_SOURCES = ("model", "from_teacher", "from_config", "network")
_NO_VOCABULARY = "new weights have no vocabulary of their own. Name a model or folder whose tokenizer to use{more}."


def student_faults(config: "DistillConfig") -> list[Fault]:
    """Sources of weights and tokens that are missing, or contradict each other."""
    student = config.student
    given = [name for name in _SOURCES if getattr(student, name) is not None]
    faults = _preset_faults(config, given)
    if faults:
        return faults
    if len(given) != 1:
        return [
            Fault(
                "student",
                f"needs exactly one of {', '.join((*_SOURCES, 'preset'))}, got {' and '.join(given) or 'none'}.",
                rests_on=tuple(f"student.{name}" for name in (*_SOURCES, "preset")),
            )
        ]
    if student.from_teacher is not None:
        name = student.from_teacher.teacher
        faults += unknown_teacher(config, "student.from_teacher.teacher", name)
        faults += _left_out(
            config, "from_teacher", f"layers and embeddings are those of teachers.{name}"
        )
    if student.from_config is not None and student.tokenizer is None and not only_teacher(config):
        faults.append(_needs_tokenizer(config, "from_config", ""))
    return faults + _embeddings_faults(config)


def only_teacher(config: "DistillConfig") -> str | None:
    """The teacher whose tokenizer a student with new weights has, where none is named; None if there are several."""
    return next(iter(config.teachers)) if len(config.teachers) == 1 else None


def _preset_faults(config: "DistillConfig", given: list[str]) -> list[Fault]:
    """What cannot stand beside a preset; it may start from a teacher's layers, if it is a transformer."""
    name = config.student.preset
    if name is None or name not in PRESETS:
        return []
    part = PRESETS[name].part
    allowed = {part} | ({"from_teacher"} if part == "from_config" else set())
    faults = [
        Fault(
            f"student.{other}",
            f"must be left out with student.preset: {name}, whose sizes are changed in {part}.",
            rests_on=(f"student.{other}", "student.preset"),
            doubts=(f"student.{other}", "student.preset"),
        )
        for other in given
        if other not in allowed
    ]
    network, kind = config.student.network, PRESETS[name].settings.get("kind")
    if network is not None and kind is not None and network.kind != kind:
        faults.append(
            Fault(
                "student.network.kind",
                f"must be {kind} with student.preset: {name}, got {network.kind}. Leave one of them out.",
                rests_on=("student.network.kind", "student.preset"),
                doubts=("student.network", "student.preset"),
            )
        )
    if "from_teacher" in given and "from_config" in given:
        faults.append(
            Fault(
                "student.from_config",
                "must be left out with student.from_teacher: blocks are as they are there.",
                rests_on=("student.from_config", "student.from_teacher"),
                doubts=("student.from_config", "student.from_teacher", "student.preset"),
            )
        )
    return faults


def _embeddings_faults(config: "DistillConfig") -> list[Fault]:
    student = config.student
    if student.network is None:
        return []
    embeddings = student.network.embeddings
    if isinstance(embeddings, RandomEmbeddings):
        if student.tokenizer is not None or only_teacher(config):
            return []
        return [_needs_tokenizer(config, "network", ", or write embeddings: {kind: words}")]
    base = "network.embeddings"
    if isinstance(embeddings, TeacherEmbeddings):
        why = f"tokens are those of teachers.{embeddings.teacher}"
        path = f"student.{base}.teacher"
        return unknown_teacher(config, path, embeddings.teacher) + _left_out(config, base, why)
    if isinstance(embeddings, ModelEmbeddings):
        return _left_out(config, base, f"tokens are those of {embeddings.model}", ("tokenizer",))
    return _left_out(config, base, "tokens are words of the training rows")


def _needs_tokenizer(config: "DistillConfig", part: str, more: str) -> Fault:
    preset = config.student.preset
    what = f"preset: {preset}" if preset is not None else part
    message = f"is needed with student.{what}: {_NO_VOCABULARY.format(more=more)}"
    return Fault("student.tokenizer", message, rests_on=("student.tokenizer", f"student.{part}"))


def _left_out(
    config: "DistillConfig",
    part: str,
    why: str,
    settings: tuple[str, ...] = ("tokenizer", "revision"),
) -> list[Fault]:
    return [
        Fault(
            f"student.{setting}",
            f"must be left out with student.{part}: {why}.",
            rests_on=(f"student.{setting}", f"student.{part}"),
        )
        for setting in settings
        if getattr(config.student, setting) is not None
    ]
