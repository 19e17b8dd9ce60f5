"""Models that embed texts: the vectors of sentence-transformers, from its folders and into them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from raydistill.config.models import PoolingMode
from raydistill.losses import PairScorer
from raydistill.models import EmbedderSpec, load_tokenizer, tokenize
from raydistill.models.embedder import embed_pooled
from raydistill.models.embedding_files import is_embedder_folder, read_embedder
from raydistill.signals import Ask, Request
from raydistill.store import Codecs, Place, Shelf, ShelfStore
from raydistill.teachers.counting import CountingTeacher
from raydistill.teachers.pairs import PairSource, text_ask
from raydistill.teachers.protocol import TeacherSettings
from raydistill.teachers.source import Asked
from raydistill.teachers.sources import InlineSource, Memory, StoreSource
from raydistill.teachers.stored import StoredTeacher
from raydistill.teachers.teacher import LocalTeacher
from tests.conftest import make_model
from tests.unit.embedders import PROMPTS, load, make_embedder, source

MODES = get_args(PoolingMode)
TEXTS = ["a good film", "the plot was very dull and its end is poor", "cast"]
PAIRS = (("good film", "good film", "bad film"), ("the plot", "a cast", "the plot"))
SPECS = [
    EmbedderSpec(),
    EmbedderSpec(pooling="cls", normalize=True, similarity="dot"),
    EmbedderSpec(pooling="max", **PROMPTS),
    EmbedderSpec(pooling="weightedmean", normalize=True, lower_case=True, **PROMPTS),
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", MODES)
def test_pooling_is_that_of_sentence_transformers(mode: Any, side: str) -> None:
    """An embedding that is pooled otherwise is another one, of a model that looks the same."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    states = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    mask = mask if side == "right" else mask.flip(1)
    peer = Pooling(4, pooling_mode=mode)({"token_embeddings": states, "attention_mask": mask})
    ours = embed_pooled(states, mask.bool(), mode)
    torch.testing.assert_close(ours, peer["sentence_embedding"], rtol=1e-6, atol=1e-6)
    dirty = states.masked_fill(~mask.bool().unsqueeze(-1), 1e9)
    torch.testing.assert_close(embed_pooled(dirty, mask.bool(), mode), ours)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.pooling)
def test_what_is_written_sentence_transformers_loads(spec: EmbedderSpec, tmp_path: Path) -> None:
    """A student that only raydistill can search with is of no use."""
    from sentence_transformers import SentenceTransformer

    folder = make_embedder(tmp_path / "model", **vars(spec))
    assert is_embedder_folder(source(folder))
    assert read_embedder(source(folder)) == (spec, [])
    peer = SentenceTransformer(str(folder), device="cpu")
    assert peer.similarity_fn_name == spec.similarity
    assert peer.max_seq_length == 32
    model, tokenizer = load(folder, spec), load_tokenizer(source(folder))
    for side, encode in (("query", peer.encode_query), ("passage", peer.encode_document)):
        with torch.no_grad():
            ours = model(**tokenize(tokenizer, [spec.prompted(TEXTS, side)], 32)).logits  # type: ignore[arg-type]
        theirs = torch.from_numpy(encode(TEXTS))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    scores = PairScorer(spec.similarity).matrix(ours, ours)
    torch.testing.assert_close(scores, peer.similarity(ours, ours), rtol=1e-5, atol=1e-6)


def test_newer_folders_are_read_too(tmp_path: Path) -> None:
    """Their own library names poolings otherwise than it did."""
    from sentence_transformers import SentenceTransformer

    folder = make_embedder(tmp_path / "model", pooling="max", normalize=True, **PROMPTS)
    SentenceTransformer(str(folder), device="cpu").save(str(tmp_path / "again"))
    found, notes = read_embedder(source(tmp_path / "again"))
    assert found == EmbedderSpec("max", True, *PROMPTS.values())
    assert notes == []


def test_a_folder_that_says_nothing_is_said_to(tmp_path: Path) -> None:
    """A mean that nobody asked for is to be known."""
    bare, said = read_embedder(source(make_model(tmp_path / "bare")))
    assert (bare, len(said)) == (EmbedderSpec(), 1)
    folder = make_embedder(tmp_path / "model", normalize=True)
    (folder / "1_Pooling" / "config.json").unlink()
    assert read_embedder(source(folder)) == (EmbedderSpec(normalize=True), said)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("modules.json", lambda m: [*m, {"type": "a.Dense", "path": "2_Dense"}], "has a module Dense"),
        ("modules.json", lambda m: m[:1], "has no module Pooling"),
        ("modules.json", lambda m: [{**m[0], "path": "0_Transformer"}, *m[1:]], "in a folder of its own"),
        ("1_Pooling/config.json", lambda p: {**p, "pooling_mode_cls_token": True}, "pools its tokens by"),
        ("1_Pooling/config.json", lambda p: {**p, "include_prompt": False}, "leaves its prompts out"),
        ("config_sentence_transformers.json", lambda c: {**c, "similarity_fn_name": "manhattan"}, "by manhattan"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_what_is_not_known_is_refused(file: str, change: Any, said: str, tmp_path: Path) -> None:
    """Left out in silence, a layer makes other embeddings than those of the model one named."""
    folder = make_embedder(tmp_path / "model")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(change(content)))
    with pytest.raises(ValueError, match=said):
        read_embedder(source(folder))


