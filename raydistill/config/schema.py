"""The JSON Schema of a configuration, for editors."""

import json

from raydistill.config.root import DistillConfig
from raydistill.config.several import TasksConfig

__all__ = ["schema_text"]


def schema_text(*, several: bool = False) -> str:
    """JSON, sorted as the sections are, ending in a line feed.

    Args:
        several: Of a configuration with several tasks.
    """
    schema = (TasksConfig if several else DistillConfig).model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "raydistill configuration" + (" of several tasks" if several else "")
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
