"""Tags of words: student and teachers of other tokenizers meet at words, whatever a batch is cut into."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from raydistill.alignment import in_outputs, tag_columns
from raydistill.config import DistillConfig, parse_config
from raydistill.config.losses import SoftLoss
from raydistill.errors import SignalError
from raydistill.evaluation.evaluator import metrics_of, predict
from raydistill.evaluation.tagging import seen_words
from raydistill.models.pieces import unmapped_words
from raydistill.objective import Moment, Objective
from raydistill.pipeline import Fed, MicroBatch
from raydistill.prepare import Prepared, prepare
from raydistill.serve import teacher_settings
from raydistill.signals import Request, TeacherSignal
from raydistill.signals.signal import select_rows
from raydistill.store import row_keys
from raydistill.tasks import Batch, Tagging
from raydistill.teachers import LocalTeacher
from raydistill.teachers.merging import merge_requests
from raydistill.terms.weighting import abstaining, answering
from raydistill.training.step import StudentModule, train_step
from raydistill.training.student import make_student, make_tokenizer
from tests.conftest import make_model
from tests.unit.words import TAGS, make_tagger, make_tagging, tagging_settings, word_piece

ROWS = list(range(12))
CUTS = [[ROWS], [[0], [1, 2, 3], [4, 5], [6, 7, 8, 9, 10, 11]], [[row] for row in ROWS]]
NOW = Moment(0, 10)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_tagging(tmp_path_factory.mktemp("tagging"))


@pytest.fixture
def settings(folders: dict[str, Path], tmp_path: Path) -> dict[str, Any]:
    return tagging_settings(folders, tmp_path / "out")


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
        table = pa.concat_tables([self.plan.splits[name].table for name in ("train", "unlabelled")])
        names = tuple(self.plan.objective.columns)
        self.task = Tagging(table, self.plan.labels, names)
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


def test_run_of_words_is_planned(settings: dict[str, Any]) -> None:
    """What a tokenizer does not see must be known before denominators are made."""
    found = prepared(settings)
    assert found.labels == TAGS
    assert found.objective.columns == {"pieces": (4, 3, 2, 1, 0), "grams": (0, 1, 2, 3, 4)}
    assert {ask.logits for ask in found.objective.asks.values()} == {"words"}
    assert [ask.keys[2:] for ask in found.objective.asks.values()] == [
        ("hidden.1.words",), ("hidden.2.words",)
    ]  # fmt: skip
    train = found.splits["train"].table
    assert "unmapped.pieces" not in train.column_names  # the student's own tokenizer
    lost = sum(map(len, train["unmapped.grams"].to_pylist()))
    lost += sum(map(len, found.splits["unlabelled"].table["unmapped.grams"].to_pylist()))
    assert lost == found.counted["teachers/grams/words_unmapped"] > 3
    assert found.counted["train/words_unmapped"] == found.counted["teachers/pieces/words_unmapped"]
    assert any("cut at 24 tokens (teachers.grams.max_tokens)" in note for note in found.notes)


@pytest.mark.parametrize(
    "ensemble",
    [
        {"weights": {"grams": 3.0}},
        {"combine": "logits"},
        {"combine": "losses"},
        {"weighting": {"kind": "confidence"}},
        {"combine": "best", "weighting": {"kind": "label_cross_entropy"}},
        {"weighting": {"kind": "gate"}},
    ],
)
def test_step_does_not_depend_on_its_cut(settings: dict[str, Any], ensemble: Any) -> None:
    """A setting that is there to save memory would change what is learned."""
    settings["ensemble"] = ensemble
    settings["training"]["group_rows"] = 1
    found = []
    for cuts in CUTS:
        run = Run(settings)
        metrics = run.step(cuts)
        grads = {n: p.grad for n, p in run.module.named_parameters() if p.grad is not None}
        found.append((metrics, grads))
    first, expected = found[0]
    assert (first.terms > 0).all()
    assert first.rows == len(ROWS)
    for metrics, grads in found[1:]:
        torch.testing.assert_close(metrics.terms, first.terms, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(metrics.loss, first.loss, atol=1e-6, rtol=1e-6)
        assert (metrics.rows, metrics.tokens) == (first.rows, first.tokens)
        assert set(grads) == set(expected)
        for name, grad in expected.items():
            torch.testing.assert_close(grads[name], grad, atol=1e-6, rtol=1e-5, msg=name)


def test_losses_across_words_take_groups_of_rows(settings: dict[str, Any]) -> None:
    """Words of rows that are not in one group would be beside each other in one cut only."""
    settings["losses"] = [
        {"kind": "dist"},
        {"kind": "forward_kl", "temperature": {"kind": "cwsm", "base": 2.0}},
    ]
    settings["training"]["group_rows"] = 4
    whole = Run(settings).step([ROWS])
    cut = Run(settings).step([ROWS[:4], ROWS[4:]])
    torch.testing.assert_close(cut.terms, whole.terms, atol=1e-6, rtol=1e-6)
    settings["training"]["group_rows"] = 6
    assert not torch.allclose(Run(settings).step([ROWS]).terms, whole.terms, atol=1e-4)


def words_of(
    model: Any, tokenizer: Any, words: list[str], cut: int
) -> tuple[Tensor, Tensor, list[bool]]:
    """Logits, last states and presence of the words of one row, from the plain model."""
    encoded = tokenizer(
        words, is_split_into_words=True, truncation=True, max_length=cut, return_tensors="pt"
    )
    with torch.no_grad():
        out = model(**encoded, output_hidden_states=True)
    ids = encoded.word_ids(0)
    logits, states, there = [], [], []
    for word in range(len(words)):
        own = [place for place, one in enumerate(ids) if one == word]
        there.append(bool(own))
        logits.append(out.logits[0, own[0]] if own else torch.zeros(len(TAGS)))
        states.append(
            out.hidden_states[-1][0, own].mean(0) if own else torch.zeros(model.config.hidden_size)
        )
    return torch.stack(logits), torch.stack(states), there


def test_terms_are_those_of_plain_models_word_by_word(
    settings: dict[str, Any], folders: dict[str, Path]
) -> None:
    """Everything at once: pieces, cuts, columns, weights and denominators, written a second time."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    run = Run(settings)
    metrics = run.step([ROWS[:5], ROWS[5:]])
    models = {
        name: (AutoModelForTokenClassification.from_pretrained(folders[name]).eval(), AutoTokenizer.from_pretrained(folders[name]))
        for name in ("student", "pieces", "grams")
    }  # fmt: skip
    linear = {
        n: run.module.objective.projections.by_key[p.projection]
        for p in run.plan.objective.terms[2].match.pairs
        for n in [p.teacher]
    }
    table = run.plan.splits["train"].table
    sums, counts = np.zeros(3), np.zeros(3)
    for row in ROWS:
        words, tags = table["words"][row].as_py(), table["label"][row].as_py()
        own = words_of(*models["student"], words, 40)
        said = {
            "pieces": words_of(*models["pieces"], words, 40),
            "grams": words_of(*models["grams"], words, 24),
        }
        for word, tag in enumerate(tags):
            if not own[2][word]:
                continue
            counts[0] += 1
            sums[0] -= own[0][word].double().log_softmax(-1)[tag]
            heard = {
                name: w for name, w in {"pieces": 1.0, "grams": 3.0}.items() if said[name][2][word]
            }
            if not heard:
                continue
            counts[1:] += 1
            logits = {
                n: said[n][0][word].double()[list(run.plan.objective.columns[n])] for n in heard
            }
            weights = {n: w / sum(heard.values()) for n, w in heard.items()}
            p = sum(weights[n] * (logits[n] / 2).softmax(-1) for n in heard)
            log_q = (own[0][word].double() / 2).log_softmax(-1)
            sums[1] += 4 * (p * (p.log() - log_q)).sum()
            for name, weight in weights.items():
                mapped = linear[name](own[1][word]).detach()
                sums[2] += weight * (mapped - said[name][1][word]).square().mean()
    assert counts[1] < sum(map(len, table["words"].to_pylist()[:12]))
    assert metrics.terms.tolist() == pytest.approx((sums / counts).tolist(), rel=1e-5)


