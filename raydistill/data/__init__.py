"""Rows from files, checked before anything starts, and the order in which they are used.

``splits`` joins the parts: ``files`` and ``folder`` (path -> files), ``hub`` (data sets of Hugging Face),
``readers`` (file -> columns), ``label_names`` (who says which classes there are), ``labels`` (cells -> ids), ``targets`` and ``cells`` (cells -> several labels
a row, or numbers), ``routes`` (cells -> teachers) and ``checks`` (what must hold, and how it is said);
``sources`` does it for one split. ``tagging`` does the same for words with tags, from ``conll`` files too,
in one of ``schemes``; ``answers`` for questions with contexts, nested as in ``squad`` too, and ``units`` cuts
texts. ``stream`` gives rows while they are used. ``order`` is pure arithmetic
on row numbers, ``turns`` on steps of several tasks.
"""

from raydistill.data.answers import load_question_splits
from raydistill.data.checks import overlap_notes, unseen_label_notes
from raydistill.data.files import SPLIT_NAMES
from raydistill.data.folder import find_splits
from raydistill.data.hub import find_dataset_splits
from raydistill.data.label_names import read_labels
from raydistill.data.matrix import NOT_KNOWN, any_label, label_matrix, labels_seen
from raydistill.data.order import epoch_order, micro_batches, steps_per_epoch, worker_slice
from raydistill.data.parts import Origin
from raydistill.data.question_reader import QuestionColumns
from raydistill.data.routes import Routes
from raydistill.data.sources import Split, load_split
from raydistill.data.splits import load_splits
from raydistill.data.stream import Stream
from raydistill.data.tagged_reader import TAGGED_SUFFIXES, TaggedColumns
from raydistill.data.tagging import load_tagged_splits
from raydistill.data.targets import Targets
from raydistill.data.turns import task_shares, turns
from raydistill.data.units import UNIT, UNSPACED, units_of

__all__ = [
    "NOT_KNOWN",
    "SPLIT_NAMES",
    "TAGGED_SUFFIXES",
    "UNIT",
    "UNSPACED",
    "Origin",
    "QuestionColumns",
    "Routes",
    "Split",
    "Stream",
    "TaggedColumns",
    "Targets",
    "any_label",
    "epoch_order",
    "find_dataset_splits",
    "find_splits",
    "label_matrix",
    "labels_seen",
    "load_question_splits",
    "load_split",
    "load_splits",
    "load_tagged_splits",
    "micro_batches",
    "overlap_notes",
    "read_labels",
    "steps_per_epoch",
    "task_shares",
    "turns",
    "units_of",
    "unseen_label_notes",
    "worker_slice",
]
