"""Fine-tuning a teacher: the student's training without teachers."""

from raydistill.checks import check
from raydistill.config import DistillConfig
from raydistill.config.losses import on_labels
from raydistill.config.task import LABEL_LOSSES
from raydistill.errors import Fault
from raydistill.run import DistillResult, distill
from raydistill.ui import Ui

__all__ = ["teach"]


def teach(config: DistillConfig, *, resume: bool = False, ui: Ui | None = None) -> DistillResult:
    """Train ``student`` of the configuration on hard labels alone and register it.

    What comes out serves as a teacher of other runs, as ``models:/NAME@champion``.

    Raises:
        ConfigError: There are teachers, or losses other than those on labels, or no name to register.
    """
    faults = []
    if config.teachers:
        faults.append(
            Fault(
                "teachers",
                "must be left out: teach trains on labels alone. The model to fine-tune is student.model.",
            )
        )
    for i, loss in enumerate(config.losses):
        if not on_labels(loss):
            faults.append(
                Fault(
                    f"losses.{i}",
                    f"must be {LABEL_LOSSES[config.task.kind]}: teach trains on labels alone, got {loss.kind}.",
                )
            )
    if config.tracking.enabled and config.tracking.registered_model is None:
        faults.append(
            Fault(
                "tracking.registered_model",
                "is missing: teach registers what it trains. Name the model, or set tracking.enabled to false.",
            )
        )
    if faults:
        check(config, faults, resume=resume)  # whatever else is wrong is said together with it
    return distill(config, resume=resume, ui=ui)
