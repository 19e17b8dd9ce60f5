"""A local teacher: the plain model's numbers, only what was asked, and errors that name rows."""

import dataclasses
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raydistill.errors import NotFiniteError
from raydistill.models import ModelSource
from raydistill.signals import Ask, AttentionAsk, HiddenAsk, Request, TeacherSignal
from raydistill.teachers import LocalTeacher, TeacherSettings
from raydistill.teachers.teacher import rows_not_finite
from tests.conftest import make_rows

TEXTS = tuple(row["text"] for row in make_rows(7, seed=9))
ROW_IDS = tuple(range(100, 107))
ASK = Ask(
    hidden=(
        HiddenAsk(0),
        HiddenAsk(2),
        HiddenAsk(2, "gram"),
        HiddenAsk(3, "first"),
        HiddenAsk(3, "mean"),
    ),
    attention=(AttentionAsk(1), AttentionAsk(3), AttentionAsk(3, "mean")),
)


def make_teacher(folder: Path, **changes: Any) -> LocalTeacher:
    settings = TeacherSettings(
        "wide", ModelSource(str(folder), str(folder), str(folder)), "float32",
        max_tokens=32, batch_rows=64, attention_maps=True,
    )  # fmt: skip
    return LocalTeacher(dataclasses.replace(settings, **changes))


def request(ask: Ask = ASK, rows: slice = slice(None)) -> Request:
    return Request(ROW_IDS[rows], (TEXTS[rows],), ask)


def parts_of(signal: TeacherSignal) -> dict[str, torch.Tensor]:
    return {
        "logits": signal.logits,
        **{ask.key: signal.hidden(ask) for ask in ASK.hidden},
        **{
            ask.key: torch.cat([m.reshape(-1) for m in signal.attention(ask)])
            for ask in ASK.attention
        },
    }


def close(one: TeacherSignal, other: TeacherSignal, atol: float) -> None:
    for (key, a), b in zip(parts_of(one).items(), parts_of(other).values(), strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=0, msg=lambda m, k=key: f"{k}: {m}")


def spoil(folder: Path, target: Path, change: Any) -> Path:
    """A copy of a model with other weights."""
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(folder, target)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        change(model)
    model.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def teacher(tiny: dict[str, Path]) -> LocalTeacher:
    return make_teacher(tiny["wide"])


@pytest.fixture(scope="module")
def plain(tiny: dict[str, Path]) -> Any:
    """What transformers alone says."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(
        tiny["wide"], attn_implementation="eager"
    ).eval()
    inputs = AutoTokenizer.from_pretrained(tiny["wide"])(
        list(TEXTS), padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    return outputs, inputs["attention_mask"].bool()


def test_logits_are_those_of_the_plain_model(teacher: LocalTeacher, plain: Any) -> None:
    """A teacher with other numbers than its model card teaches something nobody measured."""
    torch.testing.assert_close(teacher.answer(request()).logits, plain[0].logits, atol=1e-6, rtol=0)


def test_hidden_states_are_of_the_asked_layers_unpadded(teacher: LocalTeacher, plain: Any) -> None:
    """Off by one layer, or with padding, the student copies something else."""
    outputs, mask = plain
    signal = teacher.answer(request())
    for layer in (0, 2):
        torch.testing.assert_close(
            signal.hidden(HiddenAsk(layer)), outputs.hidden_states[layer][mask], atol=1e-6, rtol=0
        )
    last = outputs.hidden_states[3]
    torch.testing.assert_close(signal.hidden(HiddenAsk(3, "first")), last[:, 0], atol=1e-6, rtol=0)
    means = torch.stack([row[keep].mean(0) for row, keep in zip(last, mask, strict=True)])
    torch.testing.assert_close(signal.hidden(HiddenAsk(3, "mean")), means, atol=1e-6, rtol=0)
    assert set(signal.parts) == {
        "logits",
        *(a.key for a in ASK.hidden),
        "attention.1.all",
        "attention.3.all",
        "attention.3.mean",
    }
    assert signal.lengths.tolist() == mask.sum(1).tolist()


def test_queries_keys_and_values_are_of_the_asked_blocks_unpadded(
    tiny: dict[str, Path], teacher: LocalTeacher, plain: Any
) -> None:
    """Of the next block, or of another of the three, relations are of something else."""
    from transformers import AutoModelForSequenceClassification

    outputs, mask = plain
    model = AutoModelForSequenceClassification.from_pretrained(tiny["wide"]).eval()
    asks = tuple(
        HiddenAsk(block, pooling, states)
        for states in ("query", "key", "value")
        for block, pooling in ((1, "all"), (3, "mean"), (3, "first"))
    )
    signal = teacher.answer(request(Ask((HiddenAsk(2), *asks))))
    assert list(signal.parts)[:3] == ["logits", "hidden.2.all", "query.1.all"]
    for ask in asks:
        layer = getattr(model.bert.encoder.layer[ask.layer - 1].attention.self, ask.states)
        with torch.inference_mode():
            expected = layer(outputs.hidden_states[ask.layer - 1])
        found = signal.hidden(ask)
        if ask.pooling == "all":
            torch.testing.assert_close(found, expected[mask], atol=1e-6, rtol=0)
        elif ask.pooling == "first":
            torch.testing.assert_close(found, expected[:, 0], atol=1e-6, rtol=0)
        else:
            means = torch.stack(
                [row[keep].mean(0) for row, keep in zip(expected, mask, strict=True)]
            )
            torch.testing.assert_close(found, means, atol=1e-6, rtol=0)


def test_reading_inside_blocks_changes_no_other_bit(teacher: LocalTeacher) -> None:
    """What is stored under one key must not depend on what else was asked."""
    asks = tuple(HiddenAsk(2, "all", states) for states in ("query", "key", "value"))
    alone, beside = teacher.answer(request()), teacher.answer(request(Ask(asks)))
    assert torch.equal(alone.logits, beside.logits)
    both = teacher.answer(request(dataclasses.replace(ASK, hidden=(*ASK.hidden, *asks))))
    for ask in ASK.hidden:
        assert torch.equal(both.part(ask.key), alone.part(ask.key))
    for ask in asks:
        assert torch.equal(both.part(ask.key), beside.part(ask.key))


def test_attention_maps_are_of_the_asked_blocks_unpadded(teacher: LocalTeacher, plain: Any) -> None:
    """Maps are counted from 1, the model's tuple from 0."""
    outputs, mask = plain
    signal = teacher.answer(request())
    for block in (1, 3):
        for row, found in enumerate(signal.attention(AttentionAsk(block))):
            length = int(mask[row].sum())
            expected = outputs.attentions[block - 1][row, :, :length, :length]
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
            torch.testing.assert_close(found.sum(-1), torch.ones(2, length))
            if block == 3:
                mean = signal.attention(AttentionAsk(3, "mean"))[row]
                torch.testing.assert_close(mean, expected.mean(0, keepdim=True), atol=1e-6, rtol=0)


