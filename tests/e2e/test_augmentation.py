"""New rows, a masked language model and a classifier in actors, adversarial examples and changed copies: one run with all of it."""

from pathlib import Path

import pytest

from tests.conftest import make_masked_lm
from tests.e2e.conftest import losses_of, run, settings_of, weights_hash

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_rows_are_made_once_and_teachers_asked_once(
    tiny: dict[str, Path], local_ray: None, tmp_path: Path
) -> None:
    """Rows that differ between two runs of one configuration would be other students, and asked for again."""
    lm = make_masked_lm(tmp_path / "lm")
    settings = settings_of(tiny, tmp_path / "one", max_steps=18, micro_batch_rows=8)
    settings |= {
        "augmentation": {
            "operations": [
                {"kind": "delete", "rate": 0.2},
                {"kind": "masked_lm", "model": str(lm), "max_tokens": 16, "num_cpus": 0.25},
                {
                    "kind": "gumbel",
                    "model": str(tiny["student"]),
                    "max_tokens": 16,
                    "num_cpus": 0.25,
                },
            ],
            "when": "every_epoch",
            "supervision": "weak",
        },
        "adversarial": {"kind": "fgm", "weight": 0.5},
        "losses": [{"kind": "cross_entropy"}, {"kind": "soft_label", "threshold": 0.6}],
        "store": {"path": str(tmp_path / "store")},
        "evaluation": {"latency": False, "perturbations": {"slips": {"kind": "typo", "rate": 0.5}}},
    }
    one = run(settings)
    assert one.metrics["train/steps"] == 18  # 16 an epoch: rows of two epochs are needed
    assert 0 <= one.metrics["test/perturbed/slips/accuracy"] <= 1
    assert len(list((tmp_path / "store" / "augmented").iterdir())) == 1
    assert all(
        "train/losses/adversarial" in values for values in losses_of(one.output_dir).values()
    )
    assert "Changed texts" in (one.output_dir / "report.html").read_text()
    settings["run"] |= {"output_dir": str(tmp_path / "two")}
    two = run(settings)
    assert weights_hash(two.output_dir) == weights_hash(one.output_dir)
    assert two.metrics["teachers/wide/rows_computed"] == 0, "all answers are in the store"
