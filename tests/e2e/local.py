"""A cluster of several nodes as cluster/local.sh starts it, for tests that submit jobs to it."""

import json
import os
import socket
import subprocess
import sysconfig
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.conftest import settings_of

REPOSITORY = Path(__file__).parents[2]
SCRIPT = str(REPOSITORY / "cluster" / "local.sh")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def clean_environment(**more: str) -> dict[str, str]:
    """Without anything of another Ray; commands of this environment first."""
    scripts = sysconfig.get_path("scripts")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0", **more}


class LocalCluster:
    """Nodes by the names that the script gives them.

    Args:
        folder: Of the cluster.
        pools: One node each.
        mlflow: With a server; its address is ``tracking``.
    """

    def __init__(self, folder: Path, *pools: str, mlflow: bool = False) -> None:
        port, dashboard, client, server = map(str, free_ports(4))
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self.tracking = f"http://127.0.0.1:{server}" if mlflow else None
        self.environment = clean_environment(
            RAYDISTILL_CLUSTER=str(folder), RAY_PORT=port, RAY_DASHBOARD_PORT=dashboard,
            RAY_CLIENT_PORT=client, MLFLOW_PORT=server if mlflow else "0", CPUS_PER_NODE="2", OBJECT_STORE_BYTES=str(200 << 20),
            RAY_health_check_period_ms="1000",
        )  # fmt: skip
        self._token = folder / "token"
        try:
            self("up", *pools)
        except BaseException:
            self.stop()
            raise

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        """One call of the script."""
        done = subprocess.run(
            [SCRIPT, *words], env=self.environment, cwd=REPOSITORY, capture_output=True, text=True,
            timeout=3600, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    @property
    def sockets(self) -> str:
        """The folder of the nodes' sockets; each of their processes has it in its environment."""
        lines = (self._token.parent / "environment").read_text().splitlines()
        return next(
            one.removeprefix("RAY_SOCKETS=") for one in lines if one.startswith("RAY_SOCKETS=")
        )

    def stop(self) -> None:
        self("down", check=False)

    def submit(self, job: str, *words: str, wait: bool = True) -> str:
        """Submit a script of jobs/; its id."""
        submission = f"job-{time.monotonic_ns()}"
        self(
            "run", "ray", "job", "submit", "--working-dir", str(REPOSITORY), "--submission-id", submission,
            "--runtime-env", "cluster/runtime_env.yaml", *([] if wait else ["--no-wait"]), "--",
            "python", f"jobs/{job}.py", *words, check=False,
        )  # fmt: skip
        return submission

    def ask(self, path: str, method: str = "GET") -> Any:
        """Of the Jobs API."""
        token = self._token.read_text().strip()
        request = urllib.request.Request(
            f"{self.dashboard}/api/jobs/{path}",
            headers={"Authorization": f"Bearer {token}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read())

    def log(self, job: str) -> str:
        return self.ask(f"{job}/logs")["logs"]

    def ended(self, job: str, seconds: float = 600) -> dict[str, Any]:
        """What is known of a job that has come to its end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.ask(job)
            if found["status"] in {"SUCCEEDED", "FAILED", "STOPPED"}:
                return found
            time.sleep(0.3)
        raise AssertionError(self.log(job))


def await_step(folder: Path, step: int, still: Any = None) -> None:
    """Until the run's history has come to a step."""
    history, end = folder / "history.jsonl", time.monotonic() + 600
    while time.monotonic() < end:
        if history.exists() and f'"step": {step},' in history.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached: {still() if still else ''}")


def pooled(
    tiny: dict[str, Path], output: Path, config: Path, *, share: float = 0.5, **sections: Any
) -> str:
    """A configuration of 160 steps whose teachers and workers have nodes of their own, as a file.

    A worker takes a share of its node.
    """
    training = {"epochs": 20, "num_workers": 2, "checkpoint_every_steps": 16, "evaluate_every_steps": 80,
                "log_every_steps": 4, "worker_resources": {"student_node": share}}  # fmt: skip
    settings = settings_of(tiny, output, **training) | sections
    for teacher in settings["teachers"].values():
        teacher["resources"] = {"teacher_node": 0.1}
    config.write_text(yaml.safe_dump(settings))
    return str(config)
