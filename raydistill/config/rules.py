"""Rules between losses, teachers, ensemble and schedules that need nothing but the configuration."""

from typing import TYPE_CHECKING, Any

from raydistill.config.ensemble import (
    RoutingWeighting,
    StochasticWeighting,
    ValidationWeighting,
)
from raydistill.config.losses import CustomLoss, LossBase, on_labels
from raydistill.config.schedules import (
    CurriculumTemperature,
    CwsmTemperature,
    FlswTemperature,
    RelativeBalancing,
)
from raydistill.config.task import EXCLUSIVE, LOGIT_LOSSES, METRICS
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = [
    "block_queries",
    "group_rows",
    "needs_inside",
    "objective_faults",
    "unknown_teacher",
    "with_teachers",
]

_ACROSS_ROWS = {"dist", "rkd_distance", "rkd_angle", "contrastive"}
_BOTH_WAYS = {"hidden_mse", "cos", "pkd", "embedding_mse", "embedding_l2", "embedding_cos"}


def with_teachers(config: "DistillConfig") -> list[Any]:
    """The terms that compare the student with teachers."""
    return [loss for loss in config.losses if not on_labels(loss)]


def _compares_rows(loss: LossBase) -> bool:
    """Whether a term sees rows beside each other, so that groups of rows must not be cut."""
    by_row = isinstance(getattr(loss, "temperature", None), FlswTemperature | CwsmTemperature)
    return getattr(loss, "kind", "") in _ACROSS_ROWS or by_row


def group_rows(config: "DistillConfig") -> int:
    """Rows of a step that must stay together; 1 if no term compares rows."""
    together = any(_compares_rows(loss) for loss in config.losses)
    return min(config.training.group_rows, config.training.batch_rows) if together else 1


