"""Rules of new rows and of perturbed copies that need nothing but the configuration."""

from typing import TYPE_CHECKING, Any

from raydistill.config.augmentation import (
    InsertOperation,
    NGramOperation,
    SynonymOperation,
)
from raydistill.config.losses import HardLoss
from raydistill.config.task import RANKED
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["augmentation_faults", "operations_of"]

_ROWS = {
    "tagging": "words with tags",
    "reranking": "candidates of queries",
    "question_answering": "contexts with places of answers",
    "retrieval": "candidates of queries",
}


def operations_of(config: "DistillConfig") -> dict[str, Any]:
    """All operations by where they stand in the configuration."""
    found: dict[str, Any] = {}
    if config.augmentation is not None:
        operations = config.augmentation.operations
        found |= {f"augmentation.operations.{i}": one for i, one in enumerate(operations)}
    perturbations = config.evaluation.perturbations
    return found | {f"evaluation.perturbations.{n}": one for n, one in perturbations.items()}


def augmentation_faults(config: "DistillConfig") -> list[Fault]:
    """What does not fit together."""
    faults = _kind_faults(config)
    if faults:
        return faults
    for path, operation in operations_of(config).items():
        faults += _operation_faults(path, operation)
        drawn = config.augmentation is not None and config.augmentation.apply == "one"
        if operation.weight != 1 and not (drawn and path.startswith("augmentation")):
            faults.append(
                Fault(
                    f"{path}.weight",
                    "has no effect: it is for drawing one operation (augmentation.apply: one). Remove it.",
                    rests_on=(f"{path}.weight", "augmentation.apply"),
                )
            )
    return faults + _row_faults(config)


def _kind_faults(config: "DistillConfig") -> list[Fault]:
    """What changes texts fits rows of texts with labels of their own; see also `ranking_rules`."""
    rows = _ROWS.get(config.task.kind)
    if rows is None:
        return []
    given = {
        "augmentation": config.augmentation is not None,
        "adversarial": config.adversarial is not None,
        "evaluation.perturbations": bool(config.evaluation.perturbations),
    }
    return [
        Fault(
            path,
            f"is for rows of texts with labels of their own, but task.kind is {config.task.kind}: rows are "
            f"{rows}. Remove it.",
            rests_on=(path, "task.kind"),
        )
        for path, there in given.items()
        if there and (config.task.kind not in RANKED or path.startswith("evaluation"))
    ]


def _operation_faults(path: str, operation: Any) -> list[Fault]:
    if isinstance(operation, NGramOperation) and operation.shortest > operation.longest:
        return [
            Fault(
                f"{path}.shortest",
                f"must not exceed {path}.longest = {operation.longest}, got {operation.shortest}.",
                rests_on=(f"{path}.shortest", f"{path}.longest"),
            )
        ]
    if not isinstance(operation, SynonymOperation | InsertOperation):
        return []
    given = [name for name in ("words", "wordnet") if getattr(operation, name) is not None]
    needed = isinstance(operation, SynonymOperation)
    if len(given) == 1 or (not given and not needed):
        return []
    what = "both, got them" if given else "words, a file, or wordnet, a folder, got none"
    rule = "cannot be combined: give words or wordnet, not " if given else "needs synonyms: give "
    return [
        Fault(
            f"{path}.words",
            f"{rule}{what}.",
            rests_on=(f"{path}.words", f"{path}.wordnet"),
        )
    ]


def _row_faults(config: "DistillConfig") -> list[Fault]:
    section, faults = config.augmentation, []
    if section is None:
        return []
    if config.data.streaming:
        faults.append(
            Fault(
                "data.streaming",
                "must be false with augmentation: new rows are made before training, from rows that are held.",
                rests_on=("data.streaming", "augmentation"),
            )
        )
    pair = getattr(config.task, "text_pair", None)
    if "text_pair" in section.columns and pair is None:
        faults.append(
            Fault(
                "augmentation.columns",
                "names text_pair, but rows have one text: task.text_pair is null.",
                rests_on=("augmentation.columns", "task.text_pair"),
            )
        )
    if section.supervision == "supervised" and "unlabelled" in (section.of or ()):
        faults.append(
            Fault(
                "augmentation.of",
                "names unlabelled, whose rows have no label that new ones could keep (augmentation.supervision: "
                "supervised). Set supervision: weak, or leave unlabelled out.",
                rests_on=("augmentation.of", "augmentation.supervision"),
            )
        )
    if section.supervision == "unsupervised" and all(isinstance(x, HardLoss) for x in config.losses):  # fmt: skip
        faults.append(
            Fault(
                "augmentation.supervision",
                "is unsupervised, so new rows have no label, but no term of losses has teachers: nothing would "
                "be learnt from them. Set supervision: supervised, or add such a term.",
                rests_on=("augmentation.supervision", "losses"),
            )
        )
    return faults
