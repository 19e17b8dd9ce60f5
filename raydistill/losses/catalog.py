"""Names of losses in a configuration -> functions; a plain table.

A new loss is a function that gives one value per position, and one entry in :data:`CATALOG`.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from raydistill.errors import ConfigError, Fault
from raydistill.losses.divergence import (
    forward_kl,
    forward_kl_from_log_p,
    soft_cross_entropy,
    soft_cross_entropy_from_log_p,
)
from raydistill.losses.hard_label import IGNORED_LABEL, cross_entropy
from raydistill.losses.hidden import hidden_mse
from raydistill.losses.reduction import expand_mask, masked_mean, select_counted

__all__ = ["CATALOG", "LossEntry", "ScalarLoss", "build_loss"]

Check = Callable[[object], str | None]
"""The rule that a value breaks ("must be …"), or None."""


def _positive(value: object) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        good = math.isfinite(value) and value > 0
    else:
        good = False
    return None if good else "must be a positive finite number"


def _true_or_false(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


_SOFTENED: Mapping[str, Check] = {
    "temperature": _positive,
    "scale_by_temperature_squared": _true_or_false,
}


@dataclass(frozen=True)
class LossEntry:
    """One loss as the objective, the checks and the documentation see it.

    Attributes:
        name: As in a configuration: ``kind: hidden_mse``.
        function: ``(student, target, **options)`` to one value per position.
        needs: What the target is: ``logits`` or ``hidden`` (states) of a teacher, or ``labels``.
        options: Names of the function's options, each with the check of its value.
        from_log_p: The function for a target of ready log-probabilities, if ``needs`` is logits.
        parity: Name of a peer to the options that make this loss equal to the peer's.
    """

    name: str
    function: Callable[..., Tensor]
    needs: frozenset[str]
    options: Mapping[str, Check] = field(default_factory=dict)
    from_log_p: Callable[..., Tensor] | None = None
    parity: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


_ENTRIES = (
    LossEntry(
        name="cross_entropy",
        function=cross_entropy,
        needs=frozenset({"labels"}),
        parity={"textbrewer": {}},
    ),
    LossEntry(
        name="forward_kl",
        function=forward_kl,
        needs=frozenset({"logits"}),
        options=_SOFTENED,
        from_log_p=forward_kl_from_log_p,
    ),
    LossEntry(
        name="hidden_mse",
        function=hidden_mse,
        needs=frozenset({"hidden"}),
        parity={"textbrewer": {}},
    ),
    LossEntry(
        name="soft_cross_entropy",
        function=soft_cross_entropy,
        needs=frozenset({"logits"}),
        options=_SOFTENED,
        from_log_p=soft_cross_entropy_from_log_p,
        parity={"textbrewer": {"scale_by_temperature_squared": False}},
    ),
)
CATALOG: Mapping[str, LossEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every loss by its name."""


@dataclass(frozen=True)
class ScalarLoss:
    """A loss with its options, reduced to one number; what :func:`build_loss` returns.

    Attributes:
        entry: The loss.
        options: What its function is called with.
    """

    entry: LossEntry
    options: Mapping[str, object] = field(default_factory=dict)

    def __call__(
        self,
        student: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        count: float | Tensor | None = None,
    ) -> Tensor:
        """The mean over the positions that count.

        Args:
            student: Logits ``[..., V]`` or hidden states ``[..., D]``.
            target: The teacher's, same shape; or integer labels, ``[...]``.
            mask: Bool, ``[...]`` or 1 in a dimension, True = counts. Labels of -100 never count.
            count: The denominator, if this is one part of a larger batch.

        Returns:
            Scalar, at least float32; 0 with a zero gradient when nothing counts.

        Raises:
            SignalError: shapes, or labels, do not fit.
        """
        counted = None if mask is None else expand_mask(mask, student.shape[:-1])
        if "labels" in self.entry.needs:
            labelled = expand_mask(target != IGNORED_LABEL, student.shape[:-1])
            counted = labelled if counted is None else counted & labelled
        if counted is not None:
            student, target = select_counted(counted, student, target)
        return masked_mean(self.entry.function(student, target, **self.options), count=count)


def build_loss(name: str, *, parity: str | None = None, **options: object) -> ScalarLoss:
    """Any loss by its name in the configuration, as a function that returns one scalar.

    For notebooks and comparisons: a mean over the positions of one batch. Training takes the
    functions themselves, because its mean is over all workers.

    Args:
        name: A key of :data:`CATALOG`.
        parity: ``"textbrewer"``: exactly its reduction (``soft_cross_entropy`` without the factor
            temperature squared; the others are equal anyway). A mask counts for 2-D logits too,
            where TextBrewer ignores it.
        options: Of the loss, as in the configuration.

    Returns:
        ``loss(student, target, mask=None, count=None)``; see :class:`ScalarLoss`.

    Raises:
        ConfigError: the name, the parity or options are not known, or values are wrong; all faults.

    Example:
        >>> import torch
        >>> student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
        >>> teacher = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> build_loss("hidden_mse")(student, teacher)
        tensor(7.2500)
        >>> build_loss("hidden_mse")(student, teacher, torch.tensor([True, False]))
        tensor(2.)
        >>> build_loss("hidden_msee")
        Traceback (most recent call last):
        raydistill.errors.ConfigError: loss 'hidden_msee' is not known. Known: cross_entropy, \
forward_kl, hidden_mse, soft_cross_entropy. Did you mean 'hidden_mse'?
    """
    if name not in CATALOG:
        raise ConfigError.of("loss", f"'{name}' is not known. {_known(name, CATALOG)}")
    entry = CATALOG[name]
    faults = [
        Fault(f"{name}.{option}", f"is not known. {_known(option, entry.options)}")
        for option in options
        if option not in entry.options
    ]
    for option, check in entry.options.items():
        if option in options and (rule := check(options[option])):
            faults.append(Fault(f"{name}.{option}", f"{rule}, got {options[option]!r}."))
    if parity is not None and parity not in entry.parity:
        message = f"'{parity}' is not known for this loss. {_known(parity, entry.parity)}"
        faults.append(Fault(f"{name}.parity", message))
    fixed = entry.parity.get(parity or "", {})
    for option, value in fixed.items():
        if options.get(option, value) != value:
            message = f"must be {value} with parity='{parity}', got {options[option]!r}."
            faults.append(Fault(f"{name}.{option}", message))
    if faults:
        raise ConfigError(faults)
    return ScalarLoss(entry, {**options, **fixed})


def _known(name: str, known: Iterable[str]) -> str:
    """`Known: a, b. Did you mean 'a'?`, without the question if nothing is near."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    question = f" Did you mean '{close[0]}'?" if close else ""
    return f"Known: {', '.join(names) or 'none'}.{question}"
