"""Signals: what is packed comes out again, whatever way it travels."""

import pickle
import warnings

import numpy as np
import pytest
import torch

from raydistill.errors import SignalError
from raydistill.signals import AttentionAsk, HiddenAsk, TeacherSignal, pack_signal
from raydistill.signals.signal import select_rows

LENGTHS = (3, 1, 2)
ROUNDING = {"float32": 0.0, "float16": 2**-11, "bfloat16": 2**-8}


def make_parts(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    squares = sum(length * length for length in lengths)
    return {
        "logits": torch.randn(len(lengths), 5, generator=draw),
        "hidden.1.all": torch.randn(sum(lengths), 7, generator=draw),
        "hidden.2.mean": torch.randn(len(lengths), 7, generator=draw),
        "query.1.all": torch.randn(sum(lengths), 4, generator=draw),
        "attention.1.all": torch.rand(2 * squares, generator=draw),
    }


def make_signal(dtype: str = "float32", lengths: tuple[int, ...] = LENGTHS) -> TeacherSignal:
    return pack_signal("wide", tuple(range(len(lengths))), lengths, make_parts(lengths), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_part_comes_out_as_it_went_in(dtype: str) -> None:
    """A part read at another's offset trains the student on noise without a word."""
    parts, signal = make_parts(), make_signal(dtype)
    flat = torch.cat([square.reshape(-1) for square in signal.attention(AttentionAsk(1))])
    found = {
        "logits": signal.logits,
        "hidden.1.all": signal.hidden(HiddenAsk(1)),
        "hidden.2.mean": signal.hidden(HiddenAsk(2, "mean")),
        "query.1.all": signal.hidden(HiddenAsk(1, "all", "query")),
        "attention.1.all": flat,
    }
    for key, tensor in found.items():
        assert tensor.dtype == getattr(torch, dtype)
        assert tensor.shape == parts[key].shape
        assert torch.equal(tensor, parts[key].to(tensor.dtype)), key
        torch.testing.assert_close(tensor.float(), parts[key], rtol=ROUNDING[dtype], atol=0.0)


@pytest.mark.parametrize("lengths", [(), (1,), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_rows_and_rows_of_one_token(lengths: tuple[int, ...], dtype: str) -> None:
    """The shortest answers are those that a short last batch brings."""
    signal = make_signal(dtype, lengths)
    assert signal.logits.shape == (len(lengths), 5)
    assert signal.hidden(HiddenAsk(1)).shape == (len(lengths), 7)
    assert [square.shape for square in signal.attention(AttentionAsk(1))] == [(2, 1, 1)] * len(
        lengths
    )


def test_parts_begin_on_vector_boundaries() -> None:
    """A part that begins in the middle of a number cannot be viewed at all, or only slowly."""
    for dtype in ROUNDING:
        signal = make_signal(dtype)
        assert [part.offset % 64 for part in signal.parts.values()] == [0] * 5
        ends = [p.offset + int(np.prod(p.shape)) for p in signal.parts.values()]
        assert ends == sorted(ends)
        assert signal.num_bytes <= signal.buffer.nbytes < signal.num_bytes + 64 * len(signal.parts)


def test_attention_squares_are_of_their_row() -> None:
    """Maps cut at the wrong place belong to no row."""
    lengths, heads = (2, 3), 2
    flat = torch.arange(heads * (4 + 9)).float()
    signal = pack_signal("wide", (0, 1), lengths, {"attention.4.all": flat}, "float32")
    first, second = signal.attention(AttentionAsk(4))
    assert torch.equal(first, torch.arange(8.0).view(2, 2, 2))
    assert torch.equal(second, torch.arange(8.0, 26.0).view(2, 3, 3))


def test_reduced_squares_are_of_their_row() -> None:
    """A map that is a mean has one head, a Gram matrix none."""
    flat = torch.arange(4.0 + 9.0)
    parts = {"attention.4.mean": flat, "hidden.2.gram": flat + 100}
    signal = pack_signal("wide", (0, 1), (2, 3), parts, "float32")
    assert [tuple(m.shape) for m in signal.attention(AttentionAsk(4, "mean"))] == [
        (1, 2, 2),
        (1, 3, 3),
    ]
    first, second = signal.gram(2)
    assert torch.equal(first, torch.arange(100.0, 104.0).view(2, 2))
    assert torch.equal(second, torch.arange(104.0, 113.0).view(3, 3))
    assert torch.equal(select_rows(signal, 1, 2).gram(2)[0], second)


def test_pickling_moves_the_buffer_out_of_band_and_reads_it_read_only() -> None:
    """In the pickle itself every answer would be copied twice; a warning a step drowns the log."""
    signal = make_signal()
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(signal, protocol=5, buffer_callback=buffers.append)
    assert len(body) < signal.buffer.nbytes
    frozen = [memoryview(bytes(buffer.raw())) for buffer in buffers]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = pickle.loads(body, buffers=frozen)
        assert not back.buffer.flags.writeable
        assert torch.equal(back.logits, signal.logits)
        assert torch.equal(back.attention(AttentionAsk(1))[0], signal.attention(AttentionAsk(1))[0])
    assert (back.row_ids, back.teacher, back.parts) == (signal.row_ids, "wide", signal.parts)


def test_reading_makes_no_copy() -> None:
    """A copy of each part doubles the memory of every answer."""
    signal = make_signal()
    assert signal.logits.data_ptr() == signal.buffer.ctypes.data + signal.parts["logits"].offset


def test_a_part_that_is_not_there_is_named() -> None:
    """A bare KeyError says neither which teacher nor what it did answer."""
    with pytest.raises(SignalError, match=r"teachers\.wide answered .*logits.*hidden\.9\.first"):
        make_signal().hidden(HiddenAsk(9, "first"))
