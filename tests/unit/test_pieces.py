"""Words and their pieces: each word is found again, or counted as lost."""

import numpy as np
import pytest
import torch

from raydistill.models.pieces import (
    encode_words,
    first_pieces,
    mean_pieces,
    tokenize_words,
    unmapped_words,
    word_prefix,
)
from tests.unit.words import byte_level, unigram, word_piece

ROWS = [
    ["Ada", "Lovelace", "went", "unbelievably", "to", "New", "York", "."],
    ["中国", "Paris", "", "\u200b", "in", "😀", "Rio-Paris"],
    ["the"],
]
MAKERS = {"word pieces": word_piece, "unigram": unigram, "bytes": byte_level}


@pytest.mark.parametrize("name", MAKERS)
def test_every_word_is_found_or_lost(name: str) -> None:
    """A word that is taken for its neighbour teaches the wrong tag."""
    tokenizer = MAKERS[name]()
    inputs, pieces = tokenize_words(tokenizer, ROWS, 64)
    flat = inputs["input_ids"].flatten()
    lost = unmapped_words(tokenizer, ROWS, 64)
    words = [word for row in ROWS for word in row]
    gone = {sum(map(len, ROWS[:row])) + place for row, some in enumerate(lost) for place in some}
    assert {i for i, there in enumerate(pieces.mapped.tolist()) if not there} == gone
    assert 10 in gone  # the empty word
    for number, word in enumerate(words):
        if number in gone:
            assert pieces.number[number] == 0
            continue
        own = flat[pieces.place[pieces.word == number]]
        alone = torch.tensor(encode_words(tokenizer, [[word]], 64)[0]["input_ids"][0])
        special = torch.tensor(tokenizer.all_special_ids)
        unknown = torch.tensor([-1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id])
        alone = alone[~torch.isin(alone, special) | torch.isin(alone, unknown)]
        assert torch.equal(own, alone), word
        assert flat[pieces.first[number]] == own[0]


def test_words_behind_the_cut_are_lost() -> None:
    """A word of which nothing is left has no answer, whatever stands in its place."""
    tokenizer = word_piece()
    lost = unmapped_words(tokenizer, ROWS, 6)
    _, pieces = tokenize_words(tokenizer, ROWS, 6)
    assert lost[0][-1] == 7
    assert len(lost[0]) > 3
    assert lost[2] == []
    assert int(pieces.mapped.sum()) == sum(map(len, ROWS)) - sum(map(len, lost))
    # A word of which only the beginning is left is still a word.
    cut = pieces.number[pieces.row == 0]
    whole = tokenize_words(tokenizer, ROWS, 64)[1].number[:8]
    assert (cut < whole).sum() >= (cut == 0).sum()


def test_byte_level_words_get_their_space() -> None:
    """Without its space `to` would be cut as the end of another word."""
    plain, spaced = byte_level(), byte_level(add_prefix_space=True)
    assert word_prefix(plain) == " "
    assert word_prefix(spaced) == word_prefix(word_piece()) == word_prefix(unigram()) == ""
    ours = encode_words(plain, [["to", "to"]], 64)[0]["input_ids"][0]
    assert ours == plain(" to to")["input_ids"]
    assert encode_words(spaced, [["to", "to"]], 64)[0]["input_ids"][0] == ours


@pytest.mark.parametrize("side", ["right", "left"])
def test_words_are_pooled_as_a_loop_would(side: str) -> None:
    """Padding on the other side moves every piece."""
    tokenizer = word_piece()
    tokenizer.padding_side = side
    inputs, pieces = tokenize_words(tokenizer, ROWS, 64)
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(*inputs["input_ids"].shape, 3, generator=draw)
    values[inputs["attention_mask"] == 0] = torch.nan
    _, ids = encode_words(tokenizer, ROWS, 64)
    first, mean = [], []
    for row, words in enumerate(ROWS):
        there = values[row][inputs["attention_mask"][row].bool()]
        for word in range(len(words)):
            own = there[[place for place, one in enumerate(ids[row]) if one == word]]
            first.append(own[0] if len(own) else torch.zeros(3))
            mean.append(own.mean(0) if len(own) else torch.zeros(3))
    assert torch.equal(first_pieces(values, pieces), torch.stack(first))
    assert torch.allclose(mean_pieces(values, pieces), torch.stack(mean), atol=1e-6)


def test_pools_hand_gradients_to_their_pieces_alone() -> None:
    """A gradient at padding or special tokens would be one of nothing."""
    inputs, pieces = tokenize_words(word_piece(), ROWS, 64)
    values = torch.randn(*inputs["input_ids"].shape, 2, requires_grad=True)
    (first_pieces(values, pieces).sum() + mean_pieces(values, pieces).sum()).backward()
    touched = values.grad.flatten(0, 1).abs().sum(1) > 0
    assert np.flatnonzero(touched).tolist() == sorted(pieces.place.tolist())
