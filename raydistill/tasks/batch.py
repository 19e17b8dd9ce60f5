"""The rows of one forward pass of the student."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """Rows as the student and the teachers see them.

    Attributes:
        row_ids: Named in errors.
        texts: One tuple a column of text; what teachers are asked about.
        inputs: Token tensors of the student, ``[B, S]`` each.
        labels: Of one class a row ``[B]`` int64, -100 where there is none; of several, or of numbers, ``[B, C]``
            float32, NaN where it is not known.
        counts: Bool ``[B]``, False for a row that only fills the place of none (a worker without
            rows of its own in a short last batch must still take part in the exchange of gradients).
        route: Place of the one teacher that speaks about a row, ``[B]`` int64, -1: all; None: all
            about every row.
        group: Of candidates of queries, number of the query in this batch, ``[B]`` int64, rising; None: rows are
            no candidates.
    """

    row_ids: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...]
    inputs: dict[str, Tensor]
    labels: Tensor
    counts: Tensor
    route: Tensor | None = None
    group: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Rows that count."""
        return int(self.counts.sum())

    @property
    def token_mask(self) -> Tensor:
        """Bool ``[B, S]``, True for the student's tokens."""
        return self.inputs["attention_mask"].bool()

    def to(self, device: torch.device) -> "Batch":
        """The same rows with tensors on another device."""
        return Batch(
            self.row_ids,
            self.texts,
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()},
            self.labels.to(device, non_blocking=True),
            self.counts.to(device, non_blocking=True),
            None if self.route is None else self.route.to(device, non_blocking=True),
            None if self.group is None else self.group.to(device, non_blocking=True),
        )
