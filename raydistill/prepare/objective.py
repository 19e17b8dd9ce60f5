"""From the losses section to an ObjectivePlan: layers, widths, tokenizers and labels fit, or faults."""

from collections.abc import Mapping

from raydistill.alignment import ProjectionSpec, label_columns, projection_key, resolve_layer
from raydistill.config import DistillConfig
from raydistill.config.losses import HiddenMSELoss
from raydistill.ensemble import normalise_weights
from raydistill.errors import Fault
from raydistill.models import ModelTraits
from raydistill.objective import HiddenPair, ObjectivePlan, Term
from raydistill.signals import Ask, HiddenAsk

__all__ = ["plan_objective"]


def plan_objective(
    config: DistillConfig,
    *,
    student: ModelTraits | None,
    teachers: Mapping[str, ModelTraits],
    labels: tuple[str, ...] | None,
) -> tuple[ObjectivePlan, list[Fault]]:
    """The objective, and what does not fit.

    Args:
        config: Valid by itself.
        student: Its shape; None if it could not be read.
        teachers: Shapes of those that could be read.
        labels: Of the task; None if unknown.
    """
    faults: list[Fault] = []
    columns = {}
    for name, traits in teachers.items():
        columns[name] = tuple(range(len(traits.labels)))
        if labels is None:
            continue
        try:
            columns[name] = label_columns(traits.labels, labels, config.teachers[name].label_map)
        except ValueError as error:
            faults.append(_labels_fault(config, name, str(error)))
    terms, projections = [], []
    asked: dict[str, set[HiddenAsk]] = {name: set() for name in config.teachers}
    for index, loss in enumerate(config.losses):
        pairs: list[HiddenPair] = []
        if isinstance(loss, HiddenMSELoss) and student is not None:
            for name, traits in teachers.items():
                found, wrong = _pairs(config, index, loss, name, student=student, teacher=traits)
                pairs += found
                faults += wrong
                for pair in found:
                    asked[name].add(HiddenAsk(pair.teacher_layer, loss.positions))
                    if pair.projection is not None and loss.projection is not None:
                        projections.append(
                            ProjectionSpec(
                                pair.projection, loss.projection, student.width, traits.width
                            )
                        )
        terms.append(Term(f"{index}.{loss.kind}", loss, tuple(pairs)))
    asks = {
        name: Ask(tuple(sorted(asked[name])), (), section.signal_dtype)
        for name, section in config.teachers.items()
    }
    plan = ObjectivePlan(
        terms=tuple(terms),
        combine=config.ensemble.combine,
        weights=normalise_weights(
            list(config.teachers),
            {n: w for n, w in config.ensemble.weights.items() if n in config.teachers},
        )
        if config.teachers
        else {},
        columns=columns,
        asks=asks,
        projections=tuple(projections),
        seed=config.run.seed,
    )
    return plan, faults


def _labels_fault(config: DistillConfig, name: str, reason: str) -> Fault:
    model, label_map = f"teachers.{name}.model", f"teachers.{name}.label_map"
    basis = (model, label_map, "task.labels", "task.label")
    if config.teachers[name].label_map is None:
        return Fault(model, f"has other labels than the task. {reason}", rests_on=basis)
    return Fault(label_map, f"does not fit. {reason}", rests_on=basis)


def _pairs(
    config: DistillConfig,
    index: int,
    loss: HiddenMSELoss,
    name: str,
    *,
    student: ModelTraits,
    teacher: ModelTraits,
) -> tuple[list[HiddenPair], list[Fault]]:
    """One hidden loss and one teacher: its pairs, resolved."""
    base = f"losses.{index}.layers" + (f".{name}" if isinstance(loss.layers, dict) else "")
    pairs: list[HiddenPair] = []
    faults: list[Fault] = []
    written = loss.pairs_of(name)
    for place, (student_layer, teacher_layer) in enumerate(written):
        resolved = []
        for side, layer, traits in (
            (0, student_layer, student),
            (1, teacher_layer, teacher),
        ):
            who = f"teachers.{name}" if side else "the student"
            try:
                resolved.append(resolve_layer(layer, traits.num_layers))
            except ValueError:
                faults.append(
                    Fault(
                        f"{base}.{place}.{side}",
                        f"must be a hidden state of {who}, 0 (embeddings) to {traits.num_layers} "
                        f"or -1 to -{traits.num_layers + 1} from the end, got {layer}.",
                        rests_on=(
                            f"{base}.{place}.{side}",
                            f"teachers.{name}.model" if side else "student",
                        ),
                    )
                )
        if len(resolved) == 2:  # noqa: PLR2004 - student and teacher
            key = projection_key(index, name, *resolved) if loss.projection else None
            pairs.append(HiddenPair(name, resolved[0], resolved[1], key))
    if not written:
        return pairs, faults
    if loss.projection is None and student.width != teacher.width:
        faults.append(
            Fault(
                f"losses.{index}.projection",
                f"is needed: hidden states of the student are {student.width} wide, those of "
                f"teachers.{name} {teacher.width}. Write projection: linear.",
                rests_on=(f"losses.{index}.projection", f"teachers.{name}.model"),
            )
        )
    if loss.positions == "all":
        if student.tokenizer != teacher.tokenizer:
            faults.append(
                Fault(
                    f"losses.{index}.positions",
                    f"'all' compares token by token, but teachers.{name} has another tokenizer than "
                    "the student. Write positions: first or positions: mean.",
                    rests_on=(
                        f"losses.{index}.positions",
                        f"teachers.{name}.tokenizer",
                        "student.tokenizer",
                    ),
                )
            )
        cut = config.teachers[name].max_tokens
        if cut is not None and cut != config.student.max_tokens:
            faults.append(
                Fault(
                    f"teachers.{name}.max_tokens",
                    f"must equal student.max_tokens = {config.student.max_tokens} for "
                    f"losses.{index} with positions: all, got {cut}.",
                    rests_on=(
                        f"losses.{index}.positions",
                        f"teachers.{name}.max_tokens",
                        "student.max_tokens",
                    ),
                )
            )
    return pairs, faults
