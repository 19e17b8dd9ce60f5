"""Rows from files, checked before anything starts, and the order in which they are used.

``sources`` joins the parts: ``readers`` (file -> columns), ``labels`` (cells -> ids), ``targets`` and
``cells`` (cells -> several labels a row, or numbers), ``tagging`` (words with tags, from ``conll`` too,
in one of ``schemes``), ``routes`` (cells -> teachers) and ``checks``
(what must hold, and how it is said). ``order`` is pure arithmetic on row numbers.
"""

from raydistill.data.checks import overlap_notes, unseen_label_notes
from raydistill.data.labels import read_labels
from raydistill.data.matrix import NOT_KNOWN, any_label, label_matrix, labels_seen
from raydistill.data.order import epoch_order, micro_batches, steps_per_epoch, worker_slice
from raydistill.data.routes import Routes
from raydistill.data.sources import Split, find_splits, load_split, load_splits
from raydistill.data.tagging import TAGGED_SUFFIXES, TaggedColumns, load_tagged_splits
from raydistill.data.targets import Targets

__all__ = [
    "NOT_KNOWN",
    "TAGGED_SUFFIXES",
    "Routes",
    "Split",
    "TaggedColumns",
    "Targets",
    "any_label",
    "epoch_order",
    "find_splits",
    "label_matrix",
    "labels_seen",
    "load_split",
    "load_splits",
    "load_tagged_splits",
    "micro_batches",
    "overlap_notes",
    "read_labels",
    "steps_per_epoch",
    "unseen_label_notes",
    "worker_slice",
]
