"""Words as tokens, and their vectors from files of three formats."""

import bz2
import gzip
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from raydistill.models import ModelSource, load_classifier
from raydistill.models.embeddings import (
    EmbeddingPlan,
    embedding_matrix,
    matrix_shape,
    narrowed,
    word_matrix,
)
from raydistill.models.vectors import read_vectors
from raydistill.models.words import (
    SPECIAL_WORDS,
    WordRules,
    known_share,
    possible_words,
    word_tokenizer,
    words_of,
)

WORDS = ("the", "film", "电影", "café", "New_York", ".")
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 4)).astype(np.float32)


def as_text(header: bool, end: str = "\n") -> bytes:
    lines = [f"{len(WORDS)} 4"] if header else []
    lines += [f"{w} {' '.join(repr(float(x)) for x in v)}" for w, v in zip(WORDS, VECTORS, strict=True)]  # fmt: skip
    return "".join(line + end for line in lines).encode()


def as_binary(newlines: bool = True) -> bytes:
    end = b"\n" if newlines else b""
    records = [
        w.encode() + b" " + struct.pack("<4f", *v) + end
        for w, v in zip(WORDS, VECTORS, strict=True)
    ]
    return f"{len(WORDS)} 4\n".encode() + b"".join(records)


CONTENTS = {
    "word2vec.txt": as_text(header=True),
    "trailing_blanks.txt": as_text(header=True, end=" \n"),
    "windows.txt": as_text(header=True, end="\r\n"),
    "glove.txt": as_text(header=False),
    "word2vec.bin": as_binary(),
    "packed.bin": as_binary(newlines=False),
    "glove.txt.gz": gzip.compress(as_text(header=False)),
    "sgns.bz2": bz2.compress(as_text(header=True)),
    "word2vec.bin.xz": lzma.compress(as_binary()),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_gives_the_same_vectors(name, tmp_path):
    """A format read as another one gives vectors of noise, which train without complaint."""
    (tmp_path / name).write_bytes(CONTENTS[name])
    found = read_vectors(tmp_path / name, ["café", "电影", "absent", "."])
    assert (found.words, found.places) == (("电影", "café", "."), (2, 3, 5))
    np.testing.assert_array_equal(found.vectors, VECTORS[[2, 3, 5]])


@pytest.mark.parametrize("name", ["glove.txt", "word2vec.bin"])
def test_first_words_are_taken_whoever_wants_them(name, tmp_path):
    """Words of later texts are unknown for ever, though their vectors are there."""
    (tmp_path / name).write_bytes(CONTENTS[name])
    found = read_vectors(tmp_path / name, ["café"], first=2)
    assert found.words == ("the", "film", "café")
    np.testing.assert_array_equal(found.vectors, VECTORS[[0, 1, 3]])


def test_words_with_blanks_and_twice(tmp_path):
    """GloVe's larger files hold words of several pieces; a line cut in the wrong place fails the run."""
    (tmp_path / "v").write_text("a 1 2\n. . 3 4\na 5 6\n. 7 8\n")
    found = read_vectors(tmp_path / "v", ["a", "."])
    assert found.words == ("a", ".")
    assert found.vectors.tolist() == [[1, 2], [7, 8]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no word vectors"),
        (b"text,label\ngood film,positive\n", "holds no word vectors"),
        (b"3 2\nthe 1 2\nfilm 3 4\n", "says that it holds 3 words, and ends after 2"),
        (b"the 1 2\nfilm 3\n", r"the vector of 'film' \(the 2\. word\) is not 2 finite numbers"),
        (b"the 1 2\nfilm 3 nan\n", "is not 2 finite numbers"),
        (b"the 1 2\nfilm 3 x\n", "is not 2 finite numbers"),
        (as_binary()[:-9], "ends or makes no sense at the 6."),
        (b"5 0\n", "holds no word vectors"),
    ],
)
def test_damaged_files_are_refused(content, message, tmp_path):
    """A download that broke off would leave most words without a vector, in silence."""
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_vectors(tmp_path / "v", ["the", "film", "."])


def test_unwanted_words_are_not_looked_at(tmp_path):
    """One odd line among millions must not stop who does not need it."""
    (tmp_path / "v").write_bytes(b"the 1 2\n\xff\xfe 3 4\nodd x y\n\nfilm 3 4\n")
    assert read_vectors(tmp_path / "v", ["film"], first=2).words == ("the", "film")


TEXTS = ["The film, 好看 the film", "film 好 café", "the iPhone 12"]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (WordRules(), ["film", "the", ",", "12", "The", "café", "iPhone", "好", "好看"]),
        (WordRules("characters"), ["film", "the", "好", ",", "12", "The", "café", "iPhone", "看"]),
        (WordRules(lower_case=True), ["film", "the", ",", "12", "café", "iphone", "好", "好看"]),
    ],
)
def test_words_by_frequency(rules, words):
    """An order that changes from run to run gives every word another row of the matrix."""
    assert words_of(TEXTS, rules) == words


