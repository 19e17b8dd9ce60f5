"""A search as its users have it: the demo's reviews, jobs on a cluster of three nodes with a token, an MLflow server.

    pytest -m slow tests/e2e/test_search_on_a_cluster.py [--basetemp FOLDER]

takes about half an hour and what the demo fetches. Where there is a chromium, it takes pictures of the pages.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from raydistill.config import to_yaml
from raydistill.demo.assets import fetch_assets
from raydistill.demo.recipe import teacher_config
from raydistill.tracking.connection import connect
from tests.e2e.local import LocalCluster

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(5400)]

TEACHERS = ("minilm-l6", "minilm-sre")
TRIALS = 16
SEEDS = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head without CPUs, a node of teachers, one of students, and the server."""
    found = LocalCluster(tmp_path_factory.mktemp("cluster"), "teacher", "student", mlflow=True)
    yield found
    found.stop()


def succeeded(cluster: LocalCluster, job: str, seconds: float = 600) -> str:
    """The log of a job that ends well."""
    found = cluster.ended(job, seconds)
    log = cluster.log(job)
    assert (found["status"], found["driver_exit_code"]) == ("SUCCEEDED", 0), log
    assert "Traceback" not in log
    return log


def picture(address: str, target: Path) -> None:
    """Of a page, as headless Chromium shows it."""
    subprocess.run(
        ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1500,1100",
         "--virtual-time-budget=30000", f"--screenshot={target}", address],
        check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    assert target.stat().st_size > 20_000


def fewer_rows(split: Path) -> None:
    """Without its last 57 rows: a split as long as another would hide which of them was answered."""
    lines = split.read_text("utf-8").splitlines(keepends=True)
    split.write_text("".join(lines[:-57]), "utf-8")


def texts_of(data: Path, *splits: str) -> set[str]:
    """Distinct ones: rows of one text are answered once."""
    return {
        json.loads(line)["text"]
        for split in splits
        for line in (data / f"{split}.jsonl").read_text("utf-8").splitlines()
    }


def test_a_search_from_submission_to_the_registry(cluster, tmp_path_factory):
    """Sixteen trials whose teachers answer each row once, or each their own; a winner that nobody can load."""
    folder = tmp_path_factory.mktemp("search")
    assets = fetch_assets(folder, print, labelled_rows=2000)
    data = assets.train.parent
    fewer_rows(data / "validation.jsonl")
    for name in TEACHERS:
        config = teacher_config(
            name, assets.models[name], data, folder, seed=0, tracking_uri=cluster.tracking
        )
        path = folder / f"{name}.yaml"
        path.write_text(to_yaml(config), "utf-8")
        log = succeeded(cluster, cluster.submit("teach", str(path)))
        assert f"models:/demo-teacher-{name}/1" in log

    output = folder / "tuned"
    given = [
        "jobs/configs/reviews_search.yaml", "--set", f"tracking.uri={cluster.tracking}",
        "--set", f"data.folder={data}", "--set", f"student.model={assets.models['bert-tiny']}",
        "--set", f"run.output_dir={output}", "--set", f"store.path={folder / 'store'}",
    ]  # fmt: skip
    succeeded(cluster, cluster.submit("tune", *given, "--set", "tuning.concurrent=2"), 3600)
    found = json.loads((output / "tuning.json").read_text())

    # All trials, and each row that any of them or of the last runs may ask, once; nobody asks about
    # validation rows.
    assert len(found["trials"]) == TRIALS
    assert {trial["state"] for trial in found["trials"]} <= {"finished", "stopped"}
    asked = texts_of(data, "train", "unlabelled", "test")
    assert len(asked) != len(texts_of(data, "train", "unlabelled", "validation"))
    assert found["rows_computed"] == dict.fromkeys(TEACHERS, len(asked))
    assert set(found["final"]) in ({"winner"}, {"winner", "as-written"})
    assert all(len(runs) == SEEDS for runs in found["final"].values())
    assert "recipe as it was written" in found["sentence"]

    # One nested run a trial.
    client = connect(cluster.tracking)
    experiment = client.get_experiment_by_name("raydistill").experiment_id
    nested = client.search_runs(
        [experiment], filter_string=f"tags.`mlflow.parentRunId` = '{found['run_id']}'"
    )
    assert sorted(int(run.data.tags["raydistill.trial"]) for run in nested) == list(range(TRIALS))
    files = {file.path for file in client.list_artifacts(found["run_id"])}
    assert {"report.html", "tuning.json", "trials.jsonl", "best.yaml", "plots"} <= files

    # The winner is in the registry, and answers from there.
    assert found["model_uri"] == "models:/demo-student/1"
    assert client.get_model_version_by_alias("demo-student", "champion").version == "1"
    words = ["--model", "models:/demo-student@champion", "--split", "validation"]
    job = cluster.submit("evaluate", *given, *words)
    assert "accuracy" in succeeded(cluster, job)

    if shutil.which("chromium"):
        pages = {
            "report": f"file://{output / 'report.html'}",
            "mlflow_runs": f"{cluster.tracking}/#/experiments/{experiment}/runs",
            "mlflow_search": f"{cluster.tracking}/#/experiments/{experiment}/runs/{found['run_id']}",
            "mlflow_version": f"{cluster.tracking}/#/models/demo-student/versions/1",
        }
        for name, address in pages.items():
            picture(address, folder / f"{name}.png")
