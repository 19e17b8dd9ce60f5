"""Names of losses in a configuration -> functions; plain tables, one a family.

A new loss is a function that gives values that are not reduced, one entry in a table here, and one row
in the table of tests/contract.
"""

from raydistill.losses.catalog.table import ALIASES, CATALOG, TARGET_OPTIONS

__all__ = ["ALIASES", "CATALOG", "TARGET_OPTIONS"]
