"""What a user may write. Needs neither torch nor ray."""

from raydistill.config.load import load_config, parse_config, read_settings, to_yaml
from raydistill.config.root import DistillConfig

__all__ = ["DistillConfig", "load_config", "parse_config", "read_settings", "to_yaml"]