def test_gram_matrices_are_products_of_tokens(teacher: LocalTeacher, plain: Any) -> None:
    """Of another layer, over another width or with padding they describe another geometry."""
    outputs, mask = plain
    for row, found in enumerate(teacher.answer(request()).gram(2)):
        states = outputs.hidden_states[2][row][mask[row]].double()
        expected = torch.einsum("id,jd->ij", states, states) / states.shape[1]
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_rows_do_not_see_each_other(teacher: LocalTeacher) -> None:
    """An answer that depends on its neighbours cannot be kept or compared."""
    together = teacher.answer(request())
    first_token = 0
    for row in range(len(TEXTS)):
        alone = teacher.answer(request(rows=slice(row, row + 1)))
        length = int(alone.lengths[0])
        tokens = slice(first_token, first_token + length)
        torch.testing.assert_close(together.logits[[row]], alone.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.gram(2)[row], alone.gram(2)[0], atol=1e-5, rtol=0)
        for ask in ASK.hidden:
            if ask.pooling == "gram":
                continue
            place = tokens if ask.pooling == "all" else slice(row, row + 1)
            torch.testing.assert_close(
                together.hidden(ask)[place], alone.hidden(ask), atol=1e-5, rtol=0
            )
        for maps in ASK.attention:
            torch.testing.assert_close(
                together.attention(maps)[row], alone.attention(maps)[0], atol=1e-5, rtol=0
            )
        first_token += length


@pytest.mark.parametrize("batch_rows", [1, 3, 7])
def test_slices_change_nothing(
    tiny: dict[str, Path], teacher: LocalTeacher, batch_rows: int
) -> None:
    """batch_rows is there to save memory; it must not lose rows or change numbers."""
    sliced = make_teacher(tiny["wide"], batch_rows=batch_rows).answer(request())
    assert sliced.row_ids == ROW_IDS
    close(sliced, teacher.answer(request()), atol=1e-6)


def test_equal_requests_get_equal_answers(tiny: dict[str, Path], teacher: LocalTeacher) -> None:
    """A request that is asked again after a death must not change the result."""
    first = teacher.answer(request())
    again = make_teacher(tiny["wide"]).answer(request())
    assert first.buffer.tobytes() == teacher.answer(request()).buffer.tobytes()
    assert first.buffer.tobytes() == again.buffer.tobytes()


