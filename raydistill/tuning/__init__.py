"""Search: many runs over a space of settings, on one pool of teachers and one store.

``search.py`` joins the parts; ``trial.py`` is what runs elsewhere; ``records.py`` says what lies where.
"""

from raydistill.tuning.outcome import Objective
from raydistill.tuning.records import SearchFolder, SeedResult, TrialRecord
from raydistill.tuning.search import SearchResult, tune

__all__ = [
    "Objective",
    "SearchFolder",
    "SearchResult",
    "SeedResult",
    "TrialRecord",
    "tune",
]
