"""The invariants of ARCHITECTURE: how a run is cut, and where its answers come from, never changes its numbers."""

import json
from pathlib import Path

import pytest
import yaml

from raydistill.config import DistillConfig
from raydistill.prepare import prepare
from raydistill.storing import cached_faults
from tests.e2e.conftest import losses_of, run, settings_of, weights_hash

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def base(tiny, local_ray, tmp_path_factory):
    """One worker, one forward pass a step."""
    folder = tmp_path_factory.mktemp("base") / "run"
    return folder, run(settings_of(tiny, folder))


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
