"""Students without attention: padding, pooling, hidden states, and loading without raydistill."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raydistill.models import ModelSource, build_student, load_classifier, load_tokenizer, tokenize
from raydistill.models.auto import AutoConfig, AutoModelForSequenceClassification
from raydistill.models.describe import RECURRENT, read_traits
from raydistill.models.recurrent import RecurrentConfig

LENGTHS = (9, 5, 1, 7)
SHAPES: dict[str, dict[str, Any]] = {
    "lstm": {"num_hidden_layers": 2},
    "gru": {"cell": "gru", "pooling": "max", "head_size": 6},
    "one way": {"bidirectional": False},
    "mean": {"cell": "gru", "pooling": "mean"},
    "attention": {"pooling": "attention", "embedding_width": 20},
    "average": {"cell": "average", "num_hidden_layers": 0, "head_size": 6, "uncounted_ids": [1, 2]},
}


def make(seed: int = 0, **changes: Any) -> Any:
    settings = {"vocab_size": 50, "cell_size": 8, "embedding_size": 12, "pad_token_id": 0, "num_labels": 3}  # fmt: skip
    torch.manual_seed(seed)
    config = AutoConfig.for_model(RECURRENT, **{**settings, **changes})
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask of rows of several lengths."""
    torch.manual_seed(1)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    return torch.where(mask, torch.randint(3, 50, mask.shape), 0), mask.long()


def states(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Any]:
    with torch.inference_mode():
        out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    return out.logits, out.hidden_states


@pytest.mark.parametrize("name", SHAPES)
def test_padding_changes_nothing(name, rows):
    """A row's answer that depends on its neighbours' lengths is another one when served alone."""
    model, (ids, mask) = make(**SHAPES[name]), rows
    logits, hidden = states(model, ids, mask)
    for row, length in enumerate(LENGTHS):
        one = slice(row, row + 1), slice(0, length)
        alone, alone_hidden = states(model, ids[one], mask[one])
        torch.testing.assert_close(alone, logits[row : row + 1], atol=1e-6, rtol=0)
        for own, all_rows in zip(alone_hidden, hidden, strict=True):
            torch.testing.assert_close(own, all_rows[one], atol=1e-6, rtol=0)
            assert not all_rows[row, length:].any()
    # Whatever stands under the mask.
    other, _ = states(model, torch.where(mask.bool(), ids, 7), mask)
    assert torch.equal(other, logits)


@pytest.mark.parametrize("name", SHAPES)
def test_padding_in_front_changes_nothing(name, rows):
    """Tokenizers that pad on the left would start the backward direction outside of the row."""
    model, (ids, mask) = make(**SHAPES[name]), rows
    logits, hidden = states(model, ids, mask)
    shifts = [max(LENGTHS) - length for length in LENGTHS]
    left = [torch.stack([t[i].roll(n, 0) for i, n in enumerate(shifts)]) for t in (ids, mask)]
    left_logits, left_hidden = states(model, *left)
    torch.testing.assert_close(left_logits, logits, atol=1e-6, rtol=0)
    for one, other in zip(left_hidden, hidden, strict=True):
        back = torch.stack([one[i].roll(-n, 0) for i, n in enumerate(shifts)])
        torch.testing.assert_close(back, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_both_directions_are_torchs_own(cell, rows):
    """A second direction that starts anywhere but at the row's own end is another network."""
    model, (ids, mask) = make(cell=cell), rows
    layer, size = model.layers[0], 8
    own = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](12, size, batch_first=True, bidirectional=True)
    own.load_state_dict(
        dict(layer.ahead.state_dict())
        | {f"{name}_reverse": value for name, value in layer.back.state_dict().items()}
    )
    lengths = torch.tensor(LENGTHS)
    packed = nn.utils.rnn.pack_padded_sequence(
        model.embeddings(ids), lengths, batch_first=True, enforce_sorted=False
    )
    expected, ends = own(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)
    _, hidden = states(model, ids, mask)
    torch.testing.assert_close(hidden[1], expected.detach(), atol=1e-6, rtol=0)
    last = torch.cat([*(ends[0] if cell == "lstm" else ends)], -1).detach()
    with torch.inference_mode():
        pooled = model._pool(hidden[1], mask.bool())
    torch.testing.assert_close(pooled, last, atol=1e-6, rtol=0)


def test_poolings_are_what_they_say(rows):
    """A mean over padding shrinks with the longest row of the batch."""
    _, mask = rows
    inside = mask.bool()
    hidden = torch.randn(4, 9, 16) * inside.unsqueeze(-1) - 3.0 * inside.unsqueeze(-1)
    for pooling in ("mean", "max", "attention"):
        model = make(pooling=pooling)
        with torch.inference_mode():
            pooled = model._pool(hidden, inside)
            for row, length in enumerate(LENGTHS):
                real = hidden[row, :length]
                expected = {
                    "mean": lambda real=real: real.mean(0),
                    "max": lambda real=real: real.amax(0),
                    "attention": lambda real=real, m=model: (m.attention(real).softmax(0) * real).sum(0),
                }[pooling]()  # fmt: skip
                torch.testing.assert_close(pooled[row], expected, atol=1e-6, rtol=0)


def test_average_counts_known_words_only():
    """An unknown word in the mean pulls every sentence towards the same vector."""
    model = make(**SHAPES["average"])
    ids = torch.tensor([[5, 1, 6, 2], [1, 1, 2, 2]])
    with torch.inference_mode():
        vectors = model.embeddings.weight
        pooled = model._mean_of_words(vectors[ids], torch.ones(2, 4, dtype=torch.bool), ids)
    torch.testing.assert_close(pooled[0], (vectors[5] + vectors[6]).detach() / 2)
    assert not pooled[1].any()


