"""From a configuration to everything a run needs, or to every reason why it cannot run.

Nothing is started and nothing is written here.
"""

from raydistill.prepare.augmentation import Augmented, perturbed
from raydistill.prepare.data import load_data
from raydistill.prepare.manifest import changed_settings, flatten, manifest_of
from raydistill.prepare.operations import Contextual, Operations, plan_operations
from raydistill.prepare.prepare import prepare
from raydistill.prepare.prepared import Prepared
from raydistill.prepare.resources import (
    Resources,
    needed_resources,
    replicas_need,
    resource_faults,
)
from raydistill.prepare.several import PreparedTasks, prepare_tasks

__all__ = [
    "Augmented",
    "Contextual",
    "Operations",
    "Prepared",
    "PreparedTasks",
    "Resources",
    "changed_settings",
    "flatten",
    "load_data",
    "manifest_of",
    "needed_resources",
    "perturbed",
    "plan_operations",
    "prepare",
    "prepare_tasks",
    "replicas_need",
    "resource_faults",
]
