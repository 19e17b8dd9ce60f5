"""Tags of versions and of registered models: their names, and how what stands in them is read."""

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "DATA_TAG",
    "METRIC_TAG",
    "MOVE_TAG",
    "PARENT_TAG",
    "PROMOTION_TAG",
    "REGISTRATION_TAG",
    "SPLIT_TAG",
    "TEACHERS_TAG",
    "TEACHER_TAG",
    "VERSION_TAG",
    "as_number",
    "as_settings",
    "data_of",
    "metrics_of_tags",
]

DATA_TAG = "raydistill.data_fingerprint"  # of the rows that the deciding metric was measured on
SPLIT_TAG = "raydistill.data."  # + the split's name; a JSON object
TEACHERS_TAG = "raydistill.teachers"  # fingerprints by name; a JSON object
TEACHER_TAG = "raydistill.teacher."  # + the teacher's name; a JSON object
PARENT_TAG = "raydistill.parent"  # what the student's first weights were; a JSON object
VERSION_TAG = "raydistill.version"
METRIC_TAG = "raydistill.metric."  # + the metric's name
PROMOTION_TAG = "raydistill.promotion"  # a JSON object, see promotion.py
REGISTRATION_TAG = "raydistill.registration"
MOVE_TAG = "raydistill.move."  # + alias, version and time, on the registered model; a JSON object

_OLDER_METRIC_TAG = "metric."


def as_number(text: str | None) -> float | None:
    """A finite number, or nothing."""
    try:
        value = float(json.loads(text)) if text is not None else math.nan
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def as_settings(text: str | None) -> dict[str, Any] | None:
    """A JSON object, or nothing: anybody may have written the tag."""
    try:
        value = json.loads(text) if text is not None else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def data_of(tags: Mapping[str, str], metric: str) -> str | None:
    """Fingerprint of the rows that a metric was measured on; ``None`` where it is not known.

    Args:
        tags: Of a version.
        metric: As ``validation/accuracy``.
    """
    split = as_settings(tags.get(SPLIT_TAG + metric.partition("/")[0])) or {}
    if "fingerprint" in split:
        return str(split["fingerprint"])
    # Older versions have that of one split, and one metric on it.
    return tags.get(DATA_TAG) if METRIC_TAG + metric in tags else None


def metrics_of_tags(tags: Mapping[str, str]) -> dict[str, float]:
    """What was measured when a version was registered, by name."""
    found = {}
    for prefix in (_OLDER_METRIC_TAG, METRIC_TAG):
        for key, text in tags.items():
            value = as_number(text) if key.startswith(prefix) else None
            if value is not None:
                found[key.removeprefix(prefix)] = value
    return found
