"""Population-based training: members that pause, one that goes on from another's weights, Ctrl-C between, resume."""

from pathlib import Path

import pytest

from raydistill.config import DistillConfig
from raydistill.tuning import tune
from raydistill.ui import Ui
from tests.e2e.conftest import settings_of, weights_hash

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class BrokenOff(Ui):
    """Ctrl-C in the middle of an exchange: the weights have moved, the record has not."""

    def say(self, sentence: str) -> None:
        if " goes on from trial " in sentence:
            raise KeyboardInterrupt
        super().say(sentence)


def test_a_member_that_goes_on_from_another_is_one_run_with_its_course(
    tiny: dict[str, Path], local_ray: None, tmp_path: Path
) -> None:
    """Of all that a population does nothing may be left in the student but the course of its settings: whoever has that
    course must be able to train the same student in one run, to the last bit."""
    output = tmp_path / "search"
    settings = settings_of(tiny, output, epochs=4, evaluate_every_steps=8) | {
        "tuning": {
            "space": {
                "losses.1.temperature": {"kind": "loguniform", "low": 1.0, "high": 8.0},
                "losses.1.weight": {"kind": "loguniform", "low": 0.01, "high": 10.0},
            },
            "search": {"kind": "random"},
            "objectives": [{"metric": "validation/nll"}],
            "trials": 3,
            "stopper": {"kind": "pbt", "rounds": 2, "exchange": 0.5},
            "concurrent": 1,
            "final": {"seeds": 1, "register_model": False},
        },
    }
    config = DistillConfig.model_validate(settings)
    with pytest.raises(KeyboardInterrupt):
        tune(config, ui=BrokenOff(quiet=True))
    result = tune(config, resume=True, ui=Ui(quiet=True))

    assert [record.state for record in result.records] == ["finished"] * 3
    assert result.computed == {"wide": 96 + 32 + 40, "deep": 96 + 32 + 40}
    moved = [record for record in result.records if len(record.changes) > 1]
    assert moved, "nobody went on from another"
    for record in moved:
        step, donor, point = record.changes[-1]
        assert step == 16
        assert donor is not None
        before = result.records[donor].changes[0][2]
        assert point != before
        for path, value in point.items():
            assert value / before[path] == pytest.approx(0.8) or value / before[
                path
            ] == pytest.approx(1.25)
    winner = result.winner
    assert winner is not None
    assert winner.values["validation/nll"] == min(
        r.values["validation/nll"] for r in result.records
    )
    trial = output / "trials" / f"{winner.number:04}" / "seed-5"
    again = f"trial-{winner.number:04}" if winner.point else "as-written"
    assert weights_hash(trial) == weights_hash(output / "final" / f"{again}-seed5")
