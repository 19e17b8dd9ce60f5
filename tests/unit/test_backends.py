"""What computes a teacher: ONNX Runtime must find what torch finds, or refuse."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raydistill.errors import TeacherError
from raydistill.models.backends import ExportError, OnnxBackend, output_names
from raydistill.prepare.sources import package_faults
from raydistill.signals import Ask, AttentionAsk, HiddenAsk, Request
from raydistill.signals.signal import select_rows
from raydistill.teachers import LocalTeacher
from tests.conftest import make_rows
from tests.unit.test_teacher import make_teacher

TEXTS = tuple(row["text"] for row in make_rows(7, seed=9))
ASK = Ask(
    hidden=(HiddenAsk(0), HiddenAsk(2, "gram"), HiddenAsk(3, "mean")),
    attention=(AttentionAsk(1), AttentionAsk(3, "mean")),
)


@pytest.fixture(scope="module")
def teacher(tiny: dict[str, Path]) -> LocalTeacher:
    return make_teacher(tiny["wide"])


@pytest.fixture(scope="module")
def exported(tiny: dict[str, Path]) -> LocalTeacher:
    return make_teacher(tiny["wide"], backend="onnx")


def request(ask: Ask = ASK, rows: slice = slice(None)) -> Request:
    return Request(tuple(range(7))[rows], (TEXTS[rows],), ask)


def test_output_names_hold_each_layer_once() -> None:
    ask = Ask((HiddenAsk(2), HiddenAsk(2, "mean"), HiddenAsk(0)), (AttentionAsk(2),))
    assert output_names(ask) == ["logits", "hidden.0", "hidden.2", "attention.2"]


@pytest.mark.parametrize("ask", [ASK, Ask(), Ask((HiddenAsk(3, "mean"),))])
def test_onnx_runtime_answers_what_torch_does(
    teacher: LocalTeacher, exported: LocalTeacher, ask: Ask
) -> None:
    signal, expected = exported.answer(request(ask)), teacher.answer(request(ask))
    assert signal.parts.keys() == expected.parts.keys()
    assert signal.lengths.tolist() == expected.lengths.tolist()
    for key in expected.parts:
        torch.testing.assert_close(signal.part(key), expected.part(key), atol=1e-5, rtol=0)


def test_bits_do_not_depend_on_what_else_is_asked(exported: LocalTeacher) -> None:
    """What is fused depends on what an export gives out, and all runs share a shelf."""
    alone, beside = exported.answer(request(Ask())), exported.answer(request(ASK))
    assert torch.equal(alone.part("logits"), beside.part("logits"))


def test_the_fingerprint_is_of_the_model_not_of_what_computes(
    teacher: LocalTeacher, exported: LocalTeacher
) -> None:
    one, other = exported.describe(), teacher.describe()
    assert dataclasses.replace(one, steady=other.steady) == other


def test_with_onnx_runtime_too_steady_means_the_same_bits(exported: LocalTeacher) -> None:
    """On another processor sums may depend on shapes; then it must not be called steady."""
    steady, whole = exported.describe().steady, exported.answer(request())
    same = [
        np.array_equal(
            exported.answer(request(rows=slice(row, row + 1))).buffer,
            select_rows(whole, row, row + 1).buffer,
        )
        for row in range(7)
    ]
    assert all(same) or not steady


class Classifier(nn.Module):
    """Counts tokens: in tensors, or, as tracing cannot see, in Python, as a number or a shape."""

    def __init__(self, count: str) -> None:
        super().__init__()
        self.embed, self.count = nn.Embedding(50, 3), count

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool, **_: Any
    ) -> Any:
        hidden = self.embed(input_ids)
        count = attention_mask.sum(1, keepdim=True)
        if self.count == "number":
            count = float(input_ids.shape[1])
        if self.count == "shape":
            hidden = hidden.reshape(*map(int, hidden.shape))
        logits = (hidden * attention_mask.unsqueeze(-1)).sum(1) * count
        return SimpleNamespace(logits=logits, hidden_states=(hidden,), attentions=None)


def examples() -> list[dict[str, Tensor]]:
    found = []
    for lengths in ([4, 7], [5], [9, 1]):
        mask = torch.tensor([[1] * n + [0] * (max(lengths) - n) for n in lengths])
        ids = torch.arange(mask.numel()).reshape(mask.shape) % 50
        found.append({"input_ids": ids, "attention_mask": mask})
    return found


def test_an_export_that_froze_what_python_computed_is_refused() -> None:
    """It would be right for texts of one length."""
    OnnxBackend(Classifier("tensor"), examples(), Ask((HiddenAsk(0),)), 1)
    with pytest.raises(ExportError, match=r"logits of the export differs by .* on 1 x 5 tokens"):
        OnnxBackend(Classifier("number"), examples(), Ask((HiddenAsk(0),)), 1)
    with pytest.raises(ExportError, match=r"(?i)reshape"):
        OnnxBackend(Classifier("shape"), examples(), Ask((HiddenAsk(0),)), 1)


def test_a_model_that_cannot_be_exported_names_the_way_out(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("an operator that ONNX does not have")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(TeacherError, match=r"does not have.*Set teachers.wide.backend: torch\."):
        make_teacher(tiny["wide"], backend="onnx")


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert package_faults("teachers.a.backend", "onnx") == []
    monkeypatch.setattr("raydistill.prepare.sources.find_spec", lambda name: None)
    assert package_faults("teachers.a.backend", "torch") == []
    assert package_faults("teachers.a.transport", "auto") == []
    (fault,) = package_faults("teachers.a.backend", "onnx")
    assert fault.path == "teachers.a.backend"
    assert "onnx and onnxruntime" in fault.message
    assert "pip install 'raydistill[onnx]'" in fault.message
    (fault,) = package_faults("teachers.a.transport", "nixl")
    assert "pip install 'raydistill[direct]'" in fault.message