def teacher(folder: Path, spec: EmbedderSpec, **changes: Any) -> LocalTeacher:
    settings = TeacherSettings("one", source(folder), "float32", 16, 8, head="embeddings", embedder=spec)  # fmt: skip
    return LocalTeacher(replace(settings, **changes))


def pairs(ask: Ask) -> Request:
    return Request(tuple(range(3)), PAIRS, ask)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_pairs_are_answered_by_their_texts(backend: Any, tmp_path: Path) -> None:
    """A passage that stands with twenty queries would be computed twenty times."""
    spec = EmbedderSpec(normalize=True, **PROMPTS)
    folder = make_embedder(tmp_path / "model", **vars(spec))
    counted = CountingTeacher(teacher(folder, spec, backend=backend))
    whole = Ask(embeddings=("query", "passage"))
    asked = Asked(PairSource("one", InlineSource(counted, 0), PairScorer("cosine", 20.0)))
    signal = asked.answer(pairs(whole))
    assert list(signal.parts) == list(whole.keys) == ["logits", "embedding.query", "embedding.passage"]  # fmt: skip
    assert counted.stats()["rows_computed"] == 2 + 2
    model, tokenizer = load(folder, spec), load_tokenizer(source(folder))
    sides = []
    for side, column in zip(("query", "passage"), PAIRS, strict=True):
        with torch.no_grad():
            inputs = tokenize(tokenizer, [spec.prompted(column, side)], 16)  # type: ignore[arg-type]
            sides.append(model(**inputs).logits)
        torch.testing.assert_close(signal.embedding(side), sides[-1], rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]
    expected = 20 * (sides[0] * sides[1]).sum(-1)
    torch.testing.assert_close(signal.logits[:, 0], expected, rtol=1e-5, atol=1e-4)
    assert list(asked.answer(pairs(Ask())).parts) == ["logits"]


def test_embeddings_have_the_same_bits_in_any_company(tmp_path: Path) -> None:
    """The store would hold other answers than a run without one gets."""
    spec = EmbedderSpec(normalize=True)
    one = teacher(make_embedder(tmp_path / "model", layers=2, width=32, normalize=True), spec)
    assert one.describe().steady
    texts = tuple(" ".join(TEXTS[i % 3].split()[: 1 + i % 9]) for i in range(30))
    whole = one.answer(Request(tuple(range(30)), (texts,), text_ask("passage")))
    alone = one.answer(Request((4,), (texts[4:5],), text_ask("passage")))
    assert torch.equal(whole.embedding("passage")[4], alone.embedding("passage")[0])


def test_what_decides_an_embedding_decides_its_shelf(tmp_path: Path) -> None:
    """With another prompt the same weights give other answers."""
    folder = make_embedder(tmp_path / "model")
    prints = {teacher(folder, spec).describe().fingerprint for spec in SPECS}
    assert len(prints) == len(SPECS)
    facts = ("w", "float32", 16, False, "float32", "", "cpu", "torch", "t")
    names = {Shelf(*facts, embedding=spec.decides).name for spec in SPECS}
    assert len(names) == len(SPECS)
    assert Shelf(*facts).name not in names


def test_the_store_holds_each_text_once(tmp_path: Path) -> None:
    """Later epochs and other students draw other pairs of the same texts."""
    spec = EmbedderSpec(**PROMPTS)
    counted = CountingTeacher(teacher(make_embedder(tmp_path / "model", **PROMPTS), spec))
    shelf = Shelf("w", "float32", 16, False, "float32", "", "cpu", "torch", "t")

    def opened() -> ShelfStore:
        return ShelfStore(
            Place(str(tmp_path / "store")), shelf, Codecs(), teacher="one", about={},
            max_bytes=None, segment_bytes=1 << 20,
        )  # fmt: skip

    def asked() -> Asked:
        store = opened()
        inner = InlineSource(StoredTeacher(counted, store), 0)
        texts = StoreSource("one", store, Memory(0), inner)
        return Asked(PairSource("one", texts, PairScorer("dot")))

    first = asked()
    whole = Ask(embeddings=("query", "passage"))
    before = first.answer(pairs(whole))
    others = Request((7,), (("bad film",), ("a cast",)), whole)
    second = first.answer(others)
    assert counted.stats()["rows_computed"] == 4
    texts = ("good film",)  # asked about as a passage, it is another text
    first.source.texts.collect(first.source.texts.ask(Request((1,), (texts,), text_ask("passage"))))  # type: ignore[attr-defined]
    assert counted.stats()["rows_computed"] == 5
    torch.testing.assert_close(second.embedding("query")[0], before.embedding("query")[2])
    torch.testing.assert_close(second.embedding("passage")[0], before.embedding("passage")[1])
