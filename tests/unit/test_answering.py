"""Answers: student and teachers of other tokenizers meet at units of windows, whatever a batch is cut into."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from raydistill.config import DistillConfig, TasksConfig, parse_any, parse_config
from raydistill.data import UNIT, Split, units_of
from raydistill.errors import ConfigError, SignalError
from raydistill.evaluation.evaluator import metrics_of, predict
from raydistill.evaluation.spans import answers_of
from raydistill.losses import CATALOG
from raydistill.models.spans import merge_targets
from raydistill.objective import Moment, Objective
from raydistill.pipeline import Fed, MicroBatch
from raydistill.prepare import Prepared, prepare, prepare_tasks
from raydistill.prepare.data import load_data
from raydistill.prepare.sides import Side
from raydistill.prepare.windows import windows_for
from raydistill.serve import teacher_settings
from raydistill.signals import Request, TeacherSignal, pack_signal
from raydistill.signals.signal import select_rows
from raydistill.store import Codecs
from raydistill.store.block import encode_signal, read_signal
from raydistill.storing import store_line
from raydistill.tasks import Answering, Batch, QuestionAnswering
from raydistill.teachers import LocalTeacher
from raydistill.training.several import make_tasks
from raydistill.training.step import StudentModule, train_step
from raydistill.training.student import make_student, make_tokenizer
from tests.conftest import make_model, make_rows, write_rows
from tests.unit.windows import (
    answering_settings,
    grams,
    make_answerer,
    make_answering,
    make_questions,
    pieces,
)

ROWS = list(range(12))
CUTS = [[ROWS], [[0], [1, 2, 3], [4, 5], [6, 7, 8, 9, 10, 11]], [[row] for row in ROWS]]
NOW = Moment(0, 10)
SOFT = ("forward_kl", "soft_cross_entropy", "reverse_kl", "jensen_shannon", "total_variation", "logit_mse")  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_answering(tmp_path_factory.mktemp("answering"))


@pytest.fixture
def settings(folders: dict[str, Path], tmp_path: Path) -> dict[str, Any]:
    return answering_settings(folders, tmp_path / "out")


def prepared(settings: dict[str, Any]) -> Prepared:
    found, faults = prepare(DistillConfig.model_validate(settings))
    assert faults == []
    assert found is not None
    return found


def lines(settings: dict[str, Any]) -> list[str]:
    config, faults = parse_config(settings)
    if config is not None and not faults:
        _, faults = prepare(config)
    return [str(fault) for fault in faults]


class Run:
    """What a worker has."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.plan = prepared(settings)
        there = [
            self.plan.splits[n].table for n in ("train", "unlabelled") if n in self.plan.splits
        ]
        names = tuple(self.plan.objective.columns)
        self.task = QuestionAnswering(pa.concat_tables(there), self.plan.labels, names)
        self.tokenizer = make_tokenizer(self.plan.student)
        torch.manual_seed(0)
        student = make_student(self.plan.student, self.tokenizer)
        self.module = StudentModule(student, Objective(self.plan.objective)).train()
        self.teachers = {name: LocalTeacher(teacher_settings(self.plan, name)) for name in names}

    def batch(self, rows: list[int], **options: Any) -> Batch:
        return self.task.batch(rows, self.tokenizer, self.plan.student.max_tokens, **options)

    def signals(self, batch: Batch) -> dict[str, TeacherSignal]:
        asks = self.plan.objective.asks
        return {
            name: teacher.answer(Request(batch.row_ids, batch.texts, asks[name]))
            for name, teacher in self.teachers.items()
        }

    def step(self, cuts: list[list[int]]) -> Any:
        batches = [self.batch(rows) for rows in cuts]
        counts = [self.module.objective.counts(batch) for batch in batches]
        fed = [
            Fed(
                MicroBatch(0, 0, one, i == len(batches) - 1, sum(counts) if i == 0 else None),  # type: ignore[arg-type]
                self.signals(one),
            )
            for i, one in enumerate(batches)
        ]
        return train_step(
            self.module, fed, optimizer=torch.optim.SGD(self.module.parameters(), lr=0.0), moment=NOW,
            max_grad_norm=None, device=torch.device("cpu"), world=1,
        )  # fmt: skip


