"""raydistill: several frozen teachers, one small student, on a Ray cluster.

Reading order for a newcomer: ``run.py`` (how everything fits together) → ``objective.py`` (what is
minimised) → ``losses/divergence.py`` (the mathematics) → ``teachers/teacher.py`` (who answers).

Names are loaded on first use, so that ``import raydistill.config`` needs neither torch nor ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raydistill.version import __version__

if TYPE_CHECKING:
    from raydistill.config import DistillConfig, load_config
    from raydistill.run import DistillResult
    from raydistill.several import distill

__all__ = ["DistillConfig", "DistillResult", "__version__", "distill", "load_config"]

_HOMES = {
    "DistillConfig": "raydistill.config",
    "load_config": "raydistill.config",
    "DistillResult": "raydistill.run",
    "distill": "raydistill.several",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'raydistill' has no attribute {name!r}")
