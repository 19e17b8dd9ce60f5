"""A whole search: teachers that answer once, a trial that is killed, one that fails, the search broken off, and resume."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.config import DistillConfig, load_config
from raydistill.tracking.connection import connect
from raydistill.tuning import tune
from raydistill.ui import Ui
from tests.e2e.conftest import KillAtStep, settings_of, weights_hash

pytestmark = pytest.mark.e2e


def fewer_validation_rows(data: Path, folder: Path) -> Path:
    """The same rows, of which 24 validate: as many as test would hide which of them were answered."""
    shutil.copytree(data, folder)
    lines = (folder / "validation.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "validation.jsonl").write_text("".join(lines[:24]), "utf-8")
    return folder


def searched(tiny: dict[str, Path], output: Path) -> dict[str, Any]:
    """Three trials: as written, with other layers, and one whose loss is not finite."""
    settings = settings_of(tiny, output, epochs=8)
    settings["data"] = {"folder": str(fewer_validation_rows(tiny["data"], output.parent / "data"))}
    layers = [settings["losses"][2]["layers"], {"wide": [[1, 2]]}]
    return settings | {
        "tracking": {
            "uri": f"sqlite:///{output.parent / 'mlflow.db'}",
            "registered_model": "best",
        },
        "tuning": {
            "space": {
                "training.learning_rate": {"kind": "choice", "values": [1e-3, 1e30]},
                "losses.2.layers": {
                    "kind": "choice",
                    "values": layers,
                    "when": {"training.learning_rate": 1e-3},
                },
            },
            "search": {"kind": "grid"},
            "objectives": [{"metric": "validation/nll"}, {"metric": "student/parameters"}],
            "concurrent": 1,
            "final": {"seeds": 1},
        },
    }


class BrokenOff(Ui):
    """Ctrl-C when the third trial is about to start."""

    def say(self, sentence: str) -> None:
        if sentence.startswith("trial 2:"):
            raise KeyboardInterrupt
        super().say(sentence)


def test_a_search_survives_all_that_dies_and_counts_each_row_once(tiny, local_ray, tmp_path):
    """Teachers that answer for every trial anew, or hours of finished trials that a kill takes with it."""
    output = tmp_path / "search"
    config = DistillConfig.model_validate(searched(tiny, output))
    with (
        KillAtStep(output / "trials" / "0001" / "seed-5", "ray::ImplicitFunc", step=20) as killer,
        pytest.raises(KeyboardInterrupt),
    ):
        tune(config, ui=BrokenOff(quiet=True))
    assert killer.killed
    result = tune(config, resume=True, ui=Ui(quiet=True))

    assert [record.state for record in result.records] == ["finished", "finished", "failed"]
    assert "is not finite" in result.records[2].note
    # Training rows for the trials, test rows for the last runs; nobody asks teachers about validation rows.
    assert result.computed == {"wide": 96 + 32 + 40, "deep": 96 + 32 + 40}
    assert result.winner is not None
    winner = result.winner
    assert winner.values["validation/nll"] == min(
        r.values["validation/nll"] for r in result.records[:2]
    )
    assert not any(
        name.startswith("test/") for record in result.records[:2] for name in record.runs[0].metrics
    )

    # The recipe as it was written gives the same student in a trial and after it.
    again = "trial-0000" if winner.number == 0 else "as-written"
    assert weights_hash(output / "trials" / "0000" / "seed-5") == weights_hash(
        output / "final" / f"{again}-seed5"
    )
    found = json.loads((output / "tuning.json").read_text())
    assert found["rows_computed"] == result.computed
    assert "test/nll" in found["final"]["winner"]["5"]
    assert "recipe as it was written" in result.sentence
    assert (output / "report.html").read_text().count("<svg") >= 1
    assert not load_config(output / "best.yaml").tuning
    assert yaml.safe_load((output / "best.yaml").read_text())["training"]["learning_rate"] == 1e-3

    client = connect(config.tracking.uri)
    experiment = client.get_experiment_by_name("raydistill").experiment_id
    nested = client.search_runs(
        [experiment], filter_string=f"tags.`mlflow.parentRunId` = '{result.run_id}'"
    )
    assert sorted(run.data.tags["raydistill.trial"] for run in nested) == ["0", "1", "2"]
    assert {run.info.status for run in nested} == {"FINISHED", "FAILED"}
    by_trial = {run.data.tags["raydistill.trial"]: run for run in nested}
    assert by_trial["2"].data.params["training.learning_rate"] == "1e+30"
    assert set(by_trial["1"].data.params) == {
        "training.learning_rate",
        "losses.2.layers",
        "run.seed",
    }
    files = {file.path for file in client.list_artifacts(result.run_id)}
    assert {"report.html", "tuning.json", "trials.jsonl", "best.yaml", "plots"} <= files
    assert result.model_uri == "models:/best/1"
    version = client.get_model_version("best", "1")
    assert "raydistill.teachers" in version.tags
