"""What teachers answer for a search: the rows of its runs, and no others."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import DistillConfig, parse_config
from raydistill.config.task import QuestionAnsweringTask
from raydistill.prepare import Prepared, Resources, prepare
from raydistill.store import row_keys
from raydistill.storing import needed_answers
from raydistill.tuning import specs
from raydistill.tuning.asking import unknown_answers
from raydistill.tuning.check import Checked, check_search
from raydistill.tuning.finale import DEFAULT, Finale
from raydistill.tuning.records import SearchFolder, TrialRecord
from raydistill.tuning.share import _lacking
from raydistill.tuning.track import SearchRecord
from raydistill.ui import Ui
from tests.unit.test_search_check import search_of
from tests.unit.test_search_space import search

QUIET = Ui(quiet=True)
TRAIN, UNLABELLED, VALIDATION, TEST = 96, 32, 24, 40
LAST = {"seeds": 1, "register_model": False}


@pytest.fixture(autouse=True)
def no_object_store(monkeypatch):
    monkeypatch.setattr(specs, "object_store_bytes", lambda: 1 << 30)


@pytest.fixture
def uneven(tiny, tmp_path) -> dict[str, Path]:
    """Splits of which no two have as many rows: a sum says which were asked."""
    data = shutil.copytree(tiny["data"], tmp_path / "data")
    rows = (data / "validation.jsonl").read_text().splitlines(keepends=True)
    (data / "validation.jsonl").write_text("".join(rows[:VALIDATION]))
    return {**tiny, "data": data}


def keys_of(prepared: Prepared, name: str = "wide") -> set[bytes]:
    """Of all rows that a run asks a teacher about."""
    tasks = [task for task, _ in needed_answers(prepared, name)]
    return {k.tobytes() for task in tasks for k in row_keys(task.texts(range(task.num_rows))[1])}


def prepared_run(settings: Any) -> Prepared:
    config, faults = parse_config(settings)
    assert config is not None, faults
    prepared, faults = prepare(config)
    assert prepared is not None, faults
    return prepared


def checked_search(settings: dict[str, Any]) -> Checked:
    return check_search(DistillConfig.model_validate(settings), Resources(4.0, 0.0), resume=False)


@pytest.mark.parametrize(
    ("final", "changes", "rows"),
    [
        (None, {}, TRAIN + UNLABELLED),
        (LAST, {}, TRAIN + UNLABELLED + TEST),
        (LAST, {"evaluation": {"teachers": False}}, TRAIN + UNLABELLED),
        (LAST, {"evaluation": {"splits": ["validation"]}}, TRAIN + UNLABELLED + VALIDATION),
        (None, {"ensemble": {"weighting": {"kind": "validation"}}}, TRAIN + UNLABELLED + VALIDATION),
    ],
)  # fmt: skip
def test_teachers_answer_the_rows_of_trials_and_of_the_last_runs(
    uneven, tmp_path, final, changes, rows
):
    """Rows of a test split that no run would ask about, or rows that are missing when a trial asks."""
    checked = checked_search(search_of(uneven, tmp_path, final=final) | changes)
    answered = keys_of(checked.union)
    assert len(answered) == rows
    assert _lacking(checked.union, "wide") == rows, "which is how rows_computed counts"

    folder = SearchFolder.of(checked.config)
    record = SearchRecord(checked.config, folder, resume=False, ui=QUIET)
    trial = specs.run_spec(
        checked.config, checked.config, name="t", seed=0, output=tmp_path / "t", tags={},
        concurrent=1, objectives=[], varied=None,
    )  # fmt: skip
    asked = keys_of(prepared_run(trial.settings))
    if final:
        winner = TrialRecord(1, {"losses.1.temperature": 4.0})
        finale = Finale(checked, folder, record, winner, QUIET)
        last = [spec for spec in finale._left if DEFAULT in spec.name]
        asked |= keys_of(prepared_run(last[0].runs[0].settings))
    assert asked == answered


SUBSETS = {"kind": "subsets"}
TWO = {"kind": "choice", "values": ["x", "y"]}
WHOLE = {"kind": "choice", "values": [{"model": "x"}, {"model": "y"}]}
TOKENS = {"kind": "choice", "values": [64, 128]}
WIDTHS = {"kind": "randint", "low": 16, "high": 32}


@pytest.mark.parametrize(
    ("path", "parameter", "cuts"),
    [
        ("teachers", SUBSETS, True),
        ("student", WHOLE, True),
        ("student.model", TWO, True),
        ("student.tokenizer", TWO, True),
        ("student.max_tokens", TOKENS, True),
        ("student.from_teacher.teacher", TWO, True),
        ("student.network.embeddings.model", TWO, True),
        ("student.from_config.hidden_size", WIDTHS, False),
        ("student.from_teacher.layers", {"kind": "choice", "values": [[0], [1]]}, False),
        ("student.dropout", {"kind": "uniform", "low": 0.0, "high": 0.1}, False),
        ("losses.1.temperature", {"kind": "uniform", "low": 1, "high": 8}, False),
    ],
)
def test_windows_that_differ_between_runs_are_not_known(path, parameter, cuts):
    """Windows fit all tokenizers of a run: without one of its teachers contexts are cut elsewhere, and nobody answered those."""
    config = search({path: parameter})
    assert unknown_answers(config, stream=False, points=[]) == "", "of texts as they are"
    answering = QuestionAnsweringTask(kind="question_answering")
    reason = unknown_answers(config.model_copy(update={"task": answering}), stream=False, points=[])
    expected = f"tuning.space.{path} decides where contexts are cut into windows, which fit all models of a run"
    assert reason == (expected if cuts else "")
