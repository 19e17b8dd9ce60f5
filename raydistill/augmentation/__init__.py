"""New rows from rows: pure functions of texts and hashes.

Reading order: ``draws`` (random numbers of a key), ``units`` (what a word is), ``operations`` and
``synonyms`` (what is done), ``contextual`` (where a masked language model says which words fit), ``recipe``
(operations joined), ``table`` (rows of a split).
"""

from raydistill.augmentation.contextual import Candidate, Candidates, contextual
from raydistill.augmentation.draws import Draws
from raydistill.augmentation.operations import (
    delete,
    insert,
    mask,
    ngram,
    swap,
    synonym,
    typo,
)
from raydistill.augmentation.recipe import Change, Operation, Recipe, augment, by_text
from raydistill.augmentation.synonyms import Synonyms, read_wordnet, read_words
from raydistill.augmentation.table import (
    NewRows,
    augmented_table,
    perturbed_table,
    rows_drawn,
)
from raydistill.augmentation.units import (
    Unit,
    Words,
    is_unspaced,
    join_units,
    split_units,
)

__all__ = [
    "Candidate",
    "Candidates",
    "Change",
    "Draws",
    "NewRows",
    "Operation",
    "Recipe",
    "Synonyms",
    "Unit",
    "Words",
    "augment",
    "augmented_table",
    "by_text",
    "contextual",
    "delete",
    "insert",
    "is_unspaced",
    "join_units",
    "mask",
    "ngram",
    "perturbed_table",
    "read_wordnet",
    "read_words",
    "rows_drawn",
    "split_units",
    "swap",
    "synonym",
    "typo",
]
