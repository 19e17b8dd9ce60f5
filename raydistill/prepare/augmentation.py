"""The new rows of a run, and the changed copies of a split that it is measured on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from raydistill.augmentation import (
    Candidates,
    NewRows,
    Recipe,
    augmented_table,
    perturbed_table,
    rows_drawn,
)
from raydistill.config import DistillConfig
from raydistill.config.augmentation import AugmentationSection
from raydistill.data import Split
from raydistill.errors import ConfigError, Fault
from raydistill.prepare.operations import Contextual, Operations

__all__ = ["Augmented", "perturbed", "plan_augmented"]

_WITHOUT_EFFECT = {"num_cpus", "num_gpus", "revision", "trust_remote_code", "model"}
_PERTURBATION_SEED = 0  # of all runs the same, so that they are measured on the same texts


class Augmented:
    """The new rows of a run, made once.

    Args:
        section: As configured.
        origins: Tables that they are made from.
        operations: What operations need.
        seed: Of draws.
        first_row_id: Their ids count from here.
    """

    def __init__(
        self,
        section: AugmentationSection,
        origins: Sequence[pa.Table],
        operations: Operations,
        *,
        seed: int,
        first_row_id: int,
    ) -> None:
        self.section, self.operations, self.seed = section, operations, seed
        self._origins, self._first_row_id = origins, first_row_id
        drawn = sum(len(rows_drawn(table, section.share, seed)) for table in origins)
        self.num_rows = section.copies * drawn
        """Of an epoch."""
        self.epochs = 1
        """That have rows of their own."""
        self._tables: tuple[pa.Table, ...] | None = None

    def cover(self, steps: int, steps_per_epoch: int | None) -> None:
        """Let there be rows for so many steps."""
        if self.section.when == "every_epoch" and steps_per_epoch is not None:
            self.epochs = math.ceil(steps / steps_per_epoch)

    @property
    def models(self) -> Mapping[str, Contextual]:
        """Models that must be asked before there are rows."""
        return self.operations.models

    @property
    def ready(self) -> bool:
        """Whether :attr:`tables` can be had without a model."""
        return self._tables is not None or not self.models

    @property
    def tables(self) -> tuple[pa.Table, ...]:
        """One for all epochs, or one for each."""
        if self._tables is None:
            self._tables = self.made({})
        return self._tables

    def take(self, tables: Sequence[pa.Table]) -> None:
        """Use tables that were made, now or in another run."""
        assert [t.num_rows for t in tables] == [self.num_rows] * self.epochs, "rows of this run"
        self._tables = tuple(tables)

    def made(self, candidates: Mapping[str, Candidates]) -> tuple[pa.Table, ...]:
        """The tables, anew.

        Args:
            candidates: Of models, by where they stand in the configuration.
        """
        section = self.section
        paths = [f"augmentation.operations.{i}" for i in range(len(section.operations))]
        recipe = Recipe(
            self.seed,
            [
                self.operations.build(path, one, section.words, candidates)
                for path, one in zip(paths, section.operations, strict=True)
            ],
            [one.weight for one in section.operations],
            section.apply,
        )
        new = NewRows(
            tuple(section.columns),
            section.share,
            section.copies,
            keeps_labels=section.supervision != "unsupervised",
        )
        tables = []
        for epoch in range(self.epochs):
            parts, first = [], self._first_row_id + epoch * self.num_rows
            for origin in self._origins:
                parts.append(augmented_table(origin, new, recipe, epoch=epoch, first_row_id=first))
                first += parts[-1].num_rows
            tables.append(pa.concat_tables(parts).combine_chunks())
        return tuple(tables)

    def made_of(self) -> dict[str, Any]:
        """What decides the rows beside those they are made from, for a run's manifest."""
        tree: dict[str, Any] = self.section.model_dump(mode="json", exclude={"operations"})
        tree["seed"] = self.seed
        for number, section in enumerate(self.section.operations):
            path = f"augmentation.operations.{number}"
            item = section.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
            for files in ("words", "wordnet"):
                if item.get(files) is not None:
                    item[files] = self.operations.lists[path]
            if path in self.models:
                item["weights"] = self.models[path].weights
            tree[f"operations.{number}"] = item
        return tree


def plan_augmented(
    config: DistillConfig, splits: Mapping[str, Split], operations: Operations
) -> Augmented | None:
    """The new rows of a run; None without any.

    Args:
        config: Valid by itself.
        splits: Its rows.
        operations: As of :func:`plan_operations`.

    Raises:
        ConfigError: There are no rows to make new ones from.
    """
    section = config.augmentation
    if section is None:
        return None
    of: Sequence[str] = section.of or ("train", "unlabelled")
    if section.of is None and section.supervision == "supervised":
        of = ("train",)
    if section.of is not None and "unlabelled" in of and "unlabelled" not in splits:
        message = "names unlabelled, but there is no data.unlabelled."
        basis = ("augmentation.of", "data.unlabelled", "data.folder", "losses")
        raise ConfigError([Fault("augmentation.of", message, rests_on=basis)])
    seed = config.run.seed if section.seed is None else section.seed
    origins = [splits[name].table for name in ("train", "unlabelled") if name in of and name in splits]  # fmt: skip
    first = sum(splits[name].table.num_rows for name in ("train", "unlabelled") if name in splits)
    augmented = Augmented(section, origins, operations, seed=seed, first_row_id=first)
    if not augmented.num_rows:
        message = f"draws none of {sum(t.num_rows for t in origins)} rows, got {section.share:g}. Raise it."
        raise ConfigError.of("augmentation.share", message)
    return augmented


def perturbed(
    config: DistillConfig, operations: Operations, table: pa.Table
) -> dict[str, pa.Table]:
    """Copies of a split whose texts are changed, by name; all texts of a pair are.

    Args:
        config: Whose evaluation.perturbations.
        operations: What they need.
        table: Of the split.
    """
    columns = [name for name in ("text", "text_pair") if name in table.column_names]
    tables = {}
    for name, section in config.evaluation.perturbations.items():
        operation = operations.build(f"evaluation.perturbations.{name}", section, "auto")
        recipe = Recipe(_PERTURBATION_SEED, [operation], [1.0])
        tables[name] = perturbed_table(table, columns, recipe)
    return tables
