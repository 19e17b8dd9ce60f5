"""Rows from files, checked before anything starts, and the order in which they are used.

``sources`` joins the parts: ``files`` (path -> files), ``hub`` (data sets of Hugging Face), ``readers`` (file -> columns), ``labels`` (cells -> ids) and ``checks``
(what must hold, and how it is said). ``stream`` gives rows
while they are used. ``order`` is pure arithmetic on row numbers.
"""

from raydistill.data.checks import overlap_notes, unseen_label_notes
from raydistill.data.files import SPLIT_NAMES
from raydistill.data.folder import find_splits
from raydistill.data.hub import find_dataset_splits
from raydistill.data.labels import read_labels
from raydistill.data.order import epoch_order, micro_batches, steps_per_epoch, worker_slice
from raydistill.data.sources import Origin, Split, load_split
from raydistill.data.splits import load_splits
from raydistill.data.stream import Stream

__all__ = [
    "SPLIT_NAMES",
    "Origin",
    "Split",
    "Stream",
    "epoch_order",
    "find_dataset_splits",
    "find_splits",
    "load_split",
    "load_splits",
    "micro_batches",
    "overlap_notes",
    "read_labels",
    "steps_per_epoch",
    "unseen_label_notes",
    "worker_slice",
]
