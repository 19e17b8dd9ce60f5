"""A whole search: shared teachers, a trial that fails, one that is killed, the search itself killed, and resume."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill import load_config
from raydistill.tuning import tune
from raydistill.ui import Ui
from tests.e2e.conftest import settings_of

pytestmark = pytest.mark.e2e


def searched(tiny: dict[str, Path], output: Path, **tuning: Any) -> dict[str, Any]:
    """Four trials: as written, two others, and one whose loss is not finite."""
    settings = settings_of(tiny, output, epochs=8)
    settings["tracking"] = {
        "uri": f"sqlite:///{output.parent / 'mlflow.db'}",
        "registered_model": "best",
    }
    settings["evaluation"] = {"latency": False}
    settings["tuning"] = {
        "space": {
            "training.learning_rate": {"kind": "choice", "values": [1e-3, 2e-3, 1e30]},
            "losses.2.layers": {
                "kind": "choice",
                "values": [{"wide": [[1, 1], [2, 3]], "deep": [[-1, -1]]}, {"wide": [[1, 2]]}],
                "when": {"training.learning_rate": [1e-3, 2e-3]},
            },
        },
        "search": {"kind": "grid"},
        "objectives": [{"metric": "validation/nll"}, {"metric": "student/parameters"}],
        "trials": 5,
        "concurrent": 1,
        "final": {"seeds": 1},
        **tuning,
    }
    return settings


def test_a_search(tiny, local_ray, tmp_path):
    output = tmp_path / "search"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(searched(tiny, output)))
    begin = time.time()
    result = tune(load_config(config), ui=Ui())
    print(time.time() - begin)
    print(result)
    for p in sorted(output.rglob("*")):
        print(p.relative_to(output)) if len(p.relative_to(output).parts) < 4 else None
