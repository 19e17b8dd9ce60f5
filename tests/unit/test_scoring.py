"""Teachers weighed by their scores: what is measured, what is kept, what a resumed run does with it."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from raydistill import scoring
from raydistill.config import DistillConfig
from raydistill.config.ensemble import ValidationWeighting
from raydistill.errors import ConfigError, TeacherError
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared, prepare
from raydistill.scoring import ScoreJob, score_teachers, weigh, weigh_teachers
from tests.conftest import two_teachers
from tests.unit.test_evaluator import LABELS, make_task


@pytest.fixture
def prepared(tiny, tmp_path) -> Prepared:
    settings = two_teachers(tiny, tmp_path) | {"ensemble": {"weighting": {"kind": "validation"}}}
    found, faults = prepare(DistillConfig.model_validate(settings))
    assert faults == []
    assert found is not None
    return found


def job_of(
    prepared: Prepared, monkeypatch: Any, answers: Any, metric: str, **changes: Any
) -> ScoreJob:
    """A job whose teachers say this."""
    monkeypatch.setattr(
        scoring, "ask_teachers", lambda *_: (answers, {"wide": {"rows_computed": 11.0}})
    )
    table = make_task(11)._table
    objective = replace(prepared.objective, **changes)
    return ScoreJob(table, LABELS, {}, objective, metric, 4)


def test_scores_are_of_the_rows_whose_label_a_teacher_knows(prepared, monkeypatch):
    """A specialist would lose its weight for the rows in which it does not teach."""
    labels = make_task(11).hard_labels()
    right = torch.nn.functional.one_hot(labels, 2).float()
    half = right.clone()
    half[labels == 1] = half[labels == 1].flip(-1)
    job = job_of(prepared, monkeypatch, {"wide": right, "deep": half}, "accuracy")
    scores, computed = score_teachers(job)
    assert scores == {"wide": 1.0, "deep": pytest.approx(float((labels == 0).double().mean()))}
    assert computed == {"wide": {"rows_computed": 11.0}}
    partial = {"wide": (0, 1), "deep": (0, -1)}
    job = job_of(prepared, monkeypatch, {"deep": half}, "accuracy", columns=partial)
    assert score_teachers(job)[0] == {"deep": 1.0}


def test_scores_are_of_logits_as_they_teach(prepared, monkeypatch):
    """A teacher that is far too sure is given a temperature so that it is not."""
    right = torch.nn.functional.one_hot(make_task(11).hard_labels(), 2).float()
    job = job_of(prepared, monkeypatch, {"wide": right}, "nll", temperatures={"wide": 0.5})
    assert score_teachers(job)[0]["wide"] == pytest.approx(math.log(1 + math.exp(-2)))


def test_a_teacher_that_answers_nonsense_is_named(prepared, monkeypatch):
    """'logits are not finite' does not say whose."""
    job = job_of(prepared, monkeypatch, {"wide": torch.full((11, 2), math.nan)}, "accuracy")
    with pytest.raises(
        TeacherError, match=r"teachers\.wide: cannot be scored on the validation rows"
    ):
        score_teachers(job)


def test_smaller_losses_weigh_more():
    """The worst teacher would lead."""
    scores = {"wide": 0.2, "deep": 0.3}
    for metric, least in (
        ("accuracy", "wide"),
        ("macro_f1", "wide"),
        ("nll", "deep"),
        ("ece", "deep"),
    ):
        section = ValidationWeighting(kind="validation", metric=metric, sharpness=10.0)
        weights = weigh(section.metric, scores, section.sharpness).weights
        assert min(weights, key=weights.__getitem__) == least
        assert min(weights.values()) == pytest.approx(1 / (1 + math.e))


def test_a_resumed_run_weighs_as_it_did(prepared, tmp_path, monkeypatch):
    """Weights measured again, on another machine, may differ in the last bit or be refused an answer."""
    folder = OutputFolder(tmp_path / "run")
    folder.begin("", {})
    said: list[str] = []
    scores = {"wide": 0.1 + 0.2, "deep": 1 / 3}
    monkeypatch.setattr(
        scoring, "as_a_worker", lambda work, job, _: (scores, {"wide": {"rows_computed": 40.0}})
    )
    found, measured = weigh_teachers(prepared, folder, {}, {"validation": None}, said.append)
    assert found.objective.weights == measured.weights != prepared.objective.weights
    assert sum(measured.weights.values()) == pytest.approx(1)
    assert measured.computed == {"wide": {"rows_computed": 40.0}}
    assert said == [
        "teachers weigh by their accuracy on validation: wide 0.339 (scored 0.3000), deep 0.661 (scored 0.3333)"
    ]
    assert found.notes[-1] == f"{said[0]}."

    def never(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(scoring, "as_a_worker", never)
    again, kept = weigh_teachers(prepared, folder, {}, {"validation": None}, said.append)
    assert again.objective.weights == found.objective.weights, "to the last bit"
    assert kept.metrics == measured.metrics == {
        "teachers/wide/validation_score": scores["wide"],
        "teachers/deep/validation_score": scores["deep"],
        "teachers/wide/weight": measured.weights["wide"],
        "teachers/deep/weight": measured.weights["deep"],
    }  # fmt: skip
    assert kept.computed == {}
    assert said[-1] == f"{said[0]} (measured when the run began)"
    folder.weights.write_text('{"metric": ')
    with pytest.raises(ConfigError, match="torn record of the teachers' weights"):
        folder.read_weights()


def test_nothing_is_measured_for_written_scores_or_one_teacher(prepared, tmp_path):
    """Asking all teachers about all validation rows costs what it costs."""
    ensemble = {"weighting": {"kind": "validation", "scores": {"wide": 0.9, "deep": 0.8}}}
    plain = prepared.config.model_dump()
    one = {"teachers": {"wide": plain["teachers"]["wide"]}}
    for change in ({"ensemble": ensemble}, {"ensemble": {}}, one):
        config = DistillConfig.model_validate(plain | change)
        given = replace(prepared, config=config)
        found = weigh_teachers(given, OutputFolder(tmp_path / "run"), {}, {}, lambda _: None)
        assert found == (given, None)
