"""The JSON Schema of a configuration, for editors."""

import json

from raydistill.config.root import DistillConfig

__all__ = ["schema_text"]


def schema_text() -> str:
    """JSON, sorted as the sections are, ending in a line feed."""
    schema = DistillConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "raydistill configuration"
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
