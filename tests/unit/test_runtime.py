"""Ray's own failures as sentences."""

import pytest

from raydistill.config.training import RunSection
from raydistill.errors import TrainingError
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
