"""MLflow: what a run tells it, and the models that come from and go to its registry.

``journal.py`` (on disk first) → ``courier.py`` (beside the run) → ``delivery.py`` (in order,
once) → ``operations.py`` (as calls). MLflow itself is imported when it is needed, not here.
"""

from raydistill.tracking.aliases import promote, rollback
from raydistill.tracking.comparison import Comparison, compare_models
from raydistill.tracking.connection import prepare_mlflow, resolve_uri
from raydistill.tracking.download import (
    ResolvedModel,
    cache_folder,
    is_held,
    models_held,
    resolve_model,
)
from raydistill.tracking.journal import pending_journals
from raydistill.tracking.moves import Move
from raydistill.tracking.opening import open_tracker
from raydistill.tracking.packaging import save_model_folder
from raydistill.tracking.reached import server_faults
from raydistill.tracking.registry import describe_model, list_models, show_model
from raydistill.tracking.sync import (
    Registration,
    SyncResult,
    close_record,
    registration_of,
    sync,
)
from raydistill.tracking.tags import (
    DATA_TAG,
    METRIC_TAG,
    PARENT_TAG,
    SPLIT_TAG,
    TEACHER_TAG,
    TEACHERS_TAG,
    VERSION_TAG,
    as_settings,
)
from raydistill.tracking.tracker import DatasetUse, Tracker
from raydistill.tracking.versions import ModelDetails, Promotion, VersionDetails

__all__ = [
    "DATA_TAG",
    "METRIC_TAG",
    "PARENT_TAG",
    "SPLIT_TAG",
    "TEACHERS_TAG",
    "TEACHER_TAG",
    "VERSION_TAG",
    "Comparison",
    "DatasetUse",
    "ModelDetails",
    "Move",
    "Promotion",
    "Registration",
    "ResolvedModel",
    "SyncResult",
    "Tracker",
    "VersionDetails",
    "as_settings",
    "cache_folder",
    "close_record",
    "compare_models",
    "describe_model",
    "is_held",
    "list_models",
    "models_held",
    "open_tracker",
    "pending_journals",
    "prepare_mlflow",
    "promote",
    "registration_of",
    "resolve_model",
    "resolve_uri",
    "rollback",
    "save_model_folder",
    "server_faults",
    "show_model",
    "sync",
]
