"""Any loss of the catalog as a function of one batch that gives one number."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from raydistill.errors import ConfigError, Fault, SignalError
from raydistill.losses.catalog import ALIASES, CATALOG, TARGET_OPTIONS
from raydistill.losses.entry import LossEntry, Peer
from raydistill.losses.hard_label import has_label
from raydistill.losses.reduction import expand_mask, masked_mean, select_counted
from raydistill.losses.softening import shift_probability, standardize_logits

__all__ = ["ScalarLoss", "build_loss"]

States = Tensor | Sequence[Tensor]
"""One tensor, or the two that losses of the flow between layers take."""


@dataclass(frozen=True)
class ScalarLoss:
    """A loss with its options, reduced to one number; what :func:`build_loss` returns.

    Attributes:
        entry: The loss.
        options: What its function is called with.
        parity: The library whose reduction it repeats; "" is ours.
        standardize: Whether logits of both sides are standardised first.
        probability_shift: Whether the teacher's largest logit and that of the label are swapped first.
    """

    entry: LossEntry
    options: Mapping[str, Any] = field(default_factory=dict)
    parity: str = ""
    standardize: bool = False
    probability_shift: bool = False

    def __call__(
        self,
        student: States,
        target: States,
        mask: Tensor | None = None,
        count: float | Tensor | None = None,
        *,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The mean over the positions, rows or tokens that count.

        Args:
            student: What the loss takes: logits ``[..., V]``, hidden states ``[..., D]``, attention maps
                ``[B, H, L, L]``, scores ``[B, N]``; two tensors in a list for ``fsp`` and ``nst``.
            target: The teacher's, likewise; or labels, as the loss takes them.
            mask: Bool, True = counts: ``[...]`` or 1 in a dimension; ``[B, L]`` for maps and sequences,
                ``[B, N]`` for scores. What has no label never counts.
            count: The denominator, if this is one part of a larger batch.
            labels: Integer classes, ``[...]``, for losses that need them beside the teacher, and for
                ``probability_shift``.

        Returns:
            Scalar, at least float32; 0 with a zero gradient when nothing counts.

        Raises:
            SignalError: shapes, or labels, do not fit, or labels are missing.
        """
        peer = self.entry.parity[self.parity].function if self.parity else None
        if peer is not None:
            if count is not None:
                raise SignalError(
                    f"count has no meaning with parity='{self.parity}', whose mean is its own."
                )
            if mask is not None and mask.dtype != torch.bool:
                raise SignalError(f"mask must be bool (True = counts), got {mask.dtype}.")
            return peer(student, target, mask, **self.options)
        if self.entry.over == "sequences":
            values = self.entry.function(student, target, mask=mask, **self.options)
            if count is None and mask is not None and self.entry.units is not None:
                count = self.entry.units(mask)
            return masked_mean(values, count=count)
        if not isinstance(student, Tensor) or not isinstance(target, Tensor):
            raise SignalError(f"{self.entry.name} compares one tensor with one, got several.")
        return self._of_positions(student, target, mask, count, labels)

    def _of_positions(
        self,
        student: Tensor,
        target: Tensor,
        mask: Tensor | None,
        count: float | Tensor | None,
        labels: Tensor | None,
    ) -> Tensor:
        needs, options = self.entry.needs, dict(self.options)
        shape = student.shape[: student.dim() - self.entry.tail]
        counted = None if mask is None else expand_mask(mask, shape)
        with_labels = {"labels", "logits"} <= needs or self.probability_shift
        if with_labels and labels is None:
            raise SignalError(f"{self.entry.name} needs labels=: the true class of every position.")
        hard = target if needs == {"labels"} else labels if {"labels", "logits"} <= needs else None
        if hard is not None:
            wanted = student.shape if self.entry.label == "classes" else shape
            if hard.shape != wanted:
                raise SignalError(
                    f"labels of {self.entry.name} must have the shape {list(wanted)}, "
                    f"got {list(hard.shape)}."
                )
            labelled = has_label(hard, self.entry.label)
            counted = labelled if counted is None else counted & labelled
        tau = options.get("temperature")
        if not (isinstance(tau, Tensor) and tau.dim() > 0 and tau.shape == shape):
            tau = None  # not one a position
        if counted is not None:
            if tau is not None:
                (options["temperature"],) = select_counted(counted, tau)
            if with_labels and labels is not None:
                (labels,) = select_counted(counted, labels)
            student, target = select_counted(counted, student, target)
        elif self.entry.over == "rows" and len(shape) > 1:
            if tau is not None:
                options["temperature"] = tau.flatten()
            labels = None if labels is None else labels.flatten()
            student, target = student.flatten(0, -2), target.flatten(0, -2)
        if self.probability_shift and labels is not None:
            target = shift_probability(target, labels)
        if self.standardize:
            student, target = standardize_logits(student), standardize_logits(target)
        if with_labels and "labels" in needs:
            options["labels"] = labels
        return masked_mean(self.entry.function(student, target, **options), count=count)