def block_queries(config: "DistillConfig") -> int:
    """Queries of a step that must stay together; 1 if no term sees those of others."""
    training = config.training
    if all(getattr(loss, "among", "candidates") == "candidates" for loss in config.losses):
        return 1
    return max(1, min(training.block_queries, training.batch_rows // training.group_rows))


def needs_inside(config: "DistillConfig") -> bool:
    """Whether a term compares queries, keys or values."""
    return any(getattr(loss, "states", "hidden") != "hidden" for loss in config.losses)


def unknown_teacher(config: "DistillConfig", path: str, name: str) -> list[Fault]:
    """A fault, if a setting names a teacher that there is not."""
    if name in config.teachers:
        return []
    names = sorted(config.teachers)
    known = f"Known: {', '.join(names)}." if names else "There are none."
    message = f"names the teacher '{name}', which is not under teachers. {known}"
    return [Fault(path, message, rests_on=(path, f"teachers.{name}"))]


def objective_faults(config: "DistillConfig") -> list[Fault]:
    """Of losses, ensemble, balancing, and the teachers they use."""
    faults = [
        *_ensemble_faults(config),
        *_idle_teachers(config),
        *_balancing_faults(config),
        *_group_faults(config),
    ]
    for index, loss in enumerate(config.losses):
        faults += _term_faults(config, index, loss)
    if all(loss.weight == 0 for loss in config.losses):
        faults.append(Fault("losses", "have weight 0 throughout: nothing would be trained."))
    return faults


def _term_faults(config: "DistillConfig", index: int, loss: Any) -> list[Fault]:
    faults, base = [], f"losses.{index}"
    if not on_labels(loss) and not config.teachers:
        return [
            Fault(
                base,
                f"is {loss.kind}, which needs a teacher, but there is none under teachers.",
                rests_on=(f"{base}.kind", "teachers"),
            )
        ]
    layers = getattr(loss, "layers", None)
    for name in layers if isinstance(layers, dict) else ():
        faults += unknown_teacher(config, f"{base}.layers.{name}", name)
    if isinstance(loss, CustomLoss) and (loss.needs == "hidden") != (layers is not None):
        way = "is needed with" if layers is None else "has no effect without"
        faults.append(Fault(f"{base}.layers", f"{way} needs: hidden.", rests_on=(f"{base}.needs",)))
    projection = getattr(loss, "projection", None)
    if projection is not None and projection.side == "teacher" and loss.kind not in _BOTH_WAYS:
        faults.append(
            Fault(
                f"{base}.projection.side",
                f"must be student for {loss.kind}: only losses that are the same both ways "
                f"({', '.join(sorted(_BOTH_WAYS))}) can teach a projection of the teacher.",
                rests_on=(f"{base}.kind", f"{base}.projection.side"),
            )
        )
    states = getattr(loss, "states", "hidden")
    faults += [
        Fault(
            f"teachers.{name}.backend",
            f"is onnx, which gives out hidden states and attention maps only, but {base}.states is {states}. Set backend: torch.",
            rests_on=(f"teachers.{name}.backend", f"{base}.states"),
        )
        for name, teacher in config.teachers.items()
        if teacher.backend == "onnx" and states != "hidden" and loss.written_for(name) is not None
    ]
    return faults + _temperature_faults(config, base, loss) + _abstain_faults(config, base, loss)


def _temperature_faults(config: "DistillConfig", base: str, loss: Any) -> list[Fault]:
    setting = getattr(loss, "temperature", None)
    if not isinstance(setting, CurriculumTemperature):
        return []
    faults, combine = [], config.ensemble.combine
    if len(config.teachers) > 1 and combine not in ("logits", "losses"):
        faults.append(
            Fault(
                f"{base}.temperature",
                f"is learned, which several teachers allow with ensemble.combine: logits or losses only, got {combine}.",
                rests_on=(f"{base}.temperature", "ensemble.combine"),
            )
        )
    if getattr(loss, "scale_by_temperature_squared", True) is False:
        faults.append(
            Fault(
                f"{base}.scale_by_temperature_squared",
                "must be true while the temperature is learned: without the factor it would only fall.",
                rests_on=(f"{base}.temperature",),
            )
        )
    return faults


def _abstain_faults(config: "DistillConfig", base: str, loss: Any) -> list[Fault]:
    partial = [n for n, t in config.teachers.items() if t.missing_labels == "abstain"]
    by_cosine = isinstance(getattr(loss, "temperature", None), FlswTemperature)
    reads_all = loss.kind == "logit_mse" or by_cosine or getattr(loss, "standardize", False)
    if config.task.kind not in EXCLUSIVE or not (partial and reads_all):
        return []
    path = f"{base}.standardize" if getattr(loss, "standardize", False) else base
    return [
        Fault(
            path,
            f"reads the logits of all classes, but teachers.{partial[0]} may know only some "
            "(missing_labels: abstain). Use e.g. forward_kl with a fixed temperature.",
            rests_on=(path, f"teachers.{partial[0]}.missing_labels"),
        )
    ]


def _ensemble_faults(config: "DistillConfig") -> list[Fault]:
    faults, ensemble = [], config.ensemble
    named = {"weights": ensemble.weights, "temperatures": ensemble.temperatures}
    weighting = ensemble.weighting
    if isinstance(weighting, ValidationWeighting):
        scores = weighting.scores
        named["weighting.scores"] = scores or {}
        missing = [n for n in config.teachers if scores is not None and n not in scores]
        if scores is None and not weighting.greater_is_better:
            faults.append(
                Fault(
                    "ensemble.weighting.greater_is_better",
                    f"is false, but there are no scores: they are measured, and ensemble.weighting.metric = {config.scored_by} says which way. Remove it.",
                    rests_on=("ensemble.weighting",),
                )
            )
        known = METRICS[config.task.kind]
        if weighting.metric is not None and weighting.metric not in known:
            faults.append(
                Fault(
                    "ensemble.weighting.metric",
                    f"must be one of {', '.join(known)}, got {weighting.metric!r}.",
                    rests_on=("ensemble.weighting", "task.kind"),
                )
            )
        faults += [
            Fault(
                "ensemble.weighting.scores",
                f"must hold a score of every teacher, {name} is missing.",
                rests_on=("ensemble.weighting.scores", f"teachers.{name}"),
            )
            for name in missing
        ]
        if ensemble.weights:
            faults.append(
                Fault(
                    "ensemble.weights",
                    "have no effect with weighting: validation, which takes the weights from scores. Remove one.",
                    rests_on=("ensemble.weights", "ensemble.weighting"),
                )
            )
    if isinstance(weighting, RoutingWeighting):
        faults += _routing_faults(config, weighting)
    for key, values in named.items():
        for name in values:
            faults += unknown_teacher(config, f"ensemble.{key}.{name}", name)
    fixed = weighting.kind in ("fixed", "validation")
    by_name = isinstance(weighting, StochasticWeighting | RoutingWeighting)
    if ensemble.combine == "best" and (fixed or by_name):
        same = (
            "which names the teacher of a row itself"
            if isinstance(weighting, RoutingWeighting)
            else "the same in all rows"
        )
        faults.append(
            Fault(
                "ensemble.combine",
                "is best, the teacher of the largest weight in each row, but weighting is "
                f"{weighting.kind}, {same}. Set weighting to confidence, label_cross_entropy, agreement or gate.",
                rests_on=("ensemble.combine", "ensemble.weighting"),
            )
        )
    return faults


def _routing_faults(config: "DistillConfig", weighting: RoutingWeighting) -> list[Fault]:
    faults, path = [], "ensemble.weighting"
    if len(config.teachers) < 2:  # noqa: PLR2004 - one teacher needs no choice
        faults.append(
            Fault(
                f"{path}.kind",
                f"is routing, which chooses among two teachers or more, got {len(config.teachers)}. Add one, or remove weighting.",
                rests_on=(f"{path}.kind", "teachers"),
            )
        )
    for cell, name in weighting.routes.items():
        shown = cell or "''"
        faults += unknown_teacher(config, f"{path}.routes.{shown}", name)
    if config.ensemble.weights and weighting.others == "refuse":
        faults.append(
            Fault(
                "ensemble.weights",
                "have no effect with weighting: routing and others: refuse, where every row has one teacher. Remove one.",
                rests_on=("ensemble.weights", path),
            )
        )
    return faults


def _idle_teachers(config: "DistillConfig") -> list[Fault]:
    terms = with_teachers(config)
    if config.teachers and not terms:
        return [
            Fault(
                "teachers",
                f"are given, but no term of losses uses them. Add e.g. {{kind: {LOGIT_LOSSES[config.task.kind][0]}}}, or remove the teachers.",
                rests_on=("losses",),
            )
        ]
    maps = [layers for loss in terms if (layers := getattr(loss, "layers", None)) is not None]
    if not len(maps) == len(terms) > 0 or not all(isinstance(layers, dict) for layers in maps):
        return []
    named = {name for layers in maps for name in layers}
    all_known = named <= config.teachers.keys()  # else the odd one may mean the idle one
    return [
        Fault(
            f"teachers.{name}",
            f"is used by no term of losses. Name it in layers, add e.g. {{kind: {LOGIT_LOSSES[config.task.kind][0]}}}, or remove it.",
            rests_on=("losses",),
        )
        for name in config.teachers
        if all_known and name not in named
    ]


def _balancing_faults(config: "DistillConfig") -> list[Fault]:
    balancing, number = config.balancing, len(config.losses)
    if isinstance(balancing, RelativeBalancing) and balancing.main >= number:
        return [
            Fault(
                "balancing.main",
                f"must be the place of a term, 0 to {number - 1}, got {balancing.main}.",
                rests_on=("balancing.main", "losses"),
            )
        ]
    return []


def _group_faults(config: "DistillConfig") -> list[Fault]:
    training = config.training
    micro, group = training.micro_batch_rows, group_rows(config)
    if micro is None or micro % group == 0:
        return []
    return [
        Fault(
            "training.micro_batch_rows",
            f"must be a multiple of training.group_rows = {group}, since losses.{index} compares rows with each "
            f"other, got {micro}.",
            rests_on=("training.micro_batch_rows", "training.group_rows", f"losses.{index}"),
        )
        for index, loss in enumerate(config.losses)
        if _compares_rows(loss)
    ][:1]