def test_each_teacher_cuts_text_with_its_own_tokenizer(tiny: dict[str, Path]) -> None:
    """Another's token ids are other words."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(tiny["other"])(
        list(TEXTS), padding=True, return_tensors="pt"
    )
    model = AutoModelForSequenceClassification.from_pretrained(tiny["other"]).eval()
    with torch.inference_mode():
        expected = model(**inputs).logits
    found = make_teacher(tiny["other"]).answer(request(Ask())).logits
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_fingerprint_follows_what_decides_answers(
    tiny: dict[str, Path], tmp_path: Path, teacher: LocalTeacher
) -> None:
    """Different teachers under one fingerprint would share answers."""
    base = teacher.describe().fingerprint

    def nudge(model: Any) -> None:
        model.classifier.bias[0] += 1e-6

    moved = tmp_path / "moved"
    shutil.copytree(tiny["wide"], moved)
    assert make_teacher(moved).describe().fingerprint == base
    activation = tmp_path / "activation"
    shutil.copytree(tiny["wide"], activation)
    config = json.loads((activation / "config.json").read_text())
    (activation / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    source = teacher.settings.source
    others = {
        "weights": make_teacher(spoil(tiny["wide"], tmp_path / "nudged", nudge)),
        "activation": make_teacher(activation),
        "tokenizer": make_teacher(
            tiny["wide"], source=dataclasses.replace(source, tokenizer=str(tiny["other"]))
        ),
        "max_tokens": make_teacher(tiny["wide"], max_tokens=31),
        "dtype": make_teacher(tiny["wide"], dtype="bfloat16"),
    }
    prints = {name: other.describe().fingerprint for name, other in others.items()}
    assert len({base, *prints.values()}) == 1 + len(prints), prints


def test_fingerprint_is_the_same_after_use(tiny: dict[str, Path]) -> None:
    """Replicas are compared by it, and one may have answered already."""
    teacher = make_teacher(tiny["deep"])
    before = teacher.describe()
    teacher.answer(request(Ask()))
    assert teacher.describe() == before
    assert before.num_parameters * 4 == before.num_bytes
    assert before.traits.labels == ("negative", "positive")


def test_max_tokens_cuts(tiny: dict[str, Path]) -> None:
    """A text longer than allowed fails on the GPU, far from its cause."""
    signal = make_teacher(tiny["wide"], max_tokens=5).answer(request())
    assert signal.lengths.max() == 5


def test_nan_weights_name_teacher_and_rows(tiny: dict[str, Path], tmp_path: Path) -> None:
    """NaN in an answer reaches the student's weights within a step."""

    def ruin(model: Any) -> None:
        model.classifier.weight[0, 0] = float("nan")

    teacher = make_teacher(spoil(tiny["wide"], tmp_path / "nan", ruin))
    with pytest.raises(NotFiniteError, match=r"teachers\.wide: logits .* rows 100, 101") as caught:
        teacher.answer(request())
    assert caught.value.rows == ROW_IDS
    assert "teachers.wide.model" in caught.value.remedy
    assert pickle.loads(pickle.dumps(caught.value)).rows == ROW_IDS


@pytest.mark.parametrize("batch_rows", [64, 2])
@pytest.mark.parametrize("ask", [Ask(), Ask((HiddenAsk(0),)), Ask((HiddenAsk(1, "mean"),))])
def test_only_the_rows_that_are_not_finite_are_named(
    tiny: dict[str, Path], tmp_path: Path, ask: Ask, batch_rows: int
) -> None:
    """A user who is sent to the wrong rows finds nothing wrong there."""
    word = "superb"
    texts = ("the film", "a superb cast", "it is bad", "very superb and good")

    def ruin(model: Any) -> None:
        vocabulary = json.loads((tiny["wide"] / "tokenizer.json").read_text())["model"]["vocab"]
        model.bert.embeddings.word_embeddings.weight[vocabulary[word]] = float("inf")

    teacher = make_teacher(spoil(tiny["wide"], tmp_path / "one", ruin), batch_rows=batch_rows)
    with pytest.raises(NotFiniteError) as caught:
        teacher.answer(Request((5, 6, 7, 8), (texts,), ask))
    assert caught.value.rows == (6, 8)


def test_rows_of_a_token_that_is_not_finite_are_named() -> None:
    """Tokens of all rows stand in one list; counted as rows they name the wrong ones, or none."""
    lengths = np.array([2, 1, 3, 2], dtype=np.int32)
    tokens = torch.zeros(8, 5)
    tokens[2, 4], tokens[6, 0] = float("nan"), float("inf")
    assert rows_not_finite("hidden.2.all", tokens, lengths) == [1, 3]
    assert rows_not_finite("hidden.2.mean", tokens[:4], lengths) == [2]
    maps = torch.zeros(2 * (4 + 1 + 9 + 4))
    maps[2 * (4 + 1) + 17] = float("nan")
    assert rows_not_finite("attention.1.all", maps, lengths) == [2]


def test_overflow_on_the_way_names_signal_dtype(tiny: dict[str, Path], tmp_path: Path) -> None:
    """An answer that is fine in float32 and infinite in float16 looks like broken weights."""

    def enlarge(model: Any) -> None:
        model.classifier.weight.mul_(1e6)

    teacher = make_teacher(spoil(tiny["wide"], tmp_path / "large", enlarge))
    assert torch.isfinite(teacher.answer(request(Ask())).logits).all()
    with pytest.raises(NotFiniteError, match=r"teachers\.wide\.signal_dtype = float16"):
        teacher.answer(request(Ask(dtype="float16")))


def test_timing_runs_the_same_model(teacher: LocalTeacher) -> None:
    """A latency of something else than the answers is no figure of the model."""
    plain = teacher.run_plainly(request(Ask()))
    assert torch.allclose(plain, teacher.answer(request(Ask())).logits, atol=1e-5)
