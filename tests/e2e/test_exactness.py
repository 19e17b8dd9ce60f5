"""The invariants of ARCHITECTURE: how a run is cut or disturbed never changes its numbers."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.config import DistillConfig
from raydistill.errors import ConfigError
from raydistill.prepare import prepare
from raydistill.storing import cached_faults
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
def base(tiny, local_ray, tmp_path_factory):
    """One worker, one forward pass a step."""
    folder = tmp_path_factory.mktemp("base") / "run"
    return folder, run(settings_of(tiny, folder))


@pytest.fixture(scope="module")
def undisturbed(tiny, local_ray, tmp_path_factory):
    """A longer run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(long_run(tiny, folder))
    return folder


def assert_same_losses(one: Path, other: Path) -> None:
    expected, got = losses_of(one), losses_of(other)
    assert len(expected) == 16
    assert got.keys() == expected.keys()
    for step, values in expected.items():
        assert got[step] == pytest.approx(values, abs=1e-6), f"step {step}"


def test_run_leaves_what_the_contract_says(base):
    """Users' scripts read these files and names."""
    folder, result = base
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("test/accuracy", "validation/accuracy", "train/samples_per_s",
                 "train/teacher_wait_fraction", "teachers/wide/rows_computed", "teachers/deep/rows_computed",
                 "test/ensemble/accuracy", "test/teachers/wide/accuracy"):  # fmt: skip
        assert isinstance(metrics[name], int | float), name
    # 128 rows in the first epoch, none in the second, and 40 test rows.
    assert metrics["teachers/wide/rows_computed"] == 128 + 40
    assert metrics["teachers/wide/rows_received"] == 2 * 128
    # What was asked ahead before the same row's first answer came is a miss; its teacher knows it.
    assert metrics["store/hits"] + metrics["store/misses"] == 2 * 2 * 128
    assert metrics["store/hits"] >= 2 * 64
    assert result.metrics == metrics
    assert (folder / "report.html").read_text().startswith("<!")
    assert yaml.safe_load((folder / "config.yaml").read_text())["training"]["batch_rows"] == 16

    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(result.student_path)
    assert list(model.config.id2label.values()) == ["negative", "positive"]
    assert AutoTokenizer.from_pretrained(result.student_path)("good film")["input_ids"][0] == 2
    assert not any("projection" in name for name in model.state_dict())


def test_losses_go_down(base):
    """A run whose optimizer does nothing also writes all its files."""
    losses = losses_of(base[0])
    first = sum(losses[step]["train/loss"] for step in (1, 2, 3))
    last = sum(losses[step]["train/loss"] for step in (14, 15, 16))
    assert last < first


def test_two_workers_and_four_micro_batches_give_the_losses_of_one(base, tiny, tmp_path):
    """Denominators of a part instead of the whole batch: a student that depends on the hardware."""
    run(settings_of(tiny, tmp_path / "run", num_workers=2, micro_batch_rows=4))
    assert_same_losses(tmp_path / "run", base[0])


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


def test_a_store_changes_nothing_cold_warm_or_half_filled(base, tiny, tmp_path):
    """An answer from the store in other bits than the teacher's own trains another student."""
    folder, result = base
    settings = settings_of(tiny, tmp_path / "warm")
    settings["store"] = {"path": str(folder.parent / "store")}
    warm = run(settings)
    assert warm.metrics["teachers/wide/rows_computed"] == 0
    assert warm.metrics["store/misses"] == 0
    assert weights_hash(tmp_path / "warm") == weights_hash(folder)
    same = [name for name in result.metrics if name.startswith("test/")]
    assert {name: warm.metrics[name] for name in same} == {n: result.metrics[n] for n in same}

    half = {"store": {"path": str(tmp_path / "half-store")}}
    run(settings_of(tiny, tmp_path / "short", max_steps=3) | half)
    settings = settings_of(tiny, tmp_path / "half") | half
    for teacher in settings["teachers"].values():
        teacher["placement"] = "inline"  # and where a teacher computes must not move the student
    filled = run(settings)
    assert filled.metrics["teachers/wide/rows_computed"] == 128 - 3 * 16
    assert weights_hash(tmp_path / "half") == weights_hash(folder)
    for teacher in settings["teachers"].values():
        teacher["placement"] = "cached"
    prepared, _ = prepare(DistillConfig.model_validate(settings))
    assert prepared is not None
    assert cached_faults(prepared) == []


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
