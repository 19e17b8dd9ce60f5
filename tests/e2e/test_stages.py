"""A run with all that changes on the way: stages, schedules, balance, a gate, a loss of the user's own."""

import json

import pytest

from tests.e2e.conftest import KillAtStep, losses_of, run, settings_of, weights_hash

pytestmark = pytest.mark.e2e

CHANGES = {
    "ensemble": {"combine": "best", "weighting": {"kind": "gate"}},
    "losses": [
        {"kind": "hidden_mse", "layers": {"wide": "uniform"}, "projection": {"kind": "mlp"}},
        {"kind": "attention_ce", "layers": "last"},
        {"kind": "cross_entropy", "schedule": {"kind": "linear_decay"}},
        {"kind": "forward_kl", "temperature": {"kind": "flsw", "base": 2.0}},
        {"kind": "custom", "target": "tests.unit.test_terms:absolute", "options": {"power": 2}},
    ],
    "stages": [
        {"name": "features", "share": 0.5, "losses": [0, 1, 2], "freeze": ["*.embeddings.*"]},
        {"name": "logits", "share": 0.5, "losses": [2, 3, 4], "learning_rate": 0.002},
    ],
    "balancing": {"kind": "relative", "main": 2},
}
TRAINING = {"epochs": 20, "num_workers": 2, "micro_batch_rows": 4, "group_rows": 4, "checkpoint_every_steps": 20, "evaluate_every_steps": 80}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tiny, local_ray, tmp_path_factory):
    """A run that nothing happens to."""
    folder = tmp_path_factory.mktemp("stages") / "run"
    return folder, run(settings_of(tiny, folder, **TRAINING) | CHANGES)


@pytest.mark.parametrize("step", [70, 110], ids=["before the second stage", "in the second"])
def test_a_killed_worker_changes_nothing_in_any_stage(undisturbed, tiny, tmp_path, step):
    """An optimizer of the stage before, or a balance that begins anew, trains another student."""
    folder, result = undisturbed
    disturbed = tmp_path / "disturbed"
    with KillAtStep(disturbed, "RayTrainWorker", step=step) as killer:
        run(settings_of(tiny, disturbed, **TRAINING) | CHANGES)
    assert killer.killed
    assert weights_hash(disturbed) == weights_hash(folder)
    expected, found = losses_of(folder), losses_of(disturbed)
    assert found == expected
    assert {name for name, value in expected[20].items() if value} == {
        "train/loss", "train/losses/0.hidden_mse", "train/losses/1.attention_ce", "train/losses/2.cross_entropy",
        "train/losses/gate",
    }  # fmt: skip
    assert {name for name, value in expected[130].items() if value} >= {
        "train/loss", "train/losses/3.forward_kl", "train/losses/4.custom", "train/losses/gate"
    }  # fmt: skip
    shares = [
        json.loads(line).get("train/teacher_weight/wide")
        for line in (folder / "history.jsonl").read_text().splitlines()
    ]
    assert any(share is not None and 0 < share < 1 for share in shares)
    assert result.metrics["train/best_step"] >= 80
