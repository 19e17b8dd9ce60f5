"""Starts and ends of units: an exact summary of each model's own softmax, whatever its pieces."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.data import units_of
from raydistill.errors import SignalError
from raydistill.models.span_pieces import encode_spans, tokenize_spans
from raydistill.models.spans import (
    FIRST_UNIT,
    NEVER,
    lay_out,
    merge,
    merge_targets,
    span_logits,
    span_table,
)
from tests.unit.windows import CONTEXT, bytes_, grams, pieces

QUESTION = "Where went Ada?"
WINDOWS = [
    CONTEXT,
    "Rio",
    "中国中国 unbelievably 中国",
    "x\u200b 😀 \u0301y Ada\u200bAlan",
    "New York, New York. 12 34ab",
]
MAKERS = {"pieces": pieces, "grams": grams, "bytes": bytes_}


def coarse() -> Any:
    """Unigrams of which some reach over several units, as XLM-R's do in Chinese."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = sorted(set("".join(WINDOWS) + QUESTION) | set("中国"))
    scored = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    scored += [("中国", -2.0), ("34ab", -2.0), ("rk,", -2.0)] + [(m, -8.0) for m in marks]
    core = Tokenizer(models.Unigram(scored, unk_id=3, byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", cls_token="<s>"
    )


@pytest.mark.parametrize("name", [*MAKERS, "coarse"])
@pytest.mark.parametrize("window", WINDOWS)
def test_units_begin_and_end_where_their_pieces_do(name: str, window: str) -> None:
    """Alignment by characters, written a second time: piece by piece."""
    tokenizer = coarse() if name == "coarse" else MAKERS[name]()
    _, (found,) = encode_spans(tokenizer, [[QUESTION], [window]], 512)
    encoded = tokenizer(QUESTION, window, return_offsets_mapping=True)
    units = units_of(window)
    starts, ends = {}, {}
    touching: list[tuple[int, int]] = []
    for piece, ((begin, end), of) in enumerate(
        zip(encoded["offset_mapping"], encoded.sequence_ids(0), strict=True)
    ):
        token = tokenizer.convert_ids_to_tokens(encoded["input_ids"][piece])
        mine = [u for u, (b, e) in enumerate(units.tolist()) if of == 1 and begin < e and end > b]
        if not mine or token in ("▁", "Ġ"):
            continue
        starts.setdefault(mine[0], piece)
        ends[mine[-1]] = piece
        touching += [(piece, unit) for unit in mine]
    assert found.starts.tolist() == [starts.get(u, -1) for u in range(len(units))]
    assert found.ends.tolist() == [ends.get(u, -1) for u in range(len(units))]
    assert list(zip(found.piece.tolist(), found.unit.tolist(), strict=True)) == touching
    assert set(found.unseen.tolist()) == set(range(len(units))) - {u for _, u in touching}


def said(
    tokenizer: Any, windows: list[str], seed: int = 0
) -> tuple[Tensor, dict[str, Tensor], Any]:
    """Random logits of pieces, and tokens."""
    inputs, found = tokenize_spans(tokenizer, [[QUESTION] * len(windows), windows], 512)
    draw = torch.Generator().manual_seed(seed)
    values = 3 * torch.randn(*inputs["input_ids"].shape, 2, generator=draw)
    return values, inputs, found


@pytest.mark.parametrize("name", [*MAKERS, "coarse"])
def test_classes_are_a_summary_of_the_softmax_over_pieces(name: str) -> None:
    """Mass that is lost, or counted twice, is another model's than the one that is saved."""
    tokenizer = coarse() if name == "coarse" else MAKERS[name]()
    values, inputs, found = said(tokenizer, WINDOWS)
    mask = inputs["attention_mask"]
    units, rest = span_logits(values, mask, found)
    logits, kept = lay_out(units, rest, found.mapped[:, :2], found.units.row)
    whole = values.masked_fill(~mask.bool().unsqueeze(2), -torch.inf).log_softmax(1)
    offset = 0
    for row, window in enumerate(WINDOWS):
        number = len(units_of(window))
        for side, places in enumerate((found.starts, found.ends)):
            log_p = logits[2 * row + side].log_softmax(-1)
            own = places[offset : offset + number]
            at = int(mask[row].int().argmax())
            assert log_p[0].item() == pytest.approx(whole[row, at, side].item(), abs=1e-5)
            used = {at}
            for unit, place in enumerate(own.tolist()):
                if place < 0:
                    assert logits[2 * row + side, FIRST_UNIT + unit] == NEVER
                    assert not kept[2 * row + side, FIRST_UNIT + unit]
                    continue
                local = place - row * mask.shape[1]
                used.add(local)
                expected = whole[row, local, side].item()
                assert log_p[FIRST_UNIT + unit].item() == pytest.approx(expected, abs=1e-5)
            others = [s for s in range(mask.shape[1]) if s not in used]
            mass = whole[row, others, side].exp().sum().item()
            assert log_p[1].exp().item() == pytest.approx(mass, abs=1e-6)
            assert not kept[2 * row + side, FIRST_UNIT + number :].any()
        offset += number


def test_padding_changes_no_bit_where_rows_are_summed_one_by_one() -> None:
    """An answer that is read from the store, or computed beside others, would be another."""
    tokenizer = grams()
    values, inputs, found = said(tokenizer, WINDOWS)
    units, rest = span_logits(values, inputs["attention_mask"], found, one_by_one=True)
    offset = 0
    for row, window in enumerate(WINDOWS):
        alone, pieces_alone = tokenize_spans(tokenizer, [[QUESTION], [window]], 512)
        length = alone["input_ids"].shape[1]
        one, other = span_logits(
            values[row : row + 1, :length], alone["attention_mask"], pieces_alone, one_by_one=True
        )
        number = len(units_of(window))
        assert torch.equal(one, units[offset : offset + number])
        assert torch.equal(other[0], rest[row])
        offset += number


def test_padding_may_stand_on_the_left() -> None:
    """A decoder's tokenizer pads so; places would all be shifted."""
    tokenizer = pieces()
    right = said(tokenizer, WINDOWS[:2])
    tokenizer.padding_side = "left"
    inputs, found = tokenize_spans(tokenizer, [[QUESTION] * 2, WINDOWS[:2]], 512)
    flat = inputs["input_ids"].flatten()
    assert flat[found.starts[found.starts >= 0]].tolist() == (
        right[1]["input_ids"].flatten()[right[2].starts[right[2].starts >= 0]].tolist()
    )
    assert flat[found.first].tolist() == [tokenizer.cls_token_id] * 2


def test_coarse_pieces_begin_in_one_unit_and_end_in_another() -> None:
    """A tokenizer that joins characters has one place for several of them."""
    _, (found,) = encode_spans(coarse(), [[QUESTION], ["中国 34ab"]], 512)
    assert (found.starts < 0).tolist() == [False, True, False, True]
    assert (found.ends < 0).tolist() == [True, False, True, False]
    kept = torch.tensor([[True, True, *(found.starts >= 0)], [True, True, *(found.ends >= 0)]])
    assert merge_targets(kept).tolist() == [[0, 1, 2, 2, 4, 4], [0, 1, 3, 3, 5, 5]]


def test_mass_of_what_one_side_lacks_goes_to_its_neighbours() -> None:
    """What is dropped on one side only is a loss that nobody can bring down."""
    kept = torch.ones(4, 6, dtype=torch.bool)
    kept[0, [2, 4]] = kept[1, [5, 3]] = False  # at the border it goes to the other side
    kept[2:, 2:] = False  # nothing is left: to all other pieces
    target = merge_targets(kept)
    assert target.tolist() == [
        [0, 1, 3, 3, 3, 5], [0, 1, 2, 4, 4, 4], [0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1],
    ]  # fmt: skip
    logits = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    merged = merge(logits, target)
    p, whole = merged.softmax(-1), logits.softmax(-1)
    for row in range(4):
        for column in range(6):
            share = whole[row][target[row] == column].sum()
            torch.testing.assert_close(p[row, column], share, atol=1e-12, rtol=1e-9)
    assert torch.autograd.gradcheck(
        lambda z: merge(z, target).masked_fill(merge(z, target) == NEVER, 0.0), logits
    )


def test_merging_nothing_changes_no_bit() -> None:
    """Most windows have nothing to merge; they ought to be what they were."""
    logits = 50 * torch.randn(3, 9, generator=torch.Generator().manual_seed(2))
    target = torch.arange(9).expand(3, 9)
    assert torch.equal(merge(logits, target), logits)


def test_places_of_rows_stand_behind_each_other() -> None:
    """Evaluation reads rows of any number of units from one tensor."""
    units, rest = torch.arange(6.0).view(3, 2), torch.tensor([[10.0, 11, 12, 13], [20, 21, 22, 23]])
    mapped = torch.tensor([[True, True], [False, True], [True, True]])
    found = span_table(units, rest, mapped, [1, 2])
    inf = float("-inf")
    assert found.tolist() == [
        [10, 11], [12, 13], [0, 1], [20, 21], [22, 23], [inf, 3], [4, 5],
    ]  # fmt: skip


def test_row_that_does_not_fit_is_named() -> None:
    """A window that is cut in silence loses answers."""
    with pytest.raises(SignalError, match=r"row 7 has \d+ tokens, where 12 fit"):
        encode_spans(pieces(), [[QUESTION], [CONTEXT]], 12, [7])


def test_texts_alone_are_cut() -> None:
    """With such texts a teacher is tried when it starts."""
    inputs, (found,) = encode_spans(pieces(), [[CONTEXT]], 12)
    assert len(inputs["input_ids"][0]) == 12
    assert len(found.starts) == len(units_of(CONTEXT))
    assert (found.starts[-1], len(found.unseen)) == (-1, int((found.starts < 0).sum()))
    assert np.all(found.starts[:3] > 0)
