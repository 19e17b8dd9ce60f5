"""A loss of the user's own."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from raydistill.config.losses.base import Layers, LossBase, pairs_of
from raydistill.config.projection import ProjectionSetting
from raydistill.config.schedules import TemperatureSetting

__all__ = ["CustomLoss"]


_PATH = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


def _a_path(value: str) -> str:
    if not _PATH.match(value):
        raise ValueError("must look like package.module:function")
    return value


class CustomLoss(LossBase):
    """A function of yours, by its import path; imported in every process."""

    kind: Literal["custom"]
    """Which loss this is."""
    target: Annotated[str, AfterValidator(_a_path)]
    """`package.module:function`: (student, teacher, **options) -> values, not reduced, as those of
    raydistill.losses. It must be importable where workers run."""
    needs: Literal["logits", "hidden"] = "logits"
    """What it compares: logits [rows, classes] -> [rows], or hidden states [positions, width] ->
    [positions]. Of tagging words are rows and positions."""
    options: dict[str, Any] = {}
    """Keyword arguments of the function."""
    layers: Layers | None = None
    """With needs: hidden, as of hidden_mse."""
    positions: Literal["all", "first", "mean"] = "all"
    """With needs: hidden, as of hidden_mse."""
    projection: ProjectionSetting = None
    """With needs: hidden, as of hidden_mse."""
    temperature: TemperatureSetting = 1.0
    """With needs: logits, what several teachers' logits are softened with while they are combined; the
    function gets it as `temperature` if it has such an argument. What it gets of several teachers is
    temperature times their log-probabilities; with ensemble.combine: losses, each teacher's own logits. Of
    multi_label_classification it is temperature times the log-odds of their probabilities, of
    regression the mean of their numbers."""

    def written_for(self, teacher: str) -> Any:
        """Pairs or a word for one teacher; None: nothing."""
        return None if self.layers is None else pairs_of(self.layers, teacher)
