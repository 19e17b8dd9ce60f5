"""MLflow: what a run tells it, and the models that come from and go to its registry.

``journal.py`` (on disk first) → ``courier.py`` (beside the run) → ``delivery.py`` (in order,
once) → ``operations.py`` (as calls). MLflow itself is imported when it is needed, not here.
"""

from raydistill.tracking.connection import prepare_mlflow, resolve_uri
from raydistill.tracking.download import ResolvedModel, cache_folder, resolve_model
from raydistill.tracking.journal import pending_journals
from raydistill.tracking.opening import open_tracker
from raydistill.tracking.packaging import save_model_folder
from raydistill.tracking.reach import why_unreachable
from raydistill.tracking.registration import DATA_TAG, METRIC_TAG, TEACHERS_TAG, VERSION_TAG
from raydistill.tracking.registry import (
    describe_model,
    list_models,
    promote,
    show_model,
)
from raydistill.tracking.sync import SyncResult, close_record, sync
from raydistill.tracking.tracker import DatasetUse, Tracker
from raydistill.tracking.versions import ModelDetails, Promotion, VersionDetails

__all__ = [
    "DATA_TAG",
    "METRIC_TAG",
    "TEACHERS_TAG",
    "VERSION_TAG",
    "DatasetUse",
    "ModelDetails",
    "Promotion",
    "ResolvedModel",
    "SyncResult",
    "Tracker",
    "VersionDetails",
    "cache_folder",
    "close_record",
    "describe_model",
    "list_models",
    "open_tracker",
    "pending_journals",
    "prepare_mlflow",
    "promote",
    "resolve_model",
    "resolve_uri",
    "save_model_folder",
    "show_model",
    "sync",
    "why_unreachable",
]
