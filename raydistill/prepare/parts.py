"""What is read for each split, where a data set of Hugging Face has them."""

from raydistill.config.data import DataSection
from raydistill.data import Origin, find_dataset_splits
from raydistill.errors import ConfigError, Fault

__all__ = ["dataset_parts"]


def dataset_parts(data: DataSection) -> tuple[dict[str, list[Origin]], list[Fault], list[str]]:
    """Split name to the one of `data.dataset`, why there are none, and what should be known; nothing, if none is named."""
    if data.dataset is None:
        return {}, [], []
    unused: list[str] = []
    try:
        parts = find_dataset_splits(
            data.dataset,
            config=data.config,
            revision=data.revision,
            splits={str(name): split for name, split in data.splits.items()},
            needs_train=data.train is None,
            streaming=data.streaming,
            unused=unused,
        )
    except ConfigError as error:
        return {}, [*error.faults], []
    notes = []
    if unused:
        it, are = ("the split", "is") if len(unused) == 1 else ("the splits", "are")
        notes.append(
            f"{data.dataset} has also {it} {', '.join(unused)}, which {are} not used. What should be "
            "used is named under data.splits."
        )
    return {name: [part] for name, part in parts.items()}, [], notes
