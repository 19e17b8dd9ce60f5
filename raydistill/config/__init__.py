"""What a user may write. Needs neither torch nor ray."""

from raydistill.config.load import parse_config, to_yaml
from raydistill.config.parse_several import load_config, parse_any
from raydistill.config.root import DistillConfig
from raydistill.config.settings import read_settings
from raydistill.config.several import AnyConfig, TasksConfig

__all__ = [
    "AnyConfig",
    "DistillConfig",
    "TasksConfig",
    "load_config",
    "parse_any",
    "parse_config",
    "read_settings",
    "to_yaml",
]