def test_filler_adds_nothing(settings: dict[str, Any]) -> None:
    """A worker without rows of its own would add its filler's loss."""
    run = Run(settings)
    batch = run.batch([0, 1], filler=True)
    assert (batch.num_rows, run.module.objective.counts(batch).tolist()) == (0, [0.0] * 3)
    terms, _ = run.module(batch, run.signals(batch), NOW, torch.ones(3))
    assert terms.tolist() == [0.0] * 3


def test_answers_do_not_depend_on_their_company(settings: dict[str, Any]) -> None:
    """One answer serves all students and all batches."""
    run = Run(settings)
    teacher, ask = run.teachers["grams"], run.plan.objective.asks["grams"]
    assert teacher.describe().steady
    ids, texts = run.task.texts(ROWS)
    whole = Request(ids, texts, ask)
    together = teacher.answer(whole)
    assert together.lengths.tolist() == [len(words) for words in texts[0]]
    lost = unmapped_words(make_tokenizer(run.plan.student), texts[0], 24)
    assert together.mapped is not None
    assert int((~together.mapped).sum()) != sum(map(len, lost))  # its own tokenizer decides
    assert (together.logits[~together.mapped] == 0).all()
    for row in (1, 7):
        alone = teacher.answer(whole.select([row]))
        assert np.array_equal(alone.buffer, select_rows(together, row, row + 1).buffer)
    both = teacher.answer(merge_requests([whole.select([3, 1]), whole.select([2])]))
    assert np.array_equal(both.buffer, teacher.answer(whole.select([3, 1, 2])).buffer)


