"""A run on a stream that is broken off: its place in the files is part of what a checkpoint must give back."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_rows, write_rows
from tests.e2e.conftest import KillAtStep, losses_of, run, settings_of, weights_hash

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def streamed(tiny: dict[str, Path], rows: Path, output: Path) -> dict[str, Any]:
    """150 steps of two workers over two files, 200 rows, which end twelve times on the way."""
    training = {"max_steps": 150, "checkpoint_every_steps": 40, "num_workers": 2}
    settings = settings_of(tiny, output, **training)
    settings["data"] = {
        "train": [str(rows / "first.jsonl"), str(rows / "second.jsonl")],
        "validation": str(tiny["data"] / "validation.jsonl"),
        "streaming": True,
        "shuffle_rows": 64,
    }
    settings["task"] = {"labels": ["negative", "positive"]}
    settings["store"] = {"enabled": False}
    return settings


def test_a_killed_worker_goes_on_at_its_place_in_the_stream(tiny, local_ray, tmp_path):
    """Begun anew, a stream shows its first rows twice and its last ones never, with losses that look sound."""
    for name, number, seed in (("first", 130, 7), ("second", 70, 8)):
        write_rows(tmp_path / f"{name}.jsonl", make_rows(number, seed))
    run(streamed(tiny, tmp_path, tmp_path / "whole"))
    with KillAtStep(tmp_path / "cut", "ray::RayTrainWorker", step=100) as worker:
        run(streamed(tiny, tmp_path, tmp_path / "cut"))
    assert worker.killed
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")
    assert len(losses_of(tmp_path / "cut")) == 150
    assert weights_hash(tmp_path / "cut") == weights_hash(tmp_path / "whole")
