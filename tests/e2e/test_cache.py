"""The store filled ahead of time, looked after, and enough for a run without teachers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from raydistill.cli import app
from raydistill.cli import run as run_command
from raydistill.errors import ConfigError
from raydistill.ui import Ui
from tests.e2e.conftest import run, settings_of

pytestmark = pytest.mark.e2e


def command(capsys: Any, *arguments: str) -> tuple[int, str]:
    code = run_command(lambda: app(list(arguments), prog_name="raydistill"))
    said = capsys.readouterr()
    return code, said.out + said.err


def test_filled_once_then_no_teacher_is_needed(
    tiny: dict[str, Path], local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What users pay teachers for, once; and what they are told when they think they have."""
    from raydistill import DistillConfig
    from raydistill.cache import cache

    # Scores are measured on the 40 validation rows; the final figures are of 40 test rows.
    scored = {"ensemble": {"weighting": {"kind": "validation", "metric": "nll", "sharpness": 2}}}
    settings = settings_of(tiny, tmp_path / "run", epochs=1) | scored
    cached = settings_of(tiny, tmp_path / "run", epochs=1) | scored
    for teacher in cached["teachers"].values():
        teacher["placement"] = "cached"
    with pytest.raises(ConfigError, match=r"teachers\.wide\.placement is cached, but 208 of its"):
        run(cached)

    config = DistillConfig.model_validate(settings)
    assert cache(config, ui=Ui(quiet=True)) == {"wide": 208, "deep": 208}
    assert cache(config, ui=Ui(quiet=True)) == {"wide": 0, "deep": 0}
    assert not (tmp_path / "run").exists()
    metrics = run(cached).metrics
    assert metrics["teachers/wide/rows_computed"] == metrics["store/misses"] == 0
    assert metrics["test/teachers/wide/accuracy"] >= 0
    wide, deep = (metrics[f"teachers/{name}/validation_score"] for name in ("wide", "deep"))
    assert metrics["teachers/wide/weight"] == pytest.approx(1 / (1 + math.exp(2 * (wide - deep))))
    kept = json.loads((tmp_path / "run" / "teacher_weights.json").read_text())
    assert kept["weights"]["deep"] == metrics["teachers/deep/weight"] != 0.5

    store = str(tmp_path / "store")
    code, said = command(capsys, "store", "list", "--store", store)
    assert (code, said.count("deep"), said.count(" 208 ")) == (0, 1 + said.count("/deep"), 2)
    code, said = command(capsys, "store", "verify", "--store", store)
    assert (code, ": 0 broken" in said) == (0, True)
    victim = next((tmp_path / "store").glob("*/*.arrow"))
    victim.write_bytes(victim.read_bytes()[:-1])
    code, said = command(capsys, "store", "verify", "--store", store)
    assert (code, "broken, set aside: " in said) == (1, True)
    code, said = command(capsys, "store", "prune", "--store", store, "--max-bytes", "1KB")
    assert code == 0
    assert not list((tmp_path / "store").rglob("*.arrow"))
    code, said = command(capsys, "store", "prune", "--store", store, "--max-bytes", "much")
    assert (code, "--max-bytes must be a number of bytes" in said) == (2, True)
    code, said = command(capsys, "store", "list", "--store", str(tmp_path / "nowhere"))
    assert (code, "--store must be an existing folder" in said) == (2, True)
