"""Copies ahead change where a tensor lies, nothing else."""

import torch

from raydistill.pipeline import Fed, MicroBatch, copied_ahead
from raydistill.pipeline.ahead import moved
from raydistill.signals import AttentionAsk
from raydistill.tasks import Batch
from tests.unit.test_store import answer, texts_of


def fed() -> Fed:
    inputs = {"input_ids": torch.arange(6).view(2, 3), "attention_mask": torch.ones(2, 3).long()}
    batch = Batch(
        (4, 5), (texts_of(2),), inputs, torch.tensor([0, -100]), torch.tensor([True, True]),
        torch.tensor([1, -1]),
    )  # fmt: skip
    return Fed(MicroBatch(0, 0, batch, True, torch.ones(1)), {"wide": answer(texts_of(2))})


def test_what_is_moved_is_the_same() -> None:
    """A part left behind would be read from the old place, or not at all."""
    before, after = fed(), moved(fed(), torch.device("cpu"))
    assert after.micro_batch.batch.row_ids == (4, 5)
    assert torch.equal(after.micro_batch.share, before.micro_batch.share)
    assert after.micro_batch.batch.route.tolist() == [1, -1]
    assert after.micro_batch.batch.to(torch.device("cpu")).route.tolist() == [1, -1]
    for name, tensor in before.micro_batch.batch.inputs.items():
        assert torch.equal(after.micro_batch.batch.inputs[name], tensor)
    one, other = before.signals["wide"], after.signals["wide"]
    assert other.row_ids == one.row_ids
    for name in one.parts:
        assert torch.equal(other.part(name), one.part(name))
    assert len(other.attention(AttentionAsk(1))) == 2


def test_on_the_cpu_they_pass_as_they_are() -> None:
    """Copying there would only take time."""
    items = [fed(), fed()]
    assert [
        a is b for a, b in zip(copied_ahead(items, torch.device("cpu")), items, strict=True)
    ] == [
        True,
        True,
    ]
