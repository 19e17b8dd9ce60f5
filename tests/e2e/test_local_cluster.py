"""Jobs on a cluster of several nodes, with token authentication: `ray job submit`, `ray job stop`, nodes that die."""

import json
import subprocess
import sys

import pytest

from raydistill.training.checkpoint import read_progress
from tests.e2e.conftest import losses_of, weights_hash
from tests.e2e.local import LocalCluster, await_step, pooled

# The first test waits for the cluster: half a minute, but many on a machine that is busy.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head without CPUs, a node of teachers, one of students."""
    found = LocalCluster(tmp_path_factory.mktemp("cluster"), "teacher", "student")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def undisturbed(cluster, tiny, tmp_path_factory):
    """The folder of a run that nothing happens to, and its job."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tracking = {"uri": f"sqlite:///{folder / 'mlflow.db'}", "registered_model": "tiny-student"}
    config = pooled(tiny, folder / "run", folder / "config.yaml", tracking=tracking)
    return folder / "run", config, cluster.submit("distill", config)


def test_job_distils_on_a_cluster_with_tokens(cluster, undisturbed, tmp_path):
    """What runs embedded must run unchanged where the driver is a job and workers are elsewhere."""
    folder, config, job = undisturbed
    assert cluster.ended(job)["status"] == "SUCCEEDED", cluster.log(job)
    assert cluster.ended(job)["driver_exit_code"] == 0
    assert "registered models:/tiny-student/1" in cluster.log(job)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["teachers/wide/rows_computed"] == 128 + 40

    # A wrong configuration, a pool that is not there: exit code 2 and the sentence in the log.
    wrong = cluster.submit(
        "distill", config, "--set", "losses.1.temprature=2", "--set", "training.worker_resources.gold_node=1",
        "--output", str(tmp_path / "wrong"),
    )  # fmt: skip
    assert cluster.ended(wrong)["driver_exit_code"] == 2
    log = cluster.log(wrong)
    assert "Did you mean 'temperature'?" in log
    assert "2 gold_node are asked for by training.worker_resources" in log
    assert "Traceback" not in log

    # Without the token nobody gets in.
    stranger = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "job", "list", "--address", cluster.dashboard],
        env=cluster.environment | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert stranger.returncode != 0


def test_a_stopped_job_resumes_to_the_same_student(cluster, undisturbed, tiny, tmp_path):
    """`ray job stop` in the middle of an epoch: what is killed before it has saved begins again at an older step."""
    folder = tmp_path / "run"
    tracking = {"enabled": False}
    config = pooled(tiny, folder, tmp_path / "config.yaml", tracking=tracking)
    job = cluster.submit("distill", config, wait=False)
    await_step(folder, 52, lambda: cluster.log(job))
    assert cluster.ask(f"{job}/stop", method="POST") == {"stopped": True}  # as `ray job stop` does
    assert cluster.ended(job)["status"] == "STOPPED"
    assert "interrupted; continue with --resume" in cluster.log(job)
    folders = [one for one in (folder / "checkpoints").rglob("checkpoint_*") if one.is_dir()]
    saved = [read_progress(one).step for one in folders]
    assert max(saved) >= max(losses_of(folder)), "what was computed last was not saved"
    again = cluster.submit("distill", config, "--resume")
    assert cluster.ended(again)["driver_exit_code"] == 0, cluster.log(again)
    assert weights_hash(folder) == weights_hash(undisturbed[0])


def test_nodes_leave_and_join_and_the_student_stays_the_same(cluster, undisturbed, tiny, tmp_path):
    """The node of the teachers dies, then that of the students; each time another joins."""
    folder = tmp_path / "run"
    sections = {"tracking": {"enabled": False}, "store": {"enabled": False}}
    config = pooled(tiny, folder, tmp_path / "config.yaml", **sections)
    job = cluster.submit("distill", config, wait=False)
    await_step(folder, 24, lambda: cluster.log(job))
    cluster("kill", "teacher-0")
    cluster("node", "teacher")
    await_step(folder, 84, lambda: cluster.log(job))
    cluster("kill", "student-0")
    cluster("node", "student")
    assert cluster.ended(job)["status"] == "SUCCEEDED", cluster.log(job)
    assert "training workers were lost" in cluster.log(job)
    assert weights_hash(folder) == weights_hash(undisturbed[0])
    assert losses_of(folder) == losses_of(undisturbed[0])
