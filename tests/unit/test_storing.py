"""Which shelf a run reads, and which one `cache` fills for it."""

import shutil
from typing import Any

import pytest

from raydistill.cache import only_teachers
from raydistill.config import DistillConfig
from raydistill.prepare import Prepared, Resources, needed_resources, prepare
from raydistill.storing import (
    known_shelf,
    missing_rows,
    missing_texts,
    needed_answers,
    store_line,
)
from tests.conftest import two_teachers


@pytest.fixture
def settings(tiny, tmp_path) -> dict[str, Any]:
    """One teacher with the workers, which have a GPU each, and one by itself without."""
    found = two_teachers(tiny, tmp_path)
    found["teachers"]["wide"]["placement"] = "inline"
    found["teachers"]["deep"]["num_cpus"] = 3
    found["training"] = {"num_workers": 2, "gpus_per_worker": 1, "cpus_per_worker": 4}
    found["tracking"] = {"enabled": False}
    return found


def prepared(config: DistillConfig) -> Prepared:
    found, faults = prepare(config)
    assert faults == []
    assert found is not None
    return found


def test_what_cache_fills_is_where_an_inline_teacher_looks(settings):
    """Filled on another device, every answer would be computed again by the run."""
    config = DistillConfig.model_validate(settings)
    filled, run = prepared(only_teachers(config)), prepared(config)
    for name, inline in (("wide", True), ("deep", False)):
        there, here = store_line(filled, name, inline=False), store_line(run, name, inline=inline)
        assert there is not None
        assert here is not None
        assert there.shelf == here.shelf
        assert there.uri == here.uri
    assert store_line(run, "wide", inline=True).shelf.device == "cuda"
    assert store_line(run, "deep", inline=False).shelf.device == "cpu"


def test_another_backend_has_another_shelf(settings):
    """Its last bits differ, and a shelf of both would make a run depend on who filled it."""
    torch_shelf = store_line(prepared(DistillConfig.model_validate(settings)), "deep", inline=False)
    settings["teachers"]["deep"]["backend"] = "onnx"
    onnx_shelf = store_line(prepared(DistillConfig.model_validate(settings)), "deep", inline=False)
    assert torch_shelf is not None
    assert onnx_shelf is not None
    assert torch_shelf.shelf.name != onnx_shelf.shelf.name
    assert "onnxruntime" in onnx_shelf.shelf.software
    assert "onnxruntime" not in torch_shelf.shelf.software


def test_cache_needs_the_teachers_alone(settings):
    """On a machine of one GPU the workers' share would leave none for the teacher."""
    filling = only_teachers(DistillConfig.model_validate(settings))
    assert needed_resources(filling) == Resources(cpus=4 + 4 + 3, gpus=1)
    assert {t.placement for t in filling.teachers.values()} == {"remote"}
    assert (filling.teachers["wide"].num_cpus, filling.teachers["deep"].num_cpus) == (4, 3)


def test_an_empty_store_misses_every_row_and_knows_no_shelf(settings):
    """A teacher counted as stored would never be started."""
    run = prepared(DistillConfig.model_validate(settings))
    rows = sum(task.num_rows for task, _ in needed_answers(run, "deep"))
    assert rows > run.num_train_rows
    line = store_line(run, "deep", inline=False)
    assert line is not None
    assert missing_rows(run, "deep", line) == rows
    assert known_shelf(run, "deep") is None


def test_rows_of_one_text_are_missed_once(settings, tmp_path):
    """A teacher computes a text once, so a count of rows would be more than it ever computes."""
    data = tmp_path / "data"
    shutil.copytree(settings["data"]["folder"], data)
    train = data / "train.jsonl"
    train.write_text(train.read_text() * 2)
    settings["data"]["folder"] = str(data)
    run = prepared(DistillConfig.model_validate(settings))
    line = store_line(run, "deep", inline=False)
    assert line is not None
    tasks = [task for task, _ in needed_answers(run, "deep")]
    texts = {text for task in tasks for text in zip(*task.texts(range(task.num_rows))[1])}  # noqa: B905
    assert missing_texts(run, "deep", line) == len(texts) < missing_rows(run, "deep", line)
