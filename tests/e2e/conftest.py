"""Whole runs on tiny models: one Ray for the session, one configuration to vary."""

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """A shell's background job ignores Ctrl-C, and hands that down to every command that a test starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Ray inside this process, with room for two workers and all teachers."""
    import logging

    import ray

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # As where a run starts Ray itself: no process that waits for a node to be taken away.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    if ray.is_initialized():  # another folder's tests run in the same session
        yield
        return
    ray.init(num_cpus=8, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def settings_of(tiny: dict[str, Path], output: Path, **training: Any) -> dict[str, Any]:
    """Two teachers, all kinds of losses, rows with and without labels."""
    return {
        "run": {"name": "tiny", "seed": 5, "output_dir": str(output)},
        "data": {"folder": str(tiny["data"])},
        "student": {"model": str(tiny["student"]), "max_tokens": 16},
        "teachers": {
            "wide": {"model": str(tiny["wide"]), "num_cpus": 0.5},
            "deep": {"model": str(tiny["deep"]), "num_cpus": 0.5, "signal_dtype": "float16"},
        },
        "ensemble": {"weights": {"wide": 2.0}},
        "losses": [
            {"kind": "cross_entropy", "weight": 0.5},
            {"kind": "forward_kl", "temperature": 2.0},
            {
                "kind": "hidden_mse",
                "weight": 0.1,
                "layers": {"wide": [[1, 1], [2, 3]], "deep": [[-1, -1]]},
                "projection": "linear",
            },
        ],
        "training": {
            "epochs": 2,
            "batch_rows": 16,
            "learning_rate": 1e-3,
            "log_every_steps": 1,
            "cpus_per_worker": 0.5,
            **training,
        },
        "tracking": {"enabled": False},
        "evaluation": {"latency": False},
    }


def run(settings: dict[str, Any], *, resume: bool = False) -> Any:
    """One in-process run."""
    from raydistill import DistillConfig, distill
    from raydistill.ui import Ui

    return distill(DistillConfig.model_validate(settings), resume=resume, ui=Ui(quiet=True))


def losses_of(folder: Path) -> dict[int, dict[str, float]]:
    """Training losses by step."""
    found = {}
    for line in (folder / "history.jsonl").read_text().splitlines():
        event = json.loads(line)
        values = {k: v for k, v in event.items() if k.startswith("train/loss")}
        if values:
            found[event["step"]] = values
    return found


def weights_hash(folder: Path) -> str:
    """Of the exported student, to the last bit."""
    return hashlib.sha256((folder / "student" / "model.safetensors").read_bytes()).hexdigest()


def processes(title: str) -> list[int]:
    """Processes with a title, such as ray::TeacherActor, of this process's own Ray: others may run beside it."""
    import ray

    session = Path(ray._private.worker._global_node.get_session_dir_path()).name
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and title in (entry / "cmdline").read_text():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if session in Path(f"/proc/{parent}/cmdline").read_text():
                    found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


class KillAtStep:
    """kill -9 a process of Ray once the run's history has come to a step."""

    def __init__(
        self, folder: Path, title: str, step: int, choose: Callable[[list[int]], int] = min
    ) -> None:
        self.killed: list[int] = []
        self._folder, self._title, self._step, self._choose = folder, title, step, choose
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "KillAtStep":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(5)

    def _watch(self) -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            history = self._folder / "history.jsonl"
            if history.exists() and f'"step": {self._step},' in history.read_text():
                victim = self._choose(processes(self._title))
                os.kill(victim, signal.SIGKILL)
                self.killed.append(victim)
                return
            time.sleep(0.02)
