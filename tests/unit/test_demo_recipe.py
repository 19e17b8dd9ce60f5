"""The demo's configurations are those that jobs/configs shows."""

from pathlib import Path
from typing import Any

import pytest

from raydistill.config import load_config
from raydistill.demo.recipe import alone_config, distill_config, teacher_config

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
MODELS, DATA = Path("outputs/demo/models"), Path("outputs/demo/reviews-2000")
COMMON: dict[str, Any] = {"seed": 0, "tracking_uri": "sqlite:///outputs/demo/mlflow.db"}


def recipe(name: str) -> Any:
    out = Path("x")
    uris = {n: f"models:/demo-teacher-{n}@champion" for n in ("minilm-l6", "minilm-sre")}
    match name:
        case "reviews_teacher":
            return teacher_config("minilm-l6", MODELS / "minilm-l6", DATA, out, **COMMON)
        case "reviews_two_teachers":
            return distill_config(MODELS / "bert-tiny", uris, DATA, out, steps=400, **COMMON)
        case _:
            return alone_config(MODELS / "bert-tiny", DATA, out, steps=400, **COMMON)


@pytest.mark.parametrize("name", ["reviews_teacher", "reviews_two_teachers", "reviews_alone"])
def test_yaml_is_the_demos_recipe(name: str) -> None:
    """Figures of the demo must be had again from the YAML that stands for it."""
    written = load_config(CONFIGS / f"{name}.yaml").model_dump()
    shown = recipe(name).model_dump()
    for settings in (written, shown):
        settings["run"].pop("output_dir")
        settings["evaluation"].pop("latency")
    assert written == shown
