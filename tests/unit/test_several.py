"""Several tasks: whose turn it is, what a step moves, what is kept, and what is refused."""

import copy
import json
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from raydistill.config import TasksConfig, parse_any
from raydistill.data import epoch_order, task_shares, turns
from raydistill.models import ModelSource
from raydistill.objective import Objective
from raydistill.pipeline import Fed, MicroBatch, by_turns, plan_micro_batches, table_steps
from raydistill.prepare import prepare_tasks
from raydistill.tasks import Batch
from raydistill.training import checkpoint
from raydistill.training.parallel import core_of, parallelize
from raydistill.training.several import TaskStudents, make_tasks
from raydistill.training.several_worker import mean_of_tasks
from raydistill.training.step import build_optimizer, train_step
from raydistill.training.student import StudentPlan
from tests.conftest import make_model, make_rows, write_rows
from tests.unit.objectives import (
    LOSSES,
    NOW,
    make_fed,
    make_module,
    make_plan,
    make_tokenizer,
)
from tests.unit.test_step import step

CPU = torch.device("cpu")


def settings() -> dict[str, Any]:
    """A sound configuration of two tasks, without files."""
    return {
        "run": {"name": "x"},
        "tasks": {
            "mood": {
                "data": {"folder": "mood"},
                "teachers": {"wide": {"model": "wide"}},
                "losses": [{"kind": "cross_entropy"}, {"kind": "forward_kl"}],
            },
            "stars": {
                "data": {"folder": "stars"},
                "task": {"kind": "regression"},
                "losses": [{"kind": "mse"}],
            },
        },
        "student": {"model": "small"},
    }


# --- whose turn it is


def test_tasks_are_drawn_in_proportion_to_a_power_of_their_size() -> None:
    """A small task would be forgotten, or a large one hardly seen."""
    shares = task_shares({"a": 100, "b": 400, "c": 2500}, 0.5)
    assert list(shares.values()) == pytest.approx([10 / 80, 20 / 80, 50 / 80])
    assert task_shares({"a": 1, "b": 7}, 0.0) == {"a": 0.5, "b": 0.5}
    assert task_shares({"a": 1, "b": 3}, 1.0) == {"a": 0.25, "b": 0.75}
    drawn = Counter(turns(list(shares.values()), seed=3, total=20_000).tolist())
    for place, share in enumerate(shares.values()):
        spread = (share * (1 - share) / 20_000) ** 0.5
        assert abs(drawn[place] / 20_000 - share) < 4 * spread


def test_turns_depend_on_seed_and_step_alone() -> None:
    """A longer run would not begin as a shorter one, a resumed one not go on."""
    long = turns([0.5, 0.5], seed=1, total=500)
    assert (turns([0.5, 0.5], seed=1, total=100) == long[:100]).all()
    assert (turns([0.5, 0.5], seed=2, total=500) != long).any()
    assert turns([1.0], seed=1, total=5).tolist() == [0] * 5


def rows_of(world: int, rank: int, done: int, micro: int | None) -> list[tuple[int, str, int]]:
    """(step, task, row) that a worker gets from some step on; task b has 5 rows, a has 7."""
    sizes = {"a": 7, "b": 5}
    drawn = ["ab"[place] for place in turns([0.5, 0.5], seed=4, total=30)]

    def plan_of(task: str, first: int, total: int) -> Iterator[MicroBatch]:
        def batch(rows: list[int], filler: bool) -> Batch:
            counts = torch.full((len(rows),), not filler)
            texts = ((task,) * len(rows),)
            return Batch(tuple(rows), texts, {}, torch.zeros(len(rows)), counts)

        steps = table_steps(sizes[task], batch_rows=3, seed=4, first_step=first, total_steps=total)
        return plan_micro_batches(
            steps, micro_batch_rows=micro, rank=rank, world=world, make_batch=batch,
            count=lambda batch: batch.counts.sum(),
        )  # fmt: skip

    return [
        (one.step, one.batch.texts[0][0], row)
        for one in by_turns(drawn, done, plan_of)
        for row, counts in zip(one.batch.row_ids, one.batch.counts, strict=True)
        if counts
    ]


def test_each_task_goes_through_its_own_epochs_by_turns() -> None:
    """A task's rows must not depend on how often another's turn came."""
    found = rows_of(1, 0, 0, None)
    drawn = ["ab"[place] for place in turns([0.5, 0.5], seed=4, total=30)]
    assert dict(sorted({step: task for step, task, _ in found}.items())) == dict(enumerate(drawn))
    for task, size in (("a", 7), ("b", 5)):
        rows = [row for _, other, row in found if other == task]
        expected = [row for epoch in range(9) for row in epoch_order(size, 4, epoch).tolist()]
        assert len(rows) > 2 * size
        assert rows == expected[: len(rows)]


