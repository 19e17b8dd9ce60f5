"""The invariants of ARCHITECTURE: what is killed or stopped on the way never changes a run's numbers."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.errors import ConfigError
from tests.e2e.conftest import KillAtStep, losses_of, run, settings_of, weights_hash

pytestmark = pytest.mark.e2e


def long_run(tiny: dict[str, Path], folder: Path) -> dict[str, Any]:
    """320 steps in which all that may change on the way does; the second stage begins with a checkpoint."""
    training = {
        "epochs": 40,
        "checkpoint_every_steps": 48,
        "evaluate_every_steps": 96,
        "log_every_steps": 4,
    }
    hidden = {"kind": "hidden_mse", "layers": {"wide": "uniform"}, "projection": {"kind": "mlp"}}
    own = {"kind": "custom", "target": "tests.unit.test_terms:absolute", "options": {"power": 2}}
    return settings_of(tiny, folder, **training) | {
        "ensemble": {"combine": "best", "weighting": {"kind": "gate"}},
        "losses": [
            {"kind": "cross_entropy", "schedule": {"kind": "linear_decay"}},
            {"kind": "forward_kl", "temperature": 2.0},
            hidden,
            {"kind": "attention_ce", "layers": "last"},
            {"kind": "total_variation", "temperature": {"kind": "flsw", "base": 2.0}},
            own,
        ],
        "balancing": {"kind": "relative"},
        "stages": [
            {"name": "features", "share": 0.3, "losses": [0, 2, 3], "freeze": ["*.embeddings.*"]},
            {"name": "logits", "share": 0.7, "losses": [0, 1, 4, 5], "learning_rate": 0.002},
        ],
    }


@pytest.fixture(scope="module")
def undisturbed(tiny, local_ray, tmp_path_factory):
    """A longer run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(long_run(tiny, folder))
    return folder


def test_killed_teacher_and_killed_worker_change_nothing(undisturbed, tiny, tmp_path):
    """A lost answer that is skipped or used twice, or a forgotten optimizer, trains another student in silence.

    Without a store the teachers are asked in every epoch; with it, as in the undisturbed run, once.
    """
    folder = tmp_path / "run"
    with (
        KillAtStep(folder, "ray::TeacherActor", step=60) as teacher,
        KillAtStep(folder, "ray::RayTrainWorker", step=148) as worker,
    ):
        run(long_run(tiny, folder) | {"store": {"enabled": False}})
    assert teacher.killed
    assert worker.killed
    assert weights_hash(folder) == weights_hash(undisturbed)
    assert losses_of(folder) == losses_of(undisturbed)


def test_every_stage_has_its_own_terms_and_teachers_are_weighed(undisturbed):
    """A term of another stage that goes on trains what was meant to rest."""
    losses = losses_of(undisturbed)
    always = {"train/loss", "train/losses/0.cross_entropy", "train/losses/gate"}
    first = {"train/losses/2.hidden_mse", "train/losses/3.attention_ce"}
    second = {
        "train/losses/1.forward_kl",
        "train/losses/4.total_variation",
        "train/losses/5.custom",
    }
    assert {name for name, value in losses[52].items() if value} == always | first
    assert {name for name, value in losses[200].items() if value} == always | second
    lines = (undisturbed / "history.jsonl").read_text().splitlines()
    shares = [json.loads(line).get("train/teacher_weight/wide") for line in lines]
    assert any(share is not None and 0 < share < 1 for share in shares)
    metrics = json.loads((undisturbed / "metrics.json").read_text())
    assert metrics["train/best_step"] > 96, "the first stage chooses no student"


def test_stop_and_resume_changes_nothing(undisturbed, tiny, tmp_path):
    """Ctrl-C in the middle of an epoch, then --resume, as a user does it."""
    folder = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(long_run(tiny, folder)))
    command = [sys.executable, "-m", "raydistill", "train", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    history = folder / "history.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if history.exists() and '"step": 60,' in history.read_text():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "--resume" in err
    assert not (folder / "metrics.json").exists()

    with pytest.raises(ConfigError, match="holds another run"):
        run(long_run(tiny, folder))
    changed = long_run(tiny, folder)
    changed["losses"][1]["temperature"] = 3.0
    with pytest.raises(ConfigError, match=r"losses\.1\.temperature is 3\.0"):
        run(changed, resume=True)

    resumed = subprocess.run(
        [*command, "--resume"], capture_output=True, text=True, timeout=300, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert weights_hash(folder) == weights_hash(undisturbed)
    steps = [json.loads(line)["step"] for line in history.read_text().splitlines()]
    assert max(steps) == 320