def test_rare_words_and_too_many_are_left_out():
    """The matrix grows with every misspelling."""
    assert words_of(TEXTS, WordRules(), min_count=2) == ["film", "the"]
    assert words_of(TEXTS, WordRules(), max_words=3) == ["film", "the", ","]


def test_tokenizer_pads_ends_and_survives_saving(tmp_path):
    """A row without a known word still needs a token, and a pair a border."""
    from raydistill.models.auto import AutoTokenizer
    from raydistill.models.describe import tokenizer_fingerprint

    made = word_tokenizer(WordRules("characters"), ["film", "好"])
    assert made(["好 film x", ""], padding=True)["input_ids"] == [[4, 3, 1, 2], [2, 0, 0, 0]]
    assert made("film", "好")["input_ids"] == [3, 2, 4, 2]
    assert list(made("film")) == ["input_ids", "attention_mask"]
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer_fingerprint(again) == tokenizer_fingerprint(made)
    assert again(["好看 film"])["input_ids"] == [[4, 1, 3, 2]]


def test_share_of_known_words():
    """Who is not told that half of the words are unknown looks for the fault elsewhere."""
    made = word_tokenizer(WordRules(), ["film", "the"])
    assert known_share(made, TEXTS) == pytest.approx(5 / 12)
    assert known_share(made, TEXTS, most=2) == pytest.approx(4 / 9)
    assert known_share(made, []) == 1.0


def test_possible_words_are_those_a_text_is_cut_into():
    """Phrases of a file would fill the matrix and never be met."""
    words = ["the", "The", "New_York", "好看", "好", "a b", "."]
    assert possible_words(words, WordRules()) == ["the", "The", "好看", "好", "."]
    assert possible_words(words, WordRules("characters", lower_case=True)) == ["the", "好", "."]


def test_word_matrix_has_a_row_for_each_token(tmp_path):
    """Vectors one row off give every word its neighbour's meaning."""
    (tmp_path / "v").write_bytes(as_text(header=False))
    matrix = word_matrix(["café", "the"], read_vectors(tmp_path / "v", ["the", "café"]))
    expected = [np.zeros(4), VECTORS[[0, 3]].mean(0), np.zeros(4), VECTORS[3], VECTORS[0]]
    np.testing.assert_allclose(matrix, expected, atol=1e-7)
    assert word_tokenizer(WordRules(), ["café", "the"]).convert_tokens_to_ids("café") == len(SPECIAL_WORDS)  # fmt: skip


def test_narrowed_is_the_best_picture(monkeypatch):
    """Columns that are merely cut off lose what a projection keeps."""
    torch.manual_seed(0)
    low = torch.randn(200, 3) @ torch.randn(3, 10) + 5.0
    few = narrowed(low, 3)
    assert few.mean(0).abs().max() < 1e-5
    torch.testing.assert_close(few @ few.T, (low - low.mean(0)) @ (low - low.mean(0)).T, atol=1e-3, rtol=1e-3)  # fmt: skip
    wide = torch.randn(200, 10)
    kept = [float(narrowed(wide, k).pow(2).sum()) for k in (1, 4, 10)]
    spectrum = torch.linalg.svdvals((wide - wide.mean(0)).double()).pow(2)
    assert kept == pytest.approx([float(spectrum[:k].sum()) for k in (1, 4, 10)], rel=1e-5)
    monkeypatch.setattr("raydistill.models.embeddings._ROWS", 7)
    torch.testing.assert_close(narrowed(wide, 4), narrowed(wide.clone(), 4))


@pytest.mark.parametrize("headless", [False, True])
def test_matrix_of_a_model_is_its_own(tiny, tmp_path, headless):
    """A matrix of other rows gives tokens each other's meaning."""
    from transformers import AutoModel, AutoTokenizer

    folder: Path = tiny["wide"]
    true = load_classifier(ModelSource("w", str(folder), str(folder))).get_input_embeddings().weight  # type: ignore[operator]  # fmt: skip
    if headless:  # saved without the name of what it is part of
        AutoModel.from_pretrained(folder).save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
        folder = tmp_path
    source = ModelSource("w", str(folder), str(folder))
    assert matrix_shape(source) == (true.shape[0], 48)
    found = embedding_matrix(EmbeddingPlan(source))
    torch.testing.assert_close(found, (true / true.pow(2).mean().sqrt()).detach())
    assert embedding_matrix(EmbeddingPlan(source, width=8)).shape == (true.shape[0], 8)


def test_fingerprint_follows_the_vectors():
    """A run resumed with other vectors would be another run."""
    one = EmbeddingPlan(vectors=VECTORS)
    assert one.fingerprint() == EmbeddingPlan(vectors=VECTORS.copy()).fingerprint()
    assert one.fingerprint() != EmbeddingPlan(vectors=VECTORS + 1).fingerprint()