@pytest.mark.parametrize("name", SHAPES)
def test_rows_without_tokens_are_finite(name):
    """An empty text in a batch must not make the gradient of all rows NaN."""
    model = make(**SHAPES[name])
    logits = model(input_ids=torch.zeros(2, 3, dtype=torch.long), attention_mask=torch.zeros(2, 3)).logits  # fmt: skip
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_is_learned(name, rows):
    """DDP waits for the gradient of a parameter that nothing reaches."""
    model, (ids, mask) = make(**SHAPES[name]), rows
    out = model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 2, 0]))
    out.loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", SHAPES)
def test_saved_and_loaded_is_the_same(name, rows, tmp_path):
    """A student that answers otherwise after the export was measured in vain."""
    model, (ids, mask) = make(**SHAPES[name]), rows
    model.save_pretrained(tmp_path)
    again = load_classifier(ModelSource("saved", str(tmp_path), str(tmp_path))).eval()
    assert torch.equal(states(again, ids, mask)[0], states(model, ids, mask)[0])


def test_new_weights_are_seeded():
    """Workers that start from different weights never agree again."""
    one, same, other = (make(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[n], other[n]) for n in one if n.endswith("weight_ih_l0"))
    assert not one["embeddings.weight"][0].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "rnn"}, "cell must be one of lstm, gru, average"),
        ({"pooling": "first"}, "pooling must be one of"),
        ({"cell": "average"}, "num_hidden_layers must be 0"),
    ],
)
def test_configuration_of_no_network_is_refused(settings, message):
    """A misspelt pooling would be another one in silence."""
    with pytest.raises(ValueError, match=message):
        RecurrentConfig(**settings)


def student_folder(tiny: dict[str, Path], folder: Path, **settings: Any) -> tuple[Any, Any]:
    """A saved student of the tiny vocabulary, and its tokenizer."""
    source = ModelSource("t", str(tiny["student"]), str(tiny["student"]))
    tokenizer = load_tokenizer(source)
    torch.manual_seed(0)
    student: Any = build_student(
        labels=("negative", "positive"),
        dropout=0.0,
        source=source,
        random_config={"model_type": RECURRENT, "cell_size": 8, "embedding_size": 12, **settings},
        pad_token_id=tokenizer.pad_token_id,
        vocabulary=len(tokenizer),
    )
    student.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return student, tokenizer


def test_traits_have_no_heads_and_two_widths(tiny, tmp_path):
    """A loss on attention maps, or on embeddings of another width, must be refused before the run."""
    student_folder(tiny, tmp_path)
    traits = read_traits("x", ModelSource("x", str(tmp_path), str(tmp_path)))
    assert (traits.num_layers, traits.width, traits.num_heads) == (1, 16, 0)
    assert (traits.embedding_width, traits.max_positions) == (12, None)
    assert read_traits("x", ModelSource("x", str(tiny["wide"]), str(tiny["wide"]))).embedding_width is None  # fmt: skip


def test_it_can_be_a_teacher(tiny, tmp_path):
    """A distilled student is what the next, smaller one learns from."""
    from raydistill.signals import Ask, HiddenAsk, Request
    from raydistill.teachers import LocalTeacher, TeacherSettings

    student, tokenizer = student_folder(tiny, tmp_path)
    source = ModelSource("s", str(tmp_path), str(tmp_path))
    teacher = LocalTeacher(TeacherSettings("s", source, "float32", max_tokens=16, batch_rows=4))
    assert teacher.describe().traits.width == 16
    texts = ("the film was good", "bad", "it is a very dull plot")
    signal = teacher.answer(Request((0, 1, 2), (texts,), Ask((HiddenAsk(1, "mean"),))))
    with torch.inference_mode():
        out = student(**tokenize(tokenizer, [texts], 16))
    torch.testing.assert_close(signal.part("logits").float(), out.logits, atol=1e-6, rtol=0)


def test_frozen_embeddings_stay_frozen_after_loading(tiny, tmp_path):
    """Loading makes every weight trainable; a second run would tune what was meant to stay."""
    student, _ = student_folder(tiny, tmp_path, freeze_embeddings=True)
    again: Any = build_student(
        labels=("negative", "positive"), dropout=0.0, source=ModelSource("s", str(tmp_path), "")
    )
    for model in (student, again):
        frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
        assert frozen == ["embeddings.weight"]


WITHOUT = """
import json, sys
from transformers import AutoModelForSequenceClassification as Model, AutoTokenizer
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = Model.from_pretrained(folder, trust_remote_code=True).eval()
assert "raydistill" not in sys.modules
print(json.dumps(model(**tokenizer(["good film", "bad"], padding=True, return_tensors="pt")).logits.tolist()))
"""


def test_folder_is_loaded_without_raydistill(tiny, tmp_path):
    """A student that only its maker can load is no student that anybody can use."""
    student, tokenizer = student_folder(tiny, tmp_path / "student")
    script = tmp_path / "load.py"
    script.write_text(WITHOUT)
    found = subprocess.run(
        [sys.executable, "-P", str(script), str(tmp_path / "student")],
        cwd=tmp_path,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    with torch.inference_mode():
        expected = student(**tokenizer(["good film", "bad"], padding=True, return_tensors="pt")).logits  # fmt: skip
    torch.testing.assert_close(torch.tensor(json.loads(found.stdout.splitlines()[-1])), expected)
