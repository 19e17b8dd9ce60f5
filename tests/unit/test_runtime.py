"""Ray's own failures as sentences, and what of it is left unsaid."""

import subprocess
import sys

import pytest
from ray.exceptions import AuthenticationError

from raydistill.config.training import RunSection
from raydistill.errors import ConfigError, TrainingError
from raydistill.prepare import Resources
from raydistill.runtime import connect_ray


def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is too busy Ray raises a bare Exception, and users saw its traceback."""
    import ray

    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nMore.")  # noqa: TRY002 - as Ray does

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", late)
    with (
        pytest.raises(
            TrainingError, match=r"did not start: The current node timed out during startup\. Does"
        ),
        connect_ray(RunSection(name="x"), Resources(1.0, 0.0)),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AuthenticationError("No token.\nMore."), "wants another token, or any: 10.0.0.1:6379. Set RAY_AUTH_MODE"),
        (ConnectionError("Nobody there.\nMore."), "no Ray cluster at 10.0.0.1:6379: Nobody there."),
    ],
)  # fmt: skip
def test_a_cluster_that_is_closed_or_away_is_the_users_to_mend(
    monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    """A missing token was called a failure of Ray, with exit code 1."""
    import ray

    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    run = RunSection(name="x", ray_address="10.0.0.1:6379")
    with pytest.raises(ConfigError) as caught, connect_ray(run, Resources(1.0, 0.0)):
        pass
    (line,) = str(caught.value).splitlines()
    assert line.startswith("run.ray_address leads to")
    assert sentence in line


def test_a_head_without_cpus_does_not_count_its_processes_aloud() -> None:
    """Ray writes this about every process of such a head, between the lines of the run; other lines still come."""
    code = (
        "import raydistill.cli as cli\n"
        "cli.run = lambda app: 0\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "from ray._private.ray_logging import stdout_deduplicator\n"
        "lines = ['WARNING: 8 PYTHON worker processes have been started on node: 0a', 'a worker was killed']\n"
        "(batch,) = stdout_deduplicator.deduplicate({'lines': lines, 'pid': 'raylet', 'is_err': False})\n"
        "print(batch['lines'])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert said.stdout == "['a worker was killed']\n"