def test_onnx_answers_as_torch_does(settings: dict[str, Any]) -> None:
    """Logits of tokens have one more dimension than the exporter was told of."""
    pytest.importorskip("onnxruntime")
    settings["teachers"]["grams"]["backend"] = "onnx"
    run, ids = Run(settings), [0, 1, 5]
    plain = LocalTeacher(replace(teacher_settings(run.plan, "grams"), backend="torch"))
    request = Request(tuple(ids), run.task.texts(ids)[1], run.plan.objective.asks["grams"])
    one, other = run.teachers["grams"].answer(request), plain.answer(request)
    assert one.parts.keys() == other.parts.keys()
    for name in one.parts:
        torch.testing.assert_close(one.part(name), other.part(name), atol=1e-4, rtol=1e-4)


def test_keys_tell_words_from_texts() -> None:
    """Words that are cut elsewhere are other rows."""
    cells: list[Any] = [
        "a b",
        ("a b",),
        ("a", "b"),
        ("a", " b"),
        ("ab",),
        ("a", "b", ""),
        ("", "a", "b"),
    ]
    keys = {row_keys(((cell,),)).tobytes() for cell in cells}
    assert len(keys) == len(cells)
    assert row_keys((("a b",),)).tobytes() == row_keys((["a b"],)).tobytes()


def test_answers_about_other_words_are_refused(settings: dict[str, Any]) -> None:
    """Words compared with their neighbours lower no loss and raise no error."""
    run = Run(settings)
    batch, other = run.batch([0, 1, 2]), run.batch([3, 1, 2])
    shifted = run.signals(batch) | {"grams": run.signals(other)["grams"]}
    with pytest.raises(SignalError, match=r"teachers\.grams answered \d+ words for row 0"):
        run.module(batch, shifted, NOW, torch.ones(3))
    settings["teachers"]["grams"]["max_tokens"] = 8
    shorter = Run(settings).signals(batch)
    with pytest.raises(SignalError, match="has no piece of a word of row"):
        run.module(batch, shorter, NOW, torch.ones(3))


