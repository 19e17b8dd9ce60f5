"""The short table, and one loss in plain words."""

import inspect
import re

from raydistill.catalogue.describe import GROUPS, LossDescription, descriptions
from raydistill.catalogue.markdown import plain
from raydistill.catalogue.page import cost_words

__all__ = ["entry_plain", "loss_rows"]


def loss_rows() -> list[tuple[str, str, str, str]]:
    """Of every loss its name, what it needs, its bytes a row, and one line; by group.

    A star marks those that are functions only, no kinds of a configuration.

    Example:
        >>> loss_rows()[1]
        ('binary_cross_entropy', 'labels', '0', 'Cross-entropy with labels of several classes at once, each there or not.')
    """
    losses = descriptions()
    return [
        (
            loss.name if loss.kind else f"{loss.name} *",
            ", ".join(sorted(loss.entry.needs, key=lambda need: need == "labels")),
            " or ".join(reversed(list(loss.cost))),
            plain(loss.doc.summary),
        )
        for group in GROUPS
        for loss in losses
        if loss.group == group
    ]


def entry_plain(loss: LossDescription) -> str:
    """A loss's facts and its whole docstring, for a terminal."""
    use = f"kind: {loss.name}" if loss.kind else "a function only, not yet a kind"
    facts = {
        "use": f'{use}; build_loss("{loss.name}")',
        "also called": ", ".join(loss.entry.aliases),
        "needs": " and ".join(loss.needs),
        "mean over": loss.mean_over.replace("`", ""),
        "asks for": cost_words(loss).replace("`", ""),
        "options": ", ".join(f"{o.name}={o.default}" for o in loss.options),
        "settings": ", ".join(
            o.name if o.default is None else f"{o.name}={o.default}" for o in loss.settings
        ),
        "parity": ", ".join(f"{library}: {how}" for library, how in loss.parity.items()).replace("`", ""),
    }  # fmt: skip
    width = max(map(len, facts)) + 2
    lines = [f"{name + ':':{width}}{value}" for name, value in facts.items() if value]
    doc = plain(inspect.getdoc(loss.entry.function) or "")
    doc = re.sub(r"^\.\. math:: ?\n?", "", doc, flags=re.MULTILINE)
    return "\n".join([loss.name, *lines, "", doc])
