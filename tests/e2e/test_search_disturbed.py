"""A search on a cluster while a trial's process, a node and the search itself are killed, at moments drawn by chance."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import settings_of, weights_hash
from tests.e2e.local import LocalCluster

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

TRIALS = 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head without CPUs, two nodes."""
    found = LocalCluster(tmp_path_factory.mktemp("cluster"), "teacher", "student")
    yield found
    found.stop()


def searched(tiny: dict[str, Path], output: Path) -> dict:
    settings = settings_of(tiny, output, epochs=20, evaluate_every_steps=40, checkpoint_every_steps=16,
                           log_every_steps=4, worker_resources={"student_node": 0.5})  # fmt: skip
    return settings | {
        "store": {"path": str(output.parent / "store")},
        "tuning": {
            "space": {
                "losses.1.temperature": {"kind": "uniform", "low": 1.0, "high": 5.0},
                "losses.0.weight": {"kind": "loguniform", "low": 0.1, "high": 2.0},
            },
            "search": {"kind": "random", "seed": 3},
            "objectives": [{"metric": "validation/nll"}],
            "trials": TRIALS,
            "concurrent": 2,
        },
    }


def victims(cluster: LocalCluster, word: str) -> list[int]:
    """Processes below the cluster's nodes, or jobs of it, whose command has a word."""
    own = cluster.sockets
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                command = (entry / "cmdline").read_text().replace("\0", " ")
                if word in command and own in (entry / "environ").read_text("latin-1"):
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def sizes(output: Path) -> dict[Path, int]:
    """Of the histories of trials that are not finished."""
    histories = output.glob("trials/*/seed-5/history.jsonl")
    return {
        path: path.stat().st_size
        for path in histories
        if not (path.parent / "finished.json").exists()
    }


def training(output: Path, draw: random.Random) -> None:
    """Until a trial trains, and then some seconds drawn by chance."""
    before, end = sizes(output), time.monotonic() + 600
    while not any(size > before.get(path, 0) for path, size in sizes(output).items()):
        assert time.monotonic() < end, "no trial trains"
        time.sleep(0.05)
    time.sleep(draw.uniform(0, 10))


def finished_trials(output: Path) -> dict[str, str]:
    """Records of trials that are finished, as they lie there."""
    texts = {path.name: path.read_text() for path in output.glob("trials/[0-9]*.json")}
    return {name: text for name, text in texts.items() if json.loads(text)["state"] == "finished"}


def finished(output: Path, number: int) -> None:
    """Until so many trials are finished, which may be lost then."""
    end = time.monotonic() + 600
    while len(finished_trials(output)) < number:
        assert time.monotonic() < end, f"{number} trials did not finish"
        time.sleep(0.05)


@pytest.mark.parametrize("seed", [int(os.environ.get("RAYDISTILL_CHAOS_SEED", "0"))])
def test_whatever_dies_no_finished_trial_is_lost(cluster, tiny, tmp_path, seed):
    """A trial that finished and is trained again, one that is forgotten, rows that are answered twice."""
    draw = random.Random(seed)
    output, config = tmp_path / "search", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(searched(tiny, output)))
    deaths = ["trial", "node", "driver"]
    draw.shuffle(deaths)
    kept: dict[str, str] = {}
    job = cluster.submit("tune", str(config), wait=False)
    students = 0
    for number, death in enumerate(deaths, 1):
        finished(output, number)
        training(output, draw)
        kept |= finished_trials(output)
        if death == "trial":
            found = victims(cluster, "ray::ImplicitFunc")
            while not found:  # between two trials
                time.sleep(0.05)
                found = victims(cluster, "ray::ImplicitFunc")
            os.kill(draw.choice(found), signal.SIGKILL)
        elif death == "node":
            cluster("kill", f"student-{students}")
            cluster("node", "student")
            students += 1
        else:
            for process in victims(cluster, f"jobs/tune.py {config}"):
                os.kill(process, signal.SIGKILL)
            assert cluster.ended(job)["status"] == "FAILED"
            kept |= finished_trials(output)
            job = cluster.submit("tune", str(config), "--resume", wait=False)
    assert cluster.ended(job, 1200)["driver_exit_code"] == 0, cluster.log(job)

    done = finished_trials(output)
    assert len(kept) >= len(deaths), "nothing was there to be lost"
    assert sorted(done) == [f"{number:04}.json" for number in range(TRIALS)]
    assert {name: done[name] for name in kept} == kept
    found = json.loads((output / "tuning.json").read_text())
    # Without tuning.final nobody asks teachers about other rows than those of training.
    assert found["rows_computed"] == {"wide": 96 + 32, "deep": 96 + 32}

    # The winner as a run of its own, which nothing happens to.
    best = cluster.submit("distill", str(output / "best.yaml"), "--output", str(tmp_path / "best"))
    assert cluster.ended(best)["status"] == "SUCCEEDED", cluster.log(best)
    winner = output / "trials" / f"{found['winner']:04}" / "seed-5"
    assert weights_hash(tmp_path / "best") == weights_hash(winner)