def build_loss(name: str, *, parity: str | None = None, **options: Any) -> ScalarLoss:
    """Any loss by its name in the configuration, as a function that returns one scalar.

    For notebooks and comparisons: a mean over one batch. Training takes the functions themselves,
    because its mean is over all workers.

    Args:
        name: A key of :data:`CATALOG`, or another name that the field has for it (``mmd``, ``gram``).
        parity: Exactly another library's reduction, where it differs: ``"textbrewer"`` or
            ``"sentence-transformers"``. A mask counts for 2-D logits too, where TextBrewer ignores it.
        options: Of the loss, as in the configuration. Losses on logits also take ``standardize`` (see
            :func:`~raydistill.losses.softening.standardize_logits`) and ``probability_shift``
            (:func:`~raydistill.losses.softening.shift_probability`; then call it with ``labels=``).

    Returns:
        ``loss(student, target, mask=None, count=None, labels=None)``; see :class:`ScalarLoss`.

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
        >>> build_loss("forward_kl", temprature=2.0)
        Traceback (most recent call last):
        raydistill.errors.ConfigError: forward_kl.temprature is not known. Known: probability_shift, \
scale_by_temperature_squared, standardize, temperature. Did you mean 'temperature'?
    """
    entry = CATALOG.get(ALIASES.get(name, name))
    if entry is None:
        raise ConfigError.of("loss", f"'{name}' is not known. {_known(name, CATALOG)}")
    known = {**entry.options, **(TARGET_OPTIONS if "logits" in entry.needs else {})}
    faults = [
        Fault(f"{name}.{option}", f"is not known. {_known(option, known)}")
        for option in options
        if option not in known
    ]
    for option, check in known.items():
        if option in options and (rule := check(options[option])):
            faults.append(Fault(f"{name}.{option}", f"{rule}, got {options[option]!r}."))
    if parity is not None and parity not in entry.parity:
        message = f"'{parity}' is not known for this loss. {_known(parity, entry.parity)}"
        faults.append(Fault(f"{name}.parity", message))
    peer = entry.parity.get(parity or "", Peer())
    for option, value in peer.options.items():
        if options.get(option, value) != value:
            message = f"must be {value} with parity='{parity}', got {options[option]!r}."
            faults.append(Fault(f"{name}.{option}", message))
    if faults:
        raise ConfigError(faults)
    before = {key: options.pop(key) for key in TARGET_OPTIONS if key in options}
    return ScalarLoss(entry, {**options, **peer.options}, parity or "", **before)


def _known(name: str, known: Iterable[str]) -> str:
    """`Known: a, b. Did you mean 'a'?`, without the question if nothing is near."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    question = f" Did you mean '{close[0]}'?" if close else ""
    return f"Known: {', '.join(names) or 'none'}.{question}"