def test_a_teacher_of_some_types_is_heard_where_it_knows_the_tag(
    settings: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    """Its O means places too: learnt at places, or where nobody knows, it would unteach them."""
    part = make_tagger(tmp_path / "part", word_piece(), tags=["O", "B-PER", "I-PER"])
    settings["teachers"] = {
        "part": {"model": str(part), "missing_labels": "abstain", "label_map": {"PER": "per"}},
        "pieces": {"model": str(folders["pieces"])},
    }
    settings["losses"].pop()
    settings["ensemble"] = {}
    run = Run(settings)
    columns = run.plan.objective.columns
    assert columns["part"] == (0, 1, 2, -1, -1)
    labelled, spare = run.batch(ROWS), run.batch([31, 32])
    heard = answering(labelled, columns)
    assert heard is not None
    assert torch.equal(heard[0], labelled.labels < 3)
    assert heard[1].all()
    assert torch.equal(abstaining(labelled, columns)[0], labelled.labels >= 3)  # type: ignore[index]
    assert not answering(spare, columns)[0].any()  # type: ignore[index]
    metrics = run.step([ROWS, [31, 32]])
    assert torch.isfinite(metrics.terms).all()
    abstained = run.module.objective.weighting.seen.abstained
    untagged = int((spare.labels < 0).sum())
    assert abstained == {"part": int((labelled.labels >= 3).sum()) + untagged, "pieces": 0}


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_types_that_the_student_has_not_count_as_outside(
    settings: dict[str, Any], tmp_path: Path, temperature: float
) -> None:
    """A CoNLL teacher knows MISC; refused, a student of other types could not have it."""
    tags = ["B-MISC", "I-MISC", "O", "B-PER", "I-PER"]
    part = make_tagger(tmp_path / "part", word_piece(), tags=tags)
    settings["teachers"] = {
        "part": {
            "model": str(part),
            "missing_labels": "abstain",
            "label_map": {"PER": "per", "MISC": None},
        }
    }
    settings["losses"] = [{"kind": "forward_kl", "temperature": temperature}]
    settings["ensemble"] = {}
    run = Run(settings)
    columns = run.plan.objective.columns["part"]
    assert columns == (0, 3, 4, -1, -1)
    batch = run.batch(ROWS)
    (said,) = run.signals(batch).values()
    found = in_outputs("tagging", said.logits.float(), columns)
    p = said.logits.double().softmax(1)
    expected = torch.stack([p[:, 2] + p[:, 0] + p[:, 1], p[:, 3], p[:, 4]], dim=1)
    torch.testing.assert_close(found.softmax(1)[:, :3].double(), expected, atol=1e-6, rtol=1e-6)
    assert found[:, 3:].eq(-torch.inf).all()
    metrics = run.step([ROWS])
    assert torch.isfinite(metrics.terms).all()
    assert (metrics.terms > 0).all()


def test_teachers_of_bioes_are_noted(settings: dict[str, Any], tmp_path: Path) -> None:
    """What is read otherwise than it is written is said."""
    tags = ["O", *(f"{p}-{kind}" for kind in ("per", "loc") for p in "BIES")]
    part = make_tagger(tmp_path / "part", word_piece(), tags=tags)
    settings["teachers"] = {"part": {"model": str(part)}}
    settings["losses"] = [{"kind": "forward_kl"}]
    settings["ensemble"] = {}
    found = prepared(settings)
    note = "teachers.part.model writes spans as E-per, …; its tags become B- and I- with the sums of their probabilities."
    assert note in found.notes


def test_figures_of_a_student_and_its_teachers(settings: dict[str, Any]) -> None:
    """What a model does not see is no answer, and counts as none."""
    run = Run(settings)
    task = Tagging(run.plan.splits["test"].table, run.plan.labels)
    logits = predict(run.teachers["grams"], task, 4)
    words = sum(map(len, run.plan.splits["test"].table["words"].to_pylist()))
    assert logits.shape == (words, len(TAGS))
    metrics = metrics_of(logits, task, "test")
    assert metrics["test/words_unmapped"] == int((~seen_words(logits)).sum()) > 0
    assert 0 <= metrics["test/f1"] <= 1
    with torch.no_grad():
        batch = task.batch([0, 1], run.tokenizer, 40)
        answer = run.module.logits(batch)
    assert torch.equal(seen_words(answer), batch.words.mapped)  # type: ignore[union-attr]
    assert task.places([1]).tolist() == (task.sentences() == 1).nonzero().flatten().tolist()


def changed(settings: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    target: Any = settings
    *parents, last = path.split(".")
    for part in parents:
        target = target[int(part)] if part.isdigit() else target[part]
    target[int(last) if last.isdigit() else last] = value
    return settings


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("losses.2", {"kind": "attention_mse", "layers": "last"}, "losses.2.kind is attention_mse, which compares whole texts or pairs of tokens"),
        ("losses.2", {"kind": "pkd", "layers": "last"}, "losses.2.kind is pkd"),
        ("losses.2", {"kind": "nst", "layers": "last"}, "Use hidden_mse, cos, vid or a loss on logits"),
        ("losses.2.positions", "mean", "losses.2.positions must be all with task.kind: tagging, got mean"),
        ("losses.1", {"kind": "mse"}, "losses.1.kind is mse, which is for numbers (regression), but task.kind is tagging. Use cross_entropy."),
        ("student", {"network": {"kind": "lstm"}, "tokenizer": "x"}, "student.network is a network that answers for whole texts"),
        ("student", {"preset": "bigru", "tokenizer": "x"}, "student.preset is a network that answers for whole texts"),
        ("training.select_by", "validation/macro_f1", "training.select_by must be one of validation/f1"),
        ("task.scheme", "iob3", "task"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], path: str, value: Any, line: str
) -> None:
    """A loss of something else trains, and nobody knows what."""
    found = lines(changed(settings, path, value))
    assert any(line in one for one in found), found


def test_every_soft_loss_is_for_words_too() -> None:
    """One that no table names is refused everywhere."""
    from typing import get_args

    from raydistill.config.task import LOGIT_LOSSES

    kinds = {get_args(one.model_fields["kind"].annotation)[0] for one in get_args(SoftLoss)}
    assert set(LOGIT_LOSSES["tagging"]) <= kinds
    assert LOGIT_LOSSES["tagging"] == LOGIT_LOSSES["text_classification"]


def test_a_teacher_for_texts_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    """Its head for words would be random."""
    text = make_model(tmp_path / "text", labels=TAGS)
    found = lines(changed(settings, "teachers.grams.model", str(text)))
    assert any(
        "is a BertForSequenceClassification, which has no head for tags of words" in one
        for one in found
    )


def test_rows_of_which_nothing_is_left_are_refused(
    settings: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    """Nothing is compared in such a row, and nobody would know."""
    path = tmp_path / "train.jsonl"
    rows = folders["data"].joinpath("train.jsonl").read_text().splitlines()[:8]
    rows.insert(2, json.dumps({"tokens": ["\u200b", ""], "ner_tags": ["O", "O"]}))
    path.write_text("\n".join(rows) + "\n")
    (folders["data"] / "labels.json").exists()
    settings["task"]["labels"] = list(TAGS)
    settings["data"]["train"] = str(path)
    found = lines(settings)
    assert [line.split(" must ")[0] for line in found] == ["data.train", "teachers.grams.model"]
    assert (
        "of the student, cut at 40 tokens (student.max_tokens), makes no piece of any word in row 3 of train"
        in found[0]
    )


def test_types_are_renamed_as_a_whole() -> None:
    """Two entries for one type are one too many to forget."""
    theirs, own = (
        ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
        ["B-loc", "I-loc", "B-person", "I-person", "O"],
    )
    assert tag_columns(theirs, own, {"PER": "person"}) == (3, 4, 1, 2, 0)
    assert tag_columns(theirs, own, {"B-PER": "B-person", "I-PER": "I-person"}) == (3, 4, 1, 2, 0)
    with pytest.raises(ValueError, match="no label of the student"):
        tag_columns(theirs, own, {"PER": "persons"})
    with pytest.raises(ValueError, match="by half, it lacks"):
        tag_columns(["O", "B-person"], own, partial=True)
    with pytest.raises(ValueError, match="does not know O"):
        tag_columns(["B-person", "I-person"], own, partial=True)
    with pytest.raises(ValueError, match="none of the student's labels"):
        tag_columns(["O", "B-x", "I-x"], own, partial=True)
