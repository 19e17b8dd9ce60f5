"""Retrieval from a configuration: what may be written, what is planned, and the whole way to a loss."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.checks import check
from raydistill.config import DistillConfig, parse_config
from raydistill.models import load_tokenizer
from raydistill.objective import Moment, Objective
from raydistill.pipeline import Drawing, MicroBatch, plan_groups
from raydistill.prepare import Prepared, changed_settings, prepare
from raydistill.signals import Request, TeacherSignal
from raydistill.storing import needed_answers
from raydistill.tasks import Retrieval
from raydistill.teachers.pairs import PairSource
from raydistill.teachers.protocol import TeacherSettings
from raydistill.teachers.source import Asked
from raydistill.teachers.sources import InlineSource
from raydistill.teachers.teacher import LocalTeacher
from raydistill.terms import FeatureMatch, GroupMatch
from raydistill.training.step import StudentModule
from raydistill.training.student import make_student, make_tokenizer
from tests.conftest import make_model, write_rows
from tests.unit.embedders import PROMPTS, ROWS, make_embedder

NOW = Moment(0, 10)
LOSSES = [
    {"kind": "in_batch_cross_entropy"},
    {"kind": "score_kl", "among": "block", "teacher_temperature": 2.0},
    {"kind": "score_kl", "temperature": 3.0},
    {"kind": "margin_mse"},
    {"kind": "embedding_cos", "projection": "linear"},
    {"kind": "embedding_mse", "projection": {"kind": "linear", "side": "teacher"}, "texts": "queries"},
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student, a teacher that embeds in another width, and one that reads pairs."""
    root = tmp_path_factory.mktemp("models")
    return {
        "student": make_embedder(root / "student", width=16, seed=1),
        "wide": make_embedder(root / "wide", width=24, normalize=True, **PROMPTS),
        "cross": make_model(root / "cross", layers=1, width=16, labels=("LABEL_0",)),
    }


@pytest.fixture
def settings(tmp_path: Path, models: dict[str, Path]) -> dict[str, Any]:
    """A sound run of two teachers."""
    for name in ("train", "validation", "test"):
        write_rows(tmp_path / f"{name}.jsonl", ROWS)
    return {
        "run": {"name": "x", "output_dir": str(tmp_path / "out")},
        "data": {"folder": str(tmp_path)},
        "task": {"kind": "retrieval"},
        "student": {"model": str(models["student"]), "max_tokens": 16},
        "teachers": {
            "wide": {"model": str(models["wide"])},
            "cross": {"model": str(models["cross"])},
        },
        "losses": [dict(loss) for loss in LOSSES],
        "training": {"batch_rows": 12, "group_rows": 3, "block_queries": 2, "epochs": 1},
        "tracking": {"enabled": False},
    }


def prepared(settings: dict[str, Any]) -> Prepared:
    found, faults = prepare(DistillConfig.model_validate(settings))
    assert [str(fault) for fault in faults] == []
    assert found is not None
    return found


def lines(settings: dict[str, Any]) -> list[str]:
    config, faults = parse_config(settings)
    with pytest.raises(ValueError, match=r".") as caught:
        check(config, faults)
    return str(caught.value).splitlines()


