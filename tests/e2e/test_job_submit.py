"""A cluster of its own, with token authentication, as `ray job submit` finds it."""

import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import settings_of
from tests.e2e.local import REPOSITORY, clean_environment, free_ports

pytestmark = pytest.mark.e2e


@pytest.fixture
def cluster(tmp_path):
    """`ray start --head` with a fresh token; stopped afterwards."""
    ray = str(Path(sysconfig.get_path("scripts")) / "ray")
    sockets = tempfile.mkdtemp(prefix="rd")  # paths of sockets are at most 107 bytes long
    home = tmp_path / "home"
    home.mkdir()
    port, dashboard, agent, client = free_ports(4)
    environment = clean_environment(HOME=str(home), RAY_AUTH_MODE="token")

    def call(
        *arguments: str, timeout: int = 240, check: bool = True
    ) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [ray, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    call("get-auth-token", "--generate")
    start = subprocess.Popen(
        [ray, "start", "--head", "--block", "--num-cpus=8", f"--port={port}",
         f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
         f"--ray-client-server-port={client}", f"--temp-dir={sockets}"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{dashboard}"
    try:
        for _ in range(60):
            if call("job", "list", "--address", address, check=False, timeout=60).returncode == 0:
                break
            assert start.poll() is None, start.communicate()[0]
        yield call, address, environment
    finally:
        start.terminate()
        try:
            start.wait(60)
        except subprocess.TimeoutExpired:
            start.kill()
        shutil.rmtree(sockets, ignore_errors=True)


def test_job_distils_on_a_cluster_with_tokens(cluster, tiny, tmp_path):
    """What runs embedded must run unchanged where the driver is a job and workers are elsewhere."""
    call, address, environment = cluster
    output = tmp_path / "run"
    settings = settings_of(tiny, output, epochs=1, num_workers=2)
    settings["tracking"] = {
        "uri": f"sqlite:///{tmp_path / 'mlflow.db'}", "registered_model": "tiny-student",
    }  # fmt: skip
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    submit = ("job", "submit", "--address", address, "--working-dir", str(REPOSITORY), "--",
              "python", "jobs/distill.py")  # fmt: skip

    done = call(*submit, str(config))
    assert "registered models:/tiny-student/1" in done.stdout, done.stdout
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["teachers/wide/rows_computed"] == 128 + 40

    # A wrong configuration fails the job with the sentence in its log.
    wrong = call(*submit, str(config), "--set", "losses.1.temprature=2", check=False)
    assert wrong.returncode != 0
    assert "Did you mean 'temperature'?" in wrong.stdout + wrong.stderr

    # Without the token nobody gets in.
    stranger = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "job", "list", "--address", address],
        env=environment | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert stranger.returncode != 0