@pytest.mark.parametrize("done", [0, 11])
def test_workers_and_micro_batches_and_a_break_change_no_rows(done: int) -> None:
    """A resumed run, or one on more machines, would be another run."""
    whole = [one for one in rows_of(1, 0, 0, None) if one[0] >= done]
    parts = [one for rank in range(2) for one in rows_of(2, rank, done, 1)]
    assert sorted(parts) == sorted(whole)


# --- what a step moves


def make_students(folder: Path) -> TaskStudents:
    """Task a with two labels, task b with three; teachers' features in both."""
    two = make_plan(LOSSES)
    three = replace(two, columns={"wide": (1, 0, 1), "deep": (0, 1, 0)}, seed=9)
    source = ModelSource("student", str(folder), str(folder))
    plans = {
        "a": (StudentPlan(source, ("negative", "positive"), 16, 0.0, head_columns=(0, 1)), two),
        "b": (StudentPlan(source, ("x", "y", "z"), 16, 0.0), three),
    }
    torch.manual_seed(0)
    weights = {"a": 1.0, "b": 0.5}
    return make_tasks(plans, weights, make_tokenizer(folder), owner="a").train()


def feed_of(
    students: TaskStudents, folder: Path, task: str, pieces: list[list[int]], *, filler: bool = False
) -> list[Fed]:  # fmt: skip
    objective = students.part(task).objective
    fed = make_fed(objective.plan, objective, make_tokenizer(folder), pieces, filler=filler)
    return [
        Fed(one.micro_batch, {f"{task}/{name}": s for name, s in one.signals.items()})
        for one in fed
    ]


def do_step(module: Any, fed: list[Fed], task: str, optimizer: Any, world: int = 1) -> Any:
    return train_step(
        module, fed, optimizer=optimizer, moment=NOW, max_grad_norm=1.0, device=CPU,
        world=world, frozen=core_of(module).turn_to(task),
    )  # fmt: skip


WHOLE = [list(range(8))]


def test_a_step_of_one_task_is_that_of_its_own_student_and_leaves_the_others_head(
    tiny: dict[str, Path],
) -> None:
    """A head would drift by momentum and decay whenever another task has its turn."""
    folder = tiny["student"]
    students = make_students(folder)
    optimizer = build_optimizer(students, make_training())
    for task in ("b", "b"):  # b's head has momentum now
        do_step(students, feed_of(students, folder, task, WHOLE), task, optimizer)
    before = copy.deepcopy(students.state_dict())
    metrics = do_step(students, feed_of(students, folder, "a", WHOLE), "a", optimizer)
    others = {id(parameter) for parameter in students.turn_to("a")}
    moved = {
        name: not torch.equal(before[name], value) for name, value in students.named_parameters()
    }
    for name, parameter in students.named_parameters():
        assert moved[name] == (id(parameter) not in others), name
        assert (parameter.grad is None) == (id(parameter) in others), name
    names = [name for name, parameter in students.named_parameters() if id(parameter) in others]
    assert {name.split(".")[1] for name in names} == {"task_b"}
    assert any("classifier" in name for name in names)
    assert any("projections" in name for name in names)

    alone = make_module(folder, make_plan(LOSSES))
    alone.load_state_dict(
        {n.removeprefix("by_task.task_a."): v for n, v in before.items() if "task_a" in n}
    )
    fed = make_fed(make_plan(LOSSES), alone.objective, make_tokenizer(folder), WHOLE)
    expected = step(alone, fed, torch.optim.SGD(alone.parameters(), lr=0.1), 1.0)
    torch.testing.assert_close(metrics.loss, expected.loss)
    torch.testing.assert_close(metrics.grad_norm, expected.grad_norm)
    found = dict(students.named_parameters())
    for name, parameter in alone.named_parameters():
        torch.testing.assert_close(found[f"by_task.task_a.{name}"].grad, parameter.grad, msg=name)


def make_training(**changes: Any) -> Any:
    from raydistill.config.training import TrainingSection

    return TrainingSection(**{"learning_rate": 0.01, "epochs": 1, **changes})


