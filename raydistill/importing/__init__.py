"""Configurations of other libraries, as ours; what has no equivalent is named, never dropped in silence.

Reading order: ``textbrewer.py`` (which setting becomes which), ``matches.py`` (its intermediate matches),
``parts.py`` (reading JSON with all faults at once), ``imported.py`` (what comes out, as YAML).
"""

from raydistill.importing.imported import Imported, Remark
from raydistill.importing.textbrewer import convert_textbrewer, read_textbrewer

__all__ = ["Imported", "Remark", "convert_textbrewer", "read_textbrewer"]