def change(settings: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    at: Any = settings
    for parent in parents:
        at = at.setdefault(parent, {}) if isinstance(at, dict) else at[int(parent)]
    at[int(last) if isinstance(at, list) else last] = value
    return settings


def test_a_run_is_planned(settings: dict[str, Any]) -> None:
    """Who embeds is seen from the folder, and only who does is asked for embeddings."""
    found = prepared(settings)
    plan = found.objective
    assert {name: found.head_of(name) for name in found.sources} == {"wide": "embeddings", "cross": "texts"}  # fmt: skip
    assert (found.embedders["wide"].query_prompt, found.embedders["wide"].normalize) == ("the film ", True)  # fmt: skip
    assert plan.asks["wide"].keys == ("logits", "embedding.query", "embedding.passage")
    assert plan.asks["cross"].keys == ("logits",)
    assert plan.columns == {"wide": (0,), "cross": (0,)}
    assert (plan.scorer, plan.scorers["wide"]) == (plan.scorers["wide"], plan.scorer)
    assert plan.scorer is not None
    assert (plan.scorer.similarity, plan.scorer.scale) == ("cosine", 20.0)
    assert [type(term.match) for term in plan.terms] == [GroupMatch] * 4 + [FeatureMatch] * 2
    assert [(s.width_in, s.width_out) for s in plan.projections] == [(16, 24), (24, 16)]
    assert (found.steps.total, found.student.head_columns) == (2, None)
    assert found.config.training.select_by == "validation/ndcg_at_10"
    needed = [(ask.keys, rows.num_rows) for rows, ask in needed_answers(found, "wide")]
    assert needed == [(("embedding.query",), 5), (("embedding.passage",), 14)]
    other = prepared({**settings, "task": {"kind": "retrieval", "scale": 10.0}})
    assert [fault.path for fault in changed_settings(found.manifest, other.manifest)] == ["task.scale"]  # fmt: skip


def test_settings_go_before_what_the_folder_says(settings: dict[str, Any]) -> None:
    """A folder that says nothing, or the wrong thing, can still be used."""
    settings["teachers"]["wide"] |= {"pooling": "cls", "normalize": False, "similarity": "dot"}
    settings["student"] |= {"pooling": "max", "prompts": {"query": "a "}}
    settings["teachers"]["cross"] |= {"encodes": "texts"}
    found = prepared(settings)
    wide, own = found.embedders["wide"], found.student.embedder
    assert (wide.pooling, wide.normalize, wide.passage_prompt) == ("cls", False, "it was ")
    assert own is not None
    assert (own.pooling, own.query_prompt, own.passage_prompt) == ("max", "a ", "")
    assert found.objective.scorers["wide"].scale == 1.0, "a product is not within 1"
    assert found.head_of("cross") == "embeddings"
    assert any("does not say how its tokens become an embedding" in note for note in found.notes)


def test_a_student_of_a_teachers_layers_is_pooled_as_that_is(settings: dict[str, Any]) -> None:
    """Its states mean what they mean there."""
    settings["student"] = {"from_teacher": {"teacher": "wide", "layers": [0]}, "max_tokens": 16}
    found = prepared(settings).student
    assert found.embedder is not None
    assert (found.embedder.normalize, found.embedder.query_prompt) == (True, "the film ")
    student = make_student(found, make_tokenizer(found))
    assert not [name for name, _ in student.named_parameters() if "pooler" in name]


BAD = [
    ("losses.4.projection", None, "losses.4.projection is needed: embeddings of the student are 16 wide, those of teachers.wide 24. Write projection: linear."),
    ("losses.4.layers", [[1, 1]], "losses.4.layers must be left out with task.kind: retrieval, where the embeddings themselves are compared."),
    ("losses.4.positions", "first", "losses.4.positions must be left out with task.kind: retrieval"),
    ("losses.4.texts", "all", "losses.4.texts must be one of both, queries, passages, got 'all'."),
    ("losses.0", {"kind": "hidden_mse", "layers": "last"}, "losses.0.kind is hidden_mse, which compares states of a row, but with task.kind: retrieval a row is two texts. Use embedding_cos"),
    ("losses.0", {"kind": "cross_entropy"}, "Use in_batch_cross_entropy or relevance_cross_entropy"),
    ("losses.0.temperature", 0, "losses.0.temperature must be a positive finite number, got 0."),
    ("losses.1.among", "everyone", "losses.1.among must be one of candidates, block, got 'everyone'."),
    ("task.similarity", "euclidean", "task.similarity must be one of cosine, dot, got 'euclidean'."),
    ("task.scale", -1, "task.scale must be a positive finite number, got -1."),
    ("student.pooling", "average", "student.pooling must be one of mean, cls, max, mean_sqrt_len_tokens, weightedmean, lasttoken, got 'average'."),
    ("student.prompts", {"document": "x"}, "student.prompts.document is not known. Known: passage, query."),
    ("student", {"network": {"kind": "lstm", "embeddings": {"kind": "words"}}, "max_tokens": 16}, "student.network must be left out with task.kind: retrieval, whose student is a transformer."),
    ("teachers.cross.pooling", "cls", "teachers.cross.pooling has no effect: "),
    ("teachers.cross", {"encodes": "pairs", "similarity": "dot"}, "teachers.cross.similarity has no effect with teachers.cross.encodes: pairs, which embeds nothing. Remove one."),
    ("teachers.wide.label_map", {"LABEL_1": "score"}, "teachers.wide.label_map has no effect: the teacher embeds texts, and has no labels. Remove it."),
    ("training.micro_batch_rows", 9, "training.micro_batch_rows must be a multiple of 6, the 2 queries of a block (training.block_queries) times training.group_rows = 3, got 9."),
    ("training.num_workers", 3, "training.num_workers must not exceed the 2 blocks of a step (2 queries each, training.block_queries), got 3."),
    ("training.sharding", "full", "training.sharding must be none with task.kind: retrieval."),
    ("evaluation.retrieval", "corpus", "evaluation.retrieval is corpus, but there is no data.corpus to find passages in"),
    ("ensemble.weighting", {"kind": "confidence"}, "which weighs teachers row by row, but with task.kind: retrieval the candidates of a query are one."),
    ("adversarial", {"kind": "vat"}, "adversarial must be left out with task.kind: retrieval, where a pair has embeddings of two texts."),
    ("augmentation", {"operations": [{"kind": "delete"}]}, "augmentation must be left out with task.kind: retrieval"),
    ("data.train", "nowhere.jsonl", "data.train must be an existing file, got nowhere.jsonl"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "said"), BAD, ids=[f"{path} {i}" for i, (path, *_) in enumerate(BAD)])  # fmt: skip
def test_what_does_not_fit_is_one_line(settings: dict[str, Any], models: dict[str, Path], path: str, value: Any, said: str) -> None:  # fmt: skip
    """Before anything starts, and nothing else is complained about."""
    if path == "teachers.cross":
        value = value | {"model": str(models["cross"])}
    found = lines(change(settings, path, value))
    assert len(found) == 1, found
    assert said in found[0]


def test_embeddings_are_those_of_a_teacher_that_has_some(settings: dict[str, Any]) -> None:
    """A cross-encoder knows pairs, and no embedding of either text."""
    del settings["teachers"]["wide"]
    found = lines(settings)
    for place, name in ((1, "among is block"), (4, "kind is embedding_cos"), (5, "kind is embedding_mse")):  # fmt: skip
        (said,) = [line for line in found if line.startswith(f"losses.{place}.")]
        assert said.startswith(f"losses.{place}.{name}, which needs a teacher that embeds texts, but teachers.cross reads pairs.")  # fmt: skip
    assert len(found) == 3


def test_rows_without_what_is_needed_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    """A query that finds nothing teaches that everything is wrong."""
    rows = [*ROWS, {"query": "q", "positives": [], "negatives": ["a film"]}, {"query": "r", "positives": []}]  # fmt: skip
    write_rows(tmp_path / "train.jsonl", rows)
    said = "\n".join(lines(settings))
    assert "data.train must have at least one passage for every query" in said
    write_rows(tmp_path / "train.jsonl", rows[:-1])
    assert lines(settings)[0].startswith("data.train must have a relevant passage for every query, got none in train.jsonl, row 6.")  # fmt: skip


def test_settings_of_retrieval_are_refused_elsewhere(settings: dict[str, Any]) -> None:
    """What nobody reads, somebody thinks is read."""
    settings["task"] = {"kind": "reranking"}
    settings["teachers"] = {"cross": {**settings["teachers"]["cross"], "encodes": "pairs"}}
    settings["student"] |= {"normalize": True}
    settings["losses"] = [{"kind": "score_kl", "among": "block"}, {"kind": "relevance_cross_entropy"}]  # fmt: skip
    found = lines(settings)
    paths = ["student.normalize", "teachers.cross.encodes", "losses.0.among"]
    assert [line.split()[0] for line in found] == paths
    assert found[0].endswith("has no effect: it is for task.kind: retrieval, got reranking. Remove it.")  # fmt: skip


class Run:
    """A student, its teachers and its rows in this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.prepared = found = prepared(settings)
        self.tokenizer = make_tokenizer(found.student)
        torch.manual_seed(0)
        student = make_student(found.student, self.tokenizer)
        self.module = StudentModule(student, Objective(found.objective)).train()
        self.task = Retrieval(found.splits["train"].table, found.labels, found.student.embedder)
        self.teachers = {name: self._teacher(name) for name in found.sources}

    def _teacher(self, name: str) -> Any:
        found = self.prepared
        spec = found.embedders.get(name)
        loaded = LocalTeacher(
            TeacherSettings(
                name, found.sources[name], "float32", 16, 8, head=found.head_of(name), embedder=spec
            )
        )
        if spec is None:
            return loaded
        return Asked(PairSource(name, InlineSource(loaded, 0), found.objective.scorers[name]))

    def plan(self, rank: int, world: int, micro: int | None, step: int = 0) -> Iterator[MicroBatch]:
        training = self.prepared.config.training
        return plan_groups(
            Drawing(5, 3, lambda group, epoch: self.task.draw(group, most=3, positives=2, seed=3, epoch=epoch), 2),
            batch_rows=training.batch_rows, micro_batch_rows=micro, seed=3, rank=rank, world=world,
            first_step=step, total_steps=step + 1, count=self.module.objective.counts,
            make_batch=lambda rows, filler: self.task.batch(rows, self.tokenizer, 16, filler=filler),
            lengths=self.task.lengths(),
        )  # fmt: skip

    def signals(self, micro: MicroBatch) -> dict[str, TeacherSignal]:
        asks, batch = self.prepared.objective.asks, micro.batch
        return {
            name: teacher.answer(Request(batch.row_ids, batch.texts, asks[name]))
            for name, teacher in self.teachers.items()
        }

    def step(self, world: int, micro: int | None, step: int = 0) -> tuple[Tensor, Tensor]:
        """Values of the terms, and the gradient of what is minimised, over all workers."""
        plans = [list(self.plan(rank, world, micro, step)) for rank in range(world)]
        shares = [one[0].share for one in plans if one[0].share is not None]
        counts = torch.stack(shares).sum(0).float()
        self.module.zero_grad()
        terms = torch.zeros(len(counts))
        for plan in plans:
            for batch in plan:
                values, loss = self.module(batch.batch, self.signals(batch), NOW, counts)
                loss.backward()
                terms += values.detach()
        grads = [p.grad.flatten() for p in self.module.parameters() if p.grad is not None]
        return terms, torch.cat(grads)


@pytest.mark.parametrize(("rows", "step"), [(12, 0), (12, 1), (15, 0)], ids=["full", "short", "odd"])  # fmt: skip
def test_a_step_does_not_depend_on_how_it_is_cut(settings: dict[str, Any], rows: int, step: int) -> None:  # fmt: skip
    """The passages of other queries would be others with another number of workers."""
    settings["training"]["batch_rows"] = rows
    run = Run(settings)
    whole = run.step(1, None, step)
    assert (whole[0] > 0).all()
    for world, micro in ((1, 6), (2, None), (2, 6)):
        cut = run.step(world, micro, step)
        torch.testing.assert_close(cut[0], whole[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(cut[1], whole[1], rtol=1e-4, atol=1e-6)


def test_blocks_are_never_cut(settings: dict[str, Any]) -> None:
    """Who is beside whom is said by the seed alone; a block that is not full is told by being the last."""
    settings["training"]["batch_rows"] = 15
    run = Run(settings)
    seen = {}
    for world, micro in ((1, None), (1, 6), (2, 6)):
        found = set()
        for rank in range(world):
            for one in run.plan(rank, world, micro):
                group = one.batch.group
                assert group is not None
                for block in range(int(group[-1]) // 2 + 1):
                    rows = (group // 2 == block).nonzero().flatten().tolist()
                    found.add(tuple(one.batch.row_ids[row] for row in rows))
        seen[world, micro] = found
    assert len(seen[1, None]) == 3
    assert seen[1, 6] == seen[1, None] == seen[2, 6]


def test_what_is_relevant_is_no_negative_whoever_it_was_drawn_for(settings: dict[str, Any]) -> None:  # fmt: skip
    """The better the student, the more it would be punished for what it finds."""
    run = Run(settings)
    rows = [row for group in (0, 3) for row in run.task.draw(group, most=3, positives=1, seed=1, epoch=0)]  # fmt: skip
    batch = run.task.batch(rows, run.tokenizer, 16)
    assert batch.pairs is not None
    whole = run.task.pair_texts
    passages = sorted({int(whole.places["passage"][row]) for row in rows})
    texts = [whole.texts["passage"][place] for place in passages]
    known = [{"great plot", "fine cast"}, {"fine cast", "superb cast"}]
    assert batch.pairs.relevant.tolist() == [[text in one for text in texts] for one in known]
    assert batch.inputs["input_ids"].shape[0] == len(texts), "each passage once"
    assert batch.pairs.queries["input_ids"].shape[0] == 2


def one_row_blocks(settings: dict[str, Any], loss: dict[str, Any], **task: Any) -> dict[str, Any]:
    """A step of one loss against the embedder alone, all five queries with one relevant and one other passage."""
    rows = [{**row, "positives": row["positives"][:1], "negatives": [f"{row['negatives'][0]} {i} a"]} for i, row in enumerate(ROWS)]  # fmt: skip
    for name in ("train", "validation", "test"):
        write_rows(Path(settings["data"]["folder"]) / f"{name}.jsonl", rows)
    teachers = {} if loss["kind"] == "in_batch_cross_entropy" else {"wide": settings["teachers"]["wide"]}  # fmt: skip
    return {
        **settings, "losses": [loss], "teachers": teachers, "task": {"kind": "retrieval", **task},
        "training": {"batch_rows": 10, "group_rows": 2, "block_queries": 8},
    }  # fmt: skip


PEERS = [
    ({"kind": "score_kl"}, "DistillKLDivLoss", {"similarity": "dot"}),
    ({"kind": "score_kl", "temperature": 2.5}, "DistillKLDivLoss", {"similarity": "cosine", "scale": 1.0}),
    ({"kind": "margin_mse"}, "MarginMSELoss", {"similarity": "dot"}),
    ({"kind": "in_batch_cross_entropy"}, "MultipleNegativesRankingLoss", {"similarity": "cosine"}),
    ({"kind": "in_batch_cross_entropy"}, "MultipleNegativesRankingLoss", {"similarity": "dot", "scale": 3.0}),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "peer", "task"), PEERS, ids=[f"{p} {t['similarity']}" for _, p, t in PEERS])  # fmt: skip
def test_the_whole_way_gives_the_loss_of_sentence_transformers(settings: dict[str, Any], models: dict[str, Path], loss: dict[str, Any], peer: str, task: dict[str, Any]) -> None:  # fmt: skip
    """Prompts, cuts, pooling, order of candidates, scale: each may be right by itself and not the loss."""
    from sentence_transformers import SentenceTransformer, util
    from sentence_transformers.sentence_transformer import losses as of_embeddings

    settings = one_row_blocks(settings, loss, **task)
    run = Run(settings)
    (micro,) = plan_groups(
        Drawing(5, 2, lambda group, epoch: run.task.draw(group, most=2, positives=1, seed=0, epoch=epoch), 5),
        batch_rows=10, micro_batch_rows=None, seed=0, rank=0, world=1, first_step=0, total_steps=1,
        make_batch=lambda rows, filler: run.task.batch(rows, run.tokenizer, 16, filler=filler),
        count=run.module.objective.counts, lengths=run.task.lengths(),
    )  # fmt: skip
    assert micro.share is not None
    terms, _ = run.module(micro.batch, run.signals(micro), NOW, micro.share.float())

    student = SentenceTransformer(str(models["student"]), device="cpu")
    queries, passages = (list(column) for column in micro.batch.texts)
    columns = [queries[::2], passages[::2], passages[1::2]]
    cosine = task["similarity"] == "cosine"
    of_pairs = util.pairwise_cos_sim if cosine else util.pairwise_dot_score
    own = [torch.from_numpy(student.encode(column)) for column in columns]
    if peer == "MultipleNegativesRankingLoss":
        of_all, scale = (util.cos_sim, 20.0) if cosine else (util.dot_score, 3.0)
        theirs = getattr(of_embeddings, peer)(student, scale=scale, similarity_fct=of_all)
        expected = theirs.compute_loss_from_embeddings(own, None)
    else:
        teacher = SentenceTransformer(str(models["wide"]), device="cpu")
        asked, found = teacher.encode_query(columns[0]), [teacher.encode_document(c) for c in columns[1:]]  # fmt: skip
        scale = 1.0 if cosine else 20.0  # of the teacher's own cosine
        labels = scale * torch.stack([teacher.similarity_pairwise(asked, one) for one in found], 1)
        options = {"temperature": loss["temperature"]} if "temperature" in loss else {}
        theirs = getattr(of_embeddings, peer)(student, of_pairs, **options)
        expected = theirs.compute_loss_from_embeddings(own, labels)
    torch.testing.assert_close(terms[0], expected, rtol=1e-5, atol=1e-6)


def test_embeddings_are_compared_text_by_text(settings: dict[str, Any]) -> None:
    """A mean over distinct texts of a micro-batch would be another one in another cut."""
    settings["losses"] = [{"kind": "embedding_mse", "texts": texts} for texts in ("both", "queries", "passages")]  # fmt: skip
    settings["teachers"] = {"wide": {"model": settings["student"]["model"], "pooling": "max"}}
    run = Run(settings)
    (micro,) = run.plan(0, 1, None)
    assert micro.share is not None
    rows = len(micro.batch.row_ids)
    assert micro.share.tolist() == [2 * rows, rows, rows]
    signals = run.signals(micro)
    terms, _ = run.module(micro.batch, signals, NOW, micro.share.float())
    assert terms[0].item() == pytest.approx((terms[1] + terms[2]).item() / 2)
    tokenizer, column = load_tokenizer(run.prepared.sources["wide"]), micro.batch.texts[0]
    own = run.module.embeddings(dict(tokenizer(list(column), return_tensors="pt", padding=True)))
    expected = (own - signals["wide"].embedding("query")).square().mean()
    assert terms[1].item() == pytest.approx(expected.item(), rel=1e-5)


def test_distinct_texts_stand_for_all_rows(settings: dict[str, Any]) -> None:
    """Places that are off by one give every pair the score of another."""
    task = Run(settings).task
    whole = task.pair_texts
    _, columns = task.texts(range(task.num_rows))
    for side, column in zip(("query", "passage"), columns, strict=True):
        places = whole.places[side]  # type: ignore[index]
        assert [whole.texts[side][place] for place in places] == list(column)  # type: ignore[index]
        assert len(np.unique(places)) == len(whole.texts[side])  # type: ignore[index]