def test_run_of_answers_is_planned(settings: dict[str, Any]) -> None:
    """Windows are made before anything starts, and fit every model."""
    found = prepared(settings)
    assert found.labels == ("start", "end")
    assert found.objective.columns == {"pieces": (0, 1), "grams": (0, 1)}
    assert {ask.logits for ask in found.objective.asks.values()} == {"spans"}
    heads = ("logits.units", "mapped.units", "logits.rest")
    keys = {name: ask.keys for name, ask in found.objective.asks.items()}
    assert keys == {"pieces": (*heads, "hidden.1.units"), "grams": (*heads, "hidden.2.units")}
    train = found.splits["train"].table
    assert found.counted["train/windows"] == train.num_rows > 24
    assert found.steps.per_epoch == -(-(train.num_rows + found.splits["unlabelled"].table.num_rows) // 12)  # fmt: skip
    assert any("24 questions are read in" in note for note in found.notes)
    assert any("are compared as squad does" in note for note in found.notes)
    for tokenizer, cut in ((pieces(), 48), (grams(), 60)):
        for split in found.splits.values():
            columns = split.table["text"].to_pylist(), split.table["text_pair"].to_pylist()
            assert max(map(len, tokenizer(*columns)["input_ids"])) <= cut
    assert found.row_bytes("pieces") == 4 * (48 * 5 + 48 * 16)


def test_how_units_are_cut_decides_the_shelf(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers by other units would be read for those of this text, or stop the run."""
    run = prepared(settings)
    line = store_line(run, "grams", inline=False)
    assert line is not None
    assert line.shelf.units == UNIT
    assert replace(line.shelf, units="").name != line.shelf.name
    monkeypatch.setattr("raydistill.storing.UNIT", "other")
    other = store_line(run, "grams", inline=False)
    assert other is not None
    assert other.shelf.name != line.shelf.name


def test_windows_hold_all_of_a_context(settings: dict[str, Any], folders: dict[str, Path]) -> None:
    """A word that is in no window can be no answer."""
    rows = [json.loads(line) for line in (folders["data"] / "train.jsonl").open()]
    table = prepared(settings).splits["train"].table
    texts, labels = table["text_pair"].to_pylist(), table["label"].to_pylist()
    of, sizes = table["question"].to_pylist(), table["size"].to_pylist()
    assert of == sorted(of)
    many = 0
    for number, row in enumerate(rows):
        mine = [i for i, q in enumerate(of) if q == number]
        many += len(mine) > 1
        context, at, covered = row["context"], 0, 0
        answers = row["answers"]["text"]
        found = set()
        for i in mine:
            begin = context.index(texts[i], at)
            assert sizes[i] == len(units_of(texts[i]))
            gap = context[covered:begin]
            assert not len(units_of(gap)), gap
            assert i == mine[0] or begin < covered  # they overlap
            at, covered = begin + 1, begin + len(texts[i])
            start, end = labels[i]
            if (start, end) != (0, 0):
                units = units_of(texts[i])
                found.add(texts[i][units[start - 2, 0] : units[end - 2, 1]])
        assert not len(units_of(context[covered:]))
        assert found == set(answers)
    assert many > 5


class Choosing:
    """A table from which rows are taken in chosen columns alone."""

    def __init__(self, table: pa.Table) -> None:
        self._table, self.chosen = table, list[list[str]]()

    def __getitem__(self, name: str) -> Any:
        return self._table[name]

    def __getattr__(self, name: str) -> Any:
        assert name not in ("combine_chunks", "take", "to_pylist"), "copies all columns"
        return getattr(self._table, name)

    def select(self, names: list[str]) -> pa.Table:
        self.chosen.append(names)
        return self._table.select(names)


@pytest.mark.parametrize("routed", [False, True])
def test_windows_of_a_long_context_do_not_copy_it(routed: bool, settings: dict[str, Any]) -> None:
    """Every window of a book would hold the book."""
    split = load_data(DistillConfig.model_validate(settings))["validation"]
    if routed:
        route = pa.array(range(split.table.num_rows), pa.int32())
        split = replace(split, table=split.table.append_column("route", route))
    table: Any = Choosing(split.table)
    side = Side("the student", "student", 48, "student.max_tokens", pieces())
    found = windows_for(replace(split, table=table), [side], 0.33).table
    columns = ["text", "id", "answers", *(["route"] if routed else [])]
    assert table.chosen == [columns]
    assert found.to_pylist() == windows_for(split, [side], 0.33).table.to_pylist()
    of = found["question"].to_pylist()
    for name in ("text", "id", "answers", *columns[3:]):
        assert found[name].to_pylist() == split.table[name].take(pa.array(of)).to_pylist()
    assert found.schema.metadata == split.table.schema.metadata
    assert found["text_pair"].nbytes < 2 * split.table["text_pair"].nbytes


def long_answers(folder: Path) -> Path:
    """Rows of which one has long answers, one a long and a short one, one none."""
    long = " ".join(["map"] * 70)
    answers = [
        ([long, long + " map"], [0, 0]),
        ([long, "map"], [0, 0]),
        ([], []),
        (["map" * 70], [0]),
    ]
    rows = [
        {"id": str(i), "question": "What?", "context": f"{text[0] if text else ''} map {long}",
         "answers": {"text": text, "answer_start": start}}
        for i, (text, start) in enumerate(answers)
    ]  # fmt: skip
    write_rows(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def test_answers_that_are_too_long_to_be_given_are_counted(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """A tenth of a test that no student can answer looks like a bad student."""
    settings["data"]["test"] = str(long_answers(tmp_path))
    found = load_data(DistillConfig.model_validate(settings))
    note = "of 3 answers are longer than task.max_answer_units = 64 and cannot be given."
    assert [one for one in found["test"].notes if "longer" in one] == [f"test: 1 {note}"]
    assert not any("longer" in one for one in found["train"].notes)
    settings["task"]["max_answer_units"] = 71
    found = load_data(DistillConfig.model_validate(settings))
    assert not any("longer" in one for one in found["test"].notes)


@pytest.mark.parametrize(
    ("question", "normalisation", "note"),
    [
        ("Who?", "squad", "are compared as squad does (task.normalisation: auto): 0% of"),
        ("谁今天去了 Rio？", "cmrc2018", "are compared as cmrc2018 does"),
        ("LG는 언제 세워졌나?", "characters", "are compared by characters (task.normalisation: auto): 0% of the letters of questions are Chinese, 78% Korean."),
        # 6 kana and 4 kanji of 10 letters: neither is the most.
        ("日本の首都はどこですか", "characters", "36% of the letters of questions are Chinese, 0% Korean, 64% of other scripts without spaces."),
        ("東京都知事選挙は何年？", "characters", "are compared by characters"),
        ("ใครเขียนโปรแกรมแรก", "characters", "Korean, 100% of other scripts without spaces."),
        ("ໃຜຂຽນ?", "characters", "are compared by characters"),
        ("កុំព្យូទ័រ?", "characters", "are compared by characters"),
        ("ဘယ်သူလဲ?", "characters", "are compared by characters"),
        ("电影《侍の道》是哪一年在日本上映的？", "cmrc2018", "are compared as cmrc2018 does"),
        ("Who wrote となりのトトロ?", "squad", "are compared as squad does"),
    ],
)  # fmt: skip
def test_figures_are_by_the_script_of_the_questions(
    settings: dict[str, Any], tmp_path: Path, question: str, normalisation: str, note: str
) -> None:
    """By words, a Korean answer with a particle too many, or a Japanese one, has nothing in common with the right one."""
    row = {"id": "1", "question": question, "context": "Ada", "answers": {"text": ["Ada"], "answer_start": [0]}}  # fmt: skip
    write_rows(tmp_path / "rows.jsonl", [row])
    settings["data"] = {"train": str(tmp_path / "rows.jsonl")}
    split = load_data(DistillConfig.model_validate(settings))["train"]
    assert Answering.of(split.table).normalisation == normalisation
    assert any(note in one for one in split.notes), split.notes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ensemble": {"combine": "logits", "temperatures": {"grams": 2.0}}},
        {"ensemble": {"combine": "losses"}},
        {"ensemble": {"weighting": {"kind": "stochastic"}}},
        {"losses": [{"kind": kind, "temperature": 2.0} for kind in SOFT]},
        {"losses": [
            {"kind": "cos", "layers": "last", "projection": "linear"},
            {"kind": "vid", "layers": "last", "projection": "linear"},
            {"kind": "forward_kl", "temperature": {"kind": "learned"}},
        ], "ensemble": {"combine": "logits"}},
    ],
)  # fmt: skip
def test_step_does_not_depend_on_its_cut(settings: dict[str, Any], changes: Any) -> None:
    """Padding to the longest window of a batch would change what is learned."""
    settings |= changes
    found = []
    for cuts in CUTS:
        run = Run(settings)
        metrics = run.step(cuts)
        grads = {n: p.grad for n, p in run.module.named_parameters() if p.grad is not None}
        found.append((metrics, grads))
    first, expected = found[0]
    assert (first.terms.abs() > 0).all()
    assert first.rows == len(ROWS)
    for metrics, grads in found[1:]:
        torch.testing.assert_close(metrics.terms, first.terms, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(metrics.loss, first.loss, atol=1e-6, rtol=1e-6)
        assert (metrics.rows, metrics.tokens) == (first.rows, first.tokens)
        assert set(grads) == set(expected)
        for name, grad in expected.items():
            torch.testing.assert_close(grads[name], grad, atol=1e-6, rtol=1e-5, msg=name)


class Plain:
    """A model as anybody uses it, row by row, and which piece is of which unit."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForQuestionAnswering, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()

    def say(self, question: str, window: str) -> tuple[Tensor, list[dict[int, int]], Tensor]:
        encoded = self.tokenizer(question, window, return_offsets_mapping=True, return_tensors="pt")
        offsets = encoded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            out = self.model(**encoded, output_hidden_states=True)
        units = units_of(window).tolist()
        places: list[dict[int, int]] = [{}, {}]
        states = [list[Tensor]() for _ in units]
        for piece, ((begin, end), of) in enumerate(
            zip(offsets, encoded.sequence_ids(0), strict=True)
        ):
            token = self.tokenizer.convert_ids_to_tokens(int(encoded["input_ids"][0, piece]))
            mine = [u for u, (b, e) in enumerate(units) if of == 1 and begin < e and end > b]
            if not mine or token == "▁":
                continue
            places[0].setdefault(mine[0], piece)
            places[1][mine[-1]] = piece
            for unit in mine:
                states[unit].append(out.hidden_states[-1][0, piece])
        width = self.model.config.hidden_size
        means = [
            torch.stack(one).mean(0) if one else torch.full((width,), torch.nan) for one in states
        ]
        logits = torch.stack([out.start_logits[0], out.end_logits[0]]).double()
        return logits, places, torch.stack(means)


def mass(logits: Tensor, places: dict[int, int], kept: list[int], side: int) -> Tensor:
    """Probabilities of no answer, of all else, and of the kept units; those between go to a kept neighbour."""
    p, used = logits.softmax(-1), {0, *places.values()}
    found = [p[0], sum(p[s] for s in range(len(p)) if s not in used)]
    owners: dict[int, Tensor] = {unit: torch.zeros((), dtype=p.dtype) for unit in kept}
    for unit, piece in places.items():
        before = [k for k in kept if k <= unit]
        behind = [k for k in kept if k >= unit]
        owner = (before or behind[:1])[-1] if side == 0 else (behind or before[-1:])[0]
        owners[owner] = owners[owner] + p[piece]
    return torch.stack([*found, *owners.values()])  # type: ignore[list-item]


def test_terms_are_those_of_plain_models(
    settings: dict[str, Any], folders: dict[str, Path]
) -> None:
    """Everything at once: pieces, units, merging, weights, projections and denominators, written a second time."""
    run = Run(settings)
    metrics = run.step([ROWS[:5], ROWS[5:]])
    models = {name: Plain(folders[name]) for name in ("student", "pieces", "grams")}
    linear = {
        p.teacher: run.module.objective.projections.by_key[p.projection]
        for p in run.plan.objective.terms[2].match.pairs
    }
    table = run.plan.splits["train"].table
    weights = {"pieces": 0.25, "grams": 0.75}
    sums, counts, merged = torch.zeros(3, dtype=torch.float64), torch.zeros(3), 0
    for row in ROWS:
        question, window = table["text"][row].as_py(), table["text_pair"][row].as_py()
        said = {name: model.say(question, window) for name, model in models.items()}
        logits, places, states = said["student"]
        for side in (0, 1):
            label = table["label"][row].as_py()[side]
            piece = 0 if label == 0 else places[side][label - 2]
            sums[0] -= logits[side].log_softmax(-1)[piece]
            kept = sorted(set.intersection(*(set(one[1][side]) for one in said.values())))
            merged += sum(len(one[1][side]) - len(kept) for one in said.values())
            p = {
                name: mass(one[0][side] / 1.0, one[1][side], kept, side)
                for name, one in said.items()
            }
            softened = {name: (one.log() / 2).softmax(-1) for name, one in p.items()}
            target = sum(weights[name] * softened[name] for name in weights)
            sums[1] += 4 * (target * (target.log() - softened["student"].log())).sum()
            counts[:2] += 1
        for unit in range(len(states)):
            if any(one[2][unit].isnan().any() for one in said.values()):
                continue
            counts[2] += 1
            for name, weight in weights.items():
                mapped = linear[name](states[unit]).detach()
                sums[2] += weight * (mapped - said[name][2][unit]).square().mean()
    assert merged > 0
    assert metrics.terms.tolist() == pytest.approx((sums / counts).tolist(), rel=1e-5)


def test_hard_loss_is_that_of_hugging_face(
    settings: dict[str, Any], folders: dict[str, Path]
) -> None:
    """A student that is trained on another loss than it is saved for."""
    from transformers import AutoModelForQuestionAnswering

    settings |= {"losses": [{"kind": "cross_entropy"}], "teachers": {}, "ensemble": {}}
    run = Run(settings)
    batch = run.batch([0])
    model = AutoModelForQuestionAnswering.from_pretrained(folders["student"]).eval()
    counted = run.step([[0], [4], [9]]).terms[0].item()
    losses = []
    for row in (0, 4, 9):
        batch = run.batch([row])
        spans = batch.spans
        assert spans is not None
        at = [
            0 if label == 0 else int(places[label - 2])
            for label, places in zip(batch.labels.tolist(), (spans.starts, spans.ends), strict=True)
        ]
        positions = {"start_positions": torch.tensor(at[:1]), "end_positions": torch.tensor(at[1:])}
        with torch.no_grad():
            losses.append(model(**batch.inputs, **positions).loss.item())
    assert counted == pytest.approx(sum(losses) / 3, rel=1e-5)


@pytest.mark.parametrize("kind", SOFT)
def test_soft_losses_do_not_see_padding(settings: dict[str, Any], kind: str) -> None:
    """A window beside a longer one would weigh less than alone, or more."""
    settings |= {"losses": [{"kind": kind}]}
    settings["teachers"].pop("pieces")
    settings["ensemble"] = {}
    run = Run(settings)
    sizes = run.task.questions().sizes[:12].tolist()
    short, long = sizes.index(min(sizes)), sizes.index(max(sizes))
    alone = {}
    for row in (short, long):
        batch = run.batch([row])
        counts = torch.ones(1)
        alone[row] = run.module(batch, run.signals(batch), NOW, counts)[0].item()
    batch = run.batch([short, long])
    together = run.module(batch, run.signals(batch), NOW, torch.ones(1))[0].item()
    assert together == pytest.approx(sum(alone.values()), rel=1e-6, abs=1e-6)
    # And each is the plain function over the classes that the row has.
    batch = run.batch([short])
    student = run.module(batch, run.signals(batch), NOW, torch.ones(1))
    assert student[0].item() == pytest.approx(plain_value(run, batch, kind), rel=1e-5)


def plain_value(run: Run, batch: Batch, kind: str) -> float:
    """The loss over real classes alone, by probabilities of pieces."""
    question, window = batch.texts[0][0], batch.texts[1][0]
    assert isinstance(question, str)
    assert isinstance(window, str)
    folder = Path(run.plan.student.source.location)
    own = Plain(folder).say(question, window)
    theirs = Plain(Path(run.plan.sources["grams"].location)).say(question, window)
    total = 0.0
    for side in (0, 1):
        kept = sorted(set(own[1][side]) & set(theirs[1][side]))
        sides = []
        for logits, places, _ in (own, theirs):
            scale = logits[side].logsumexp(-1)  # back from probabilities to logits
            sides.append(mass(logits[side], places[side], kept, side).log() + scale)
        function = CATALOG[kind].function
        total += function(sides[0].unsqueeze(0), sides[1].unsqueeze(0), temperature=1.0).item()
    return total


def test_filler_adds_nothing(settings: dict[str, Any]) -> None:
    """A worker without rows of its own would add its filler's loss."""
    run = Run(settings)
    batch = run.batch([0, 1], filler=True)
    assert (batch.num_rows, run.module.objective.counts(batch).tolist()) == (0, [0.0] * 3)
    terms, _ = run.module(batch, run.signals(batch), NOW, torch.ones(3))
    assert terms.tolist() == [0.0] * 3


def test_answers_do_not_depend_on_their_company(settings: dict[str, Any]) -> None:
    """One answer serves all students and all batches, and the store keeps its bits."""
    run = Run(settings)
    teacher, ask = run.teachers["grams"], run.plan.objective.asks["grams"]
    assert teacher.describe().steady
    ids, texts = run.task.texts(ROWS)
    together = teacher.answer(Request(ids, texts, ask))
    assert together.lengths.tolist() == [len(units_of(str(window))) for window in texts[1]]
    for rows in ([3], [11, 0], [5, 6, 7]):
        few = teacher.answer(Request(ids, texts, ask).select(rows))
        for place, row in enumerate(rows):
            alone, beside = select_rows(few, place, place + 1), select_rows(together, row, row + 1)
            assert bytes(alone.buffer) == bytes(beside.buffer)
    block = encode_signal(together, Codecs())
    again = read_signal("grams", (ids[4], ids[1]), [(block, 4), (block, 1)], ask.keys, "float32")
    assert bytes(select_rows(again, 0, 1).buffer) == bytes(select_rows(together, 4, 5).buffer)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_answers_are_finite_in_half_precision(settings: dict[str, Any], dtype: str) -> None:
    """What stands for nothing must not become infinite on its way."""
    settings["teachers"]["grams"]["signal_dtype"] = dtype
    run = Run(settings)
    assert torch.isfinite(run.step([ROWS]).terms).all()


def test_strange_answers_are_refused(settings: dict[str, Any]) -> None:
    """A teacher that cuts another text would be averaged with the others."""
    run = Run(settings)
    batch = run.batch([0, 1])
    good = run.signals(batch)
    other = run.signals(run.batch([2, 3]))
    mine = good["grams"]
    of_texts = replace(mine, parts={"logits": mine.parts["logits.units"]})
    flags = mine.part("mapped.units").clone()
    flags[3, 2] = 0.0
    parts = {name: mine.part(name) for name in mine.parts} | {"mapped.units": flags}
    blind = pack_signal("grams", mine.row_ids, mine.lengths.tolist(), parts, "float32")
    for wrong, sentence in (
        (
            replace(other["grams"], row_ids=batch.row_ids),
            r"teachers.grams answered \d+ units for row [01]",
        ),
        (of_texts, "did not answer about units"),
        (blind, "has no piece of a unit of row 0, which its tokenizer had when the run began"),
    ):
        with pytest.raises(SignalError, match=sentence):
            run.module(batch, {**good, "grams": wrong}, NOW, torch.ones(3))


def test_evaluation_is_the_same_by_worker_and_teacher(settings: dict[str, Any]) -> None:
    """The student that is chosen would be another than the one that is measured."""
    run = Run(settings)
    table = run.plan.splits["validation"].table
    task = QuestionAnswering(table, run.plan.labels)
    run.module.eval()
    with torch.no_grad():
        own = [
            run.module.logits(task.batch(rows, run.tokenizer, 48)) for rows in ([0, 1, 2], [3, 4])
        ]
    path = Path(run.plan.student.source.location)
    settings["teachers"]["same"] = {"model": str(path)}
    teacher = LocalTeacher(teacher_settings(prepared(settings), "same"))
    whole = predict(teacher, task, 4)
    torch.testing.assert_close(torch.cat(own), whole[: len(torch.cat(own))], atol=1e-5, rtol=1e-5)
    assert task.places(range(task.num_rows)).tolist() == list(range(len(whole)))
    metrics = metrics_of(whole, task, "validation", (0, 1))
    assert set(metrics) >= {"validation/f1", "validation/exact_match", "validation/answerable_f1"}
    assert len(answers_of(whole, task.questions())) == 9


def test_model_is_measured_on_windows_of_its_own(settings: dict[str, Any]) -> None:
    """A model that is compared with published figures reads what fits it, not what fits others."""
    config = DistillConfig.model_validate(settings)
    split = load_data(config)["test"]

    def made(cut: int) -> Split:
        return windows_for(split, [Side("m", "--model", cut, "student.max_tokens", pieces())], 0.33)

    few, many = made(60), made(34)
    assert few.table.num_rows < many.table.num_rows
    assert few.fingerprint == split.fingerprint
    with pytest.raises(
        ConfigError, match="leaves no room for a context beside the question: row 1"
    ):
        made(12)


def test_labels_follow_the_students_pieces() -> None:
    """A unit without a piece of its own is never right, and its loss never small."""
    kept = torch.tensor([[True, True, True, False, True]] * 2)
    target = merge_targets(kept)
    assert target.gather(1, torch.tensor([[3], [3]])).tolist() == [[2], [4]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"losses": [{"kind": "dist"}]}, "losses.0.kind is dist, which is for exactly one label a row (text_classification), but task.kind is question_answering. Use forward_kl or"),
        ({"losses": [{"kind": "fsp", "layers": [[[0, 1], [0, 1]]]}]}, "losses.0.kind is fsp, which compares whole texts or pairs of tokens, but task.kind is question_answering, where units are compared"),
        ({"losses": [{"kind": "forward_kl", "standardize": True}]}, "losses.0.standardize must be false: it looks at all classes of a row"),
        ({"losses": [{"kind": "forward_kl", "temperature": {"kind": "cwsm", "base": 2.0}}]}, "losses.0.temperature is cwsm"),
        ({"losses": [{"kind": "custom", "target": "tests.conftest:make_rows"}]}, "losses.0.needs must be hidden"),
        ({"losses": [{"kind": "hidden_mse", "layers": "last", "positions": "mean", "projection": "linear"}]}, "losses.0.positions must be all with task.kind: question_answering"),
        ({"ensemble": {"weighting": {"kind": "confidence"}}}, "ensemble.weighting.kind is confidence, which weighs teachers by their classes"),
        ({"adversarial": {"kind": "vat"}}, "adversarial is for rows of texts with labels of their own, but task.kind is question_answering: rows are contexts with places of answers"),
        ({"augmentation": {"operations": [{"kind": "delete"}]}}, "augmentation is for rows"),
        ({"task": {"kind": "question_answering", "columns": {"answer": "x"}}}, "task.columns.answer has no effect: answers are read from column 'answers'"),
        ({"task": {"kind": "question_answering", "overlap": 1.0}}, "task.overlap must lie between 0 and below 1"),
        ({"task": {"kind": "question_answering", "columns": {"question": "ask"}}}, "data.train must hold a column 'ask' (task.columns.question)"),
        ({"student": {"preset": "bigru"}}, "student.preset is a network that answers for whole texts, but task.kind is question_answering"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_before_anything_starts(
    settings: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    """A setting that is ignored is worse than one that is refused."""
    settings |= change
    found = lines(settings)
    assert any(expected in line for line in found), found


def test_streams_and_questions_that_fill_a_row_are_refused(
    settings: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    """What cannot be read must be known before the run begins."""
    settings["data"] = {"train": str(folders["data"] / "train.jsonl"), "streaming": True}
    settings["training"]["max_steps"] = 2
    assert any("data.streaming must be false with task.kind: question_answering" in line for line in lines(settings))  # fmt: skip
    rows = make_questions(3, 5)
    rows[1]["question"] = "Where went Ada " * 9
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings["data"] = {"train": str(path)}
    (line,) = lines(settings)
    assert line.startswith("data.train must fit the models of the run, but student.max_tokens = 48")
    assert "leaves no room for a context beside the question: row 2 (q5-1)" in line


def test_teacher_without_a_head_for_answers_is_refused(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Its answers would be random."""
    settings["teachers"]["texts"] = {"model": str(make_model(tmp_path / "texts"))}
    assert any("has no head for answers, so its answers would be random" in line for line in lines(settings))  # fmt: skip
    odd = make_answerer(tmp_path / "odd", pieces())
    config = json.loads((odd / "config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b", "2": "c"}
    (odd / "config.json").write_text(json.dumps(config))
    settings["teachers"] = {"odd": {"model": str(odd)}}
    settings["ensemble"] = {}
    assert any("It has 3 outputs, where a model for answers has two" in line for line in lines(settings))  # fmt: skip


def test_answers_may_be_one_of_several_tasks(
    folders: dict[str, Path], settings: dict[str, Any], tmp_path: Path
) -> None:
    """One encoder with two heads, of which one reads windows."""
    data = tmp_path / "mood"
    data.mkdir()
    for split in ("train", "validation"):
        write_rows(data / f"{split}.jsonl", make_rows(12, seed=4))
    own = {key: settings[key] for key in ("data", "task", "teachers", "losses", "ensemble")}
    whole = {
        "run": {"name": "both", "output_dir": str(tmp_path / "out")},
        "student": settings["student"],
        "tasks": {
            "mood": {"data": {"folder": str(data)}, "losses": [{"kind": "cross_entropy"}]},
            "answers": own,
        },
        "training": {"batch_rows": 6},
        "tracking": {"enabled": False},
    }
    config, faults = parse_any(whole)
    assert faults == []
    assert isinstance(config, TasksConfig)
    found, faults = prepare_tasks(config)
    assert faults == []
    assert found is not None
    plans = {name: (one.student, one.objective) for name, one in found.tasks.items()}
    tasks = make_tasks(
        plans, dict.fromkeys(plans, 1.0), make_tokenizer(found.student), owner="mood"
    )
    run = Run(settings)
    batch = run.batch([0, 1, 2])
    counts = run.module.objective.counts(batch).float()
    tasks.turn_to("answers")
    signals = {f"answers/{name}": signal for name, signal in run.signals(batch).items()}
    terms, loss = tasks(batch, signals, NOW, counts)
    loss.backward()
    heads = [tasks.part(name).student.get_submodule(head) for name, head in (("answers", "qa_outputs"), ("mood", "classifier"))]  # fmt: skip
    assert (terms > 0).all()
    assert heads[0].weight.grad.abs().sum() > 0
    assert not heads[1].weight.grad.abs().sum()
    assert tasks.part("mood").student.bert is tasks.part("answers").student.bert