def test_a_tasks_weight_multiplies_what_is_minimised(tiny: dict[str, Path]) -> None:
    """A setting that nothing follows from."""
    folder = tiny["student"]
    students = make_students(folder)
    students.turn_to("b")
    fed = feed_of(students, folder, "b", WHOLE)[0]
    counts = fed.micro_batch.share.float()
    terms, loss = students(fed.micro_batch.batch, fed.signals, NOW, counts)
    weighted = sum(w.weight * t for w, t in zip(LOSSES, terms, strict=True))
    torch.testing.assert_close(loss, 0.5 * weighted)


STEPS = (("a", WHOLE), ("b", [[0, 1, 2, 3, 4]]), ("a", [[8]]))
SHARES = (
    (("a", [[0, 1, 2], [3, 4]]), ("b", [[0, 1, 2]]), ("a", [[8]])),
    (("a", [[5, 6, 7]]), ("b", [[3, 4]]), ("a", [[8]])),  # the last only fills the place of none
)


def _worker(rank: int, port: int, folder: Path, results: Path) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    students = make_students(folder)
    example = make_tokenizer(folder)(["good"], return_tensors="pt")
    module = parallelize(students, device=CPU, world=2, sharding="none", example=example)
    optimizer = torch.optim.SGD(students.parameters(), lr=0.1, momentum=0.9)
    for place, (task, pieces) in enumerate(SHARES[rank]):
        fed = feed_of(students, folder, task, pieces, filler=rank == 1 and place == 2)
        do_step(module, fed, task, optimizer, world=2)
    torch.save(students.state_dict(), results / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_equal_one(tiny: dict[str, Path], tmp_path: Path) -> None:
    """DDP would wait for ever for the gradient of a head whose turn it is not."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_worker, (port, tiny["student"], tmp_path), nprocs=2)
    students = make_students(tiny["student"])
    # AdamW would divide what is 0 but for rounding by its size.
    optimizer = torch.optim.SGD(students.parameters(), lr=0.1, momentum=0.9)
    for task, pieces in STEPS:
        do_step(students, feed_of(students, tiny["student"], task, pieces), task, optimizer)  # fmt: skip
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, value in students.state_dict().items():
        torch.testing.assert_close(first[name], value, atol=1e-5, rtol=1e-4, msg=name)
        assert torch.equal(first[name], second[name]), name


# --- what is kept


def test_a_checkpoint_holds_the_encoder_once_and_all_that_is_learned(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    """What is not saved begins anew after a break."""
    folder = tiny["student"]
    students = make_students(folder)
    optimizer = build_optimizer(students, make_training())
    for task in "ab":
        do_step(students, feed_of(students, folder, task, WHOLE), task, optimizer)
    checkpoint.save_module(students, tmp_path / "module.safetensors")
    other = make_students(folder)
    checkpoint.load_module(other, tmp_path / "module.safetensors")
    now = other.state_dict()
    assert all(torch.equal(now[name], value) for name, value in students.state_dict().items())
    one = students.part("a").student.base_model  # type: ignore[attr-defined]
    assert one is students.part("b").student.base_model  # type: ignore[attr-defined]
    alone = sum(parameter.numel() for parameter in one.parameters())
    held = sum(parameter.numel() for parameter in students.parameters())
    heads = sum(p.numel() for name in "ab" for p in students.part(name).objective.parameters())
    assert held - heads - alone == 2 * 33 + 3 * 33  # one encoder and two heads, 32 wide
    checkpoint.save_module(students.students, tmp_path / "best.safetensors")
    third = make_students(folder)
    checkpoint.load_module(third.students, tmp_path / "best.safetensors")
    head = "by_task.task_b.student.classifier.weight"
    assert torch.equal(third.state_dict()[head], students.state_dict()[head])


def test_the_mean_over_tasks_turns_errors_round() -> None:
    """The best student would be the one with the largest error."""
    metrics = {"a/validation/accuracy": 0.8, "b/validation/rmse": 0.4}
    assert mean_of_tasks(metrics, list(metrics)) == pytest.approx(0.2)
    assert mean_of_tasks(metrics, ["a/validation/accuracy", "c/validation/accuracy"]) is None


# --- what is refused


def faults_of(**changes: Any) -> list[str]:
    """Faults of the sound configuration with changes at paths, `tasks__mood__weight=0`."""
    raw = settings()
    for path, value in changes.items():
        *way, last = path.split("__")
        at: Any = raw
        for part in way:
            at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
        at[int(last) if last.isdigit() else last] = value
    return [str(fault) for fault in parse_any(raw)[1]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tasks__mood__losses__1__kind": "forward_k"}, "tasks.mood.losses.1.kind 'forward_k' is not known."),
        ({"tasks__stars__losses__0__kind": "cross_entropy"}, "tasks.stars.losses.0"),
        ({"tasks__mood__losses__0": {"kind": "dist"}, "training__micro_batch_rows": 5}, "training.micro_batch_rows must be a multiple of training.group_rows = 16, since losses.0 compares rows with each other, got 5. This is of tasks.mood."),
        ({"tasks__mood__weight": 0}, "tasks.mood.weight must be a positive finite number, got 0."),
        ({"task_power": -1}, "task_power must be a finite number, zero or more, got -1."),
        ({"losses": []}, "losses must be left out beside tasks"),
        ({"tasks__mood__training": {}}, "tasks.mood.training must be left out"),
        ({"tasks__mood__teacher": {}}, "tasks.mood.teacher is not known."),
        ({"tasks__mood__data__streaming": True, "training__max_steps": 5}, "tasks.mood.data.streaming must be false"),
        ({"training__select_by": "validation/accuracy"}, "training.select_by must be validation/mean or one of mood/validation/METRIC"),
        ({"training__batch_rows": 0}, "training.batch_rows must be at least 1, got 0."),
        ({"training__sharding": "full"}, "training.sharding must be none with several tasks."),
        ({"student": {"from_teacher": {"teacher": "deep", "layers": [0]}}}, "student.from_teacher.teacher names the teacher 'deep'"),
        ({"tasks__a.b": {"data": {"folder": "d"}, "losses": [{"kind": "cross_entropy"}]}}, "tasks.a.b must begin with a letter"),
        ({"tasks__test": settings()["tasks"]["mood"]}, "tasks.test must have another name"),
        ({"tasks__stars__task__kind": "reranking"}, "tasks.stars.task.kind is reranking"),
        ({"tasks__mood__augmentation": {"operations": [{"kind": "delete"}]}}, "tasks.mood.augmentation must be left out"),
        ({"tasks__mood": 3}, "tasks.mood must be a mapping of settings"),
        ({"tasks": {}}, "tasks must be a mapping of names to tasks"),
        ({"tasks__mood__stages": [{"name": "s", "share": 1.0, "losses": [0, 1]}]}, "tasks.mood.stages must be left out"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(changes: dict[str, Any], expected: str) -> None:
    """A fault of one of several tasks must say of which; one of all must stand there once."""
    found = faults_of(**changes)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_faults_of_all_tasks_come_at_once() -> None:
    """One at a time takes a user a run each."""
    found = faults_of(
        tasks__mood__weight=-1,
        tasks__stars__losses__0__kind="mce",
        training__epochs=0,
        traning={},
    )
    assert [line.partition(" ")[0] for line in found] == [
        "traning", "training.epochs", "tasks.mood.weight", "tasks.stars.losses.0.kind",
    ]  # fmt: skip


def test_what_is_written_comes_back_from_the_yaml_of_the_run() -> None:
    """A run could not be repeated from its own config.yaml."""
    raw = settings()
    raw["student"] = {"from_teacher": {"teacher": "wide", "layers": [0, 2]}, "max_tokens": 9}
    raw["training"] = {"select_by": "stars/validation/mae"}
    raw["tracking"] = {
        "registered_model": "m",
        "champion_metric": "test/mean",
        "promotion": {"metric": "validation/mean", "better_by": 0.002},
    }
    config, faults = parse_any(raw)
    assert not faults
    assert isinstance(config, TasksConfig)
    again, faults = parse_any(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert (again, faults) == (config, [])
    mood, stars = config.view("mood"), config.view("stars")
    assert config.owner == "mood"
    assert stars.student.model == "wide"
    assert stars.student.max_tokens == mood.student.max_tokens == 9
    assert stars.training.select_by == "validation/mae"
    assert mood.training.select_by == "validation/accuracy"
    assert stars.tracking.champion_metric == "test/rmse"
    assert (mood.tracking.promoted_by, stars.tracking.promoted_by) == (
        "validation/accuracy",
        "validation/rmse",
    )
    assert (mood.tracking.registered_model, stars.tracking.registered_model) == (
        "m-mood",
        "m-stars",
    )


def test_tasks_are_prepared_with_one_encoder_and_faults_named(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    """Each task sees files and models only by itself."""
    names = ("bad", "good", "odd")
    other = tmp_path / "other"
    other.mkdir()
    rows = [{"text": row["text"], "label": names[i % 3]} for i, row in enumerate(make_rows(24, 5))]
    for split in ("train", "validation"):
        write_rows(other / f"{split}.jsonl", rows)
    three = make_model(tmp_path / "three", layers=1, width=16, labels=names)
    raw = settings() | {
        "run": {"name": "x", "output_dir": str(tmp_path / "out")},
        "student": {"from_teacher": {"teacher": "wide", "layers": [0, 2]}, "max_tokens": 16},
        "training": {"epochs": 2, "batch_rows": 16},
    }
    raw["tasks"] = {
        "odd": {
            "data": {"folder": str(other)},
            "task": {"labels": list(names)},
            "teachers": {"three": {"model": str(three)}},
            "losses": [
                {"kind": "forward_kl"},
                {"kind": "hidden_mse", "layers": [[2, 1]], "projection": "linear"},
            ],
        },
        "mood": {
            "data": {"folder": str(tiny["data"])},
            "teachers": {"wide": {"model": str(tiny["wide"])}},
            "losses": [{"kind": "cross_entropy"}, {"kind": "forward_kl"}],
        },
    }
    config, faults = parse_any(raw)
    assert not faults
    assert isinstance(config, TasksConfig)
    prepared, faults = prepare_tasks(config)
    assert (faults, prepared is not None) == ([], True)
    assert prepared is not None
    odd, mood = prepared.tasks["odd"], prepared.tasks["mood"]
    assert list(prepared.tasks) == ["odd", "mood"]
    assert (odd.student.layers, odd.student.source) == (mood.student.layers, mood.student.source)
    assert (odd.student.labels, mood.student.labels) == (names, ("negative", "positive"))
    assert odd.objective.projections[0].width_in == 48
    assert prepared.steps.total == 2 * (2 + 8)  # 24 rows, and 96 + 32
    assert prepared.shares == pytest.approx(task_shares({"odd": 24, "mood": 128}, 0.5))
    assert {one.objective.stages[0].end for one in (odd, mood)} == {20}
    assert prepared.manifest["tasks.odd.losses.0.kind"] == "forward_kl"
    assert "losses.0.kind" not in prepared.manifest

    raw["tasks"]["odd"]["teachers"]["three"]["model"] = str(tmp_path / "nowhere")
    raw["tasks"]["mood"]["data"]["folder"] = str(tmp_path / "nothing")
    config, faults = parse_any(raw)
    assert isinstance(config, TasksConfig)
    nobody, faults = prepare_tasks(config)
    assert nobody is None
    paths = [fault.path for fault in faults]
    assert "tasks.odd.teachers.three.model" in paths
    assert any(path.startswith("tasks.mood.data") for path in paths)
    assert all(path.startswith("tasks.") for path in paths)


def test_objectives_count_and_learn_for_themselves(tiny: dict[str, Path]) -> None:
    """Two tasks would share a projection, or one of them have none."""
    students = make_students(tiny["student"])
    a, b = (students.part(name).objective for name in "ab")
    assert isinstance(a, Objective)
    keys = [name for name, _ in a.named_parameters()]
    assert keys == [name for name, _ in b.named_parameters()]
    assert keys
    assert not {id(p) for p in a.parameters()} & {id(p) for p in b.parameters()}
    groups = build_optimizer(students, make_training(projection_learning_rate=0.5)).param_groups
    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held)) == len(list(students.parameters()))


@pytest.mark.parametrize("owner", ["texts", "words"])
def test_texts_and_words_share_an_encoder_that_serves_both(
    owner: str, tiny: dict[str, Path]
) -> None:
    """A student of words is made without the pooled vector that a head for texts needs."""
    source = ModelSource("student", str(tiny["student"]), str(tiny["student"]))
    plan = replace(make_plan(LOSSES[:2]))
    plans = {
        "texts": (StudentPlan(source, ("negative", "positive"), 16, 0.0), plan),
        "words": (StudentPlan(source, ("O", "B-x", "I-x"), 16, 0.0, head="words"), plan),
    }
    tokenizer = make_tokenizer(tiny["student"])
    students = make_tasks(plans, {"texts": 1.0, "words": 1.0}, tokenizer, owner=owner)
    inputs = tokenizer(["good film"], return_tensors="pt")
    shapes = {n: tuple(students.part(n).student(**inputs).logits.shape) for n in plans}
    assert shapes == {"texts": (1, 2), "words": (1, 4, 3)}
