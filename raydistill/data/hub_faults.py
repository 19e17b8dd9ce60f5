"""Why a data set of Hugging Face `datasets` cannot be loaded, in one line."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import first_line

__all__ = ["NoSplitError", "as_faults"]


class NoSplitError(Exception):
    """The data set is there, the split is not."""


@contextmanager
def as_faults(path: str, dataset: str, split: str = "") -> Iterator[None]:
    """Whatever a loader raises, in one line; without its progress bars and retries in between."""
    import datasets

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    chatty = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [logger.level for logger in chatty]
    for logger in chatty:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except ConfigError:
        raise
    except NoSplitError as error:
        message = f"must be a split of {dataset}, got: {first_line(error)}."
        raise ConfigError.of(f"{path}.splits.{split}", message) from error
    except Exception as error:  # its loaders raise whatever their libraries do
        raise ConfigError([_why(path, dataset, error)]) from error
    finally:
        for logger, level in zip(chatty, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


def _why(path: str, dataset: str, error: Exception) -> Fault:
    """Why a data set cannot be loaded, and what to do."""
    from datasets.exceptions import DatasetNotFoundError

    said = first_line(error)
    if isinstance(error, DatasetNotFoundError):
        return Fault(
            f"{path}.dataset",
            f"must be an id of the hub or a folder, got {dataset} ({said}). "
            "For one that is not public log in (hf auth login), or set HF_TOKEN.",
        )
    if isinstance(error, ConnectionError):
        return Fault(
            f"{path}.dataset",
            f"must be a data set that can be reached, got {dataset} ({said}). Without a network name a "
            "folder, or set HF_HUB_OFFLINE=1 for what was downloaded before.",
        )
    if isinstance(error, FileNotFoundError):
        message = f"must be an id of the hub or a folder, got {dataset} ({said})."
        return Fault(f"{path}.dataset", message)
    if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
        known = re.findall(r"'([^']*)'", str(error).partition("vailable")[2].partition("]")[0])
        return Fault(
            f"{path}.config", f"must be one of {', '.join(known)}, which {dataset} has ({said})."
        )
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    return Fault(
        f"{path}.dataset",
        f"must be a data set that `datasets` can load, got {dataset} ({first_line(root)}).",
    )
