"""A student in shards (FSDP2), as whole runs."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import losses_of, run, settings_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]  # minutes, and test_parallel covers most of it

EPOCHS = 12  # of 8 steps


def interrupt_at(folder: Path, step: int) -> None:
    """Ctrl-C once the run's history has come to a step."""
    deadline = time.monotonic() + 120
    history = folder / "history.jsonl"
    while time.monotonic() < deadline:
        if history.exists() and f'"step": {step},' in history.read_text():
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(0.02)


def validation_of(folder: Path) -> dict[int, dict[str, float]]:
    """Validation metrics by step."""
    found = {}
    for line in (folder / "history.jsonl").read_text().splitlines():
        event = json.loads(line)
        values = {k: v for k, v in event.items() if k.startswith("validation/")}
        if values:
            found[event["step"]] = values
    return found


def test_shards_and_then_one_worker_are_the_run_of_one_worker(tiny, local_ray, tmp_path):
    """Begun by two workers with shards and two micro-batches each, ended by one worker with none.

    A factor that is missing, a moment that is lost, or an evaluation of the wrong weights shows.
    """
    settings = {"epochs": EPOCHS, "evaluate_every_steps": 7}
    alone = run(settings_of(tiny, tmp_path / "alone", **settings))
    folder = tmp_path / "shards"
    two = {"num_workers": 2, "sharding": "full", "micro_batch_rows": 4}
    threading.Thread(target=interrupt_at, args=(folder, 8), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(settings_of(tiny, folder, **settings, **two))
    done = max(losses_of(folder))
    assert 8 <= done < 8 * EPOCHS
    resumed = run(settings_of(tiny, folder, **settings), resume=True)
    expected, got = losses_of(tmp_path / "alone"), losses_of(folder)
    common = expected.keys() & got.keys()  # Ctrl-C may lose a few lines of history
    assert {1, 8, done, 8 * EPOCHS} <= common
    for step in common:
        assert got[step] == pytest.approx(expected[step], rel=1e-5, abs=1e-6), step
    measured = validation_of(tmp_path / "alone")
    for step, values in validation_of(folder).items():
        assert values == pytest.approx(measured[step], rel=1e-4), step
    for name in ("test/accuracy", "test/nll"):
        assert resumed.metrics[name] == pytest.approx(alone.metrics[name], rel=1e-4)
