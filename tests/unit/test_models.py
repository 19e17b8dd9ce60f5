"""Models: students made of parts of others, tokenizers' fingerprints, pooling."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from raydistill.errors import ConfigError
from raydistill.models import (
    ModelSource,
    build_student,
    load_classifier,
    load_tokenizer,
    pool_hidden,
    read_traits,
    tokenize,
)
from raydistill.models.build import take_layers
from raydistill.models.describe import tokenizer_fingerprint
from raydistill.signals import Ask, HiddenAsk, Request
from raydistill.teachers import LocalTeacher, TeacherSettings
from tests.conftest import make_model

LABELS = ("negative", "positive")
TEXTS = [("the film was good", "a very dull plot", "it is bad and poor and awful")]


def source_of(folder: Path) -> ModelSource:
    return ModelSource(str(folder), str(folder), str(folder))


def build(folder: Path, **changes: Any) -> Any:
    options: dict[str, Any] = {"labels": LABELS, "dropout": 0.0, "source": source_of(folder)}
    return build_student(**{**options, **changes}).eval()


@pytest.fixture(scope="module")
def decoder(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 classifier with random weights whose tokenizer has no padding token."""
    from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

    folder = tmp_path_factory.mktemp("decoder")
    tokenizer = AutoTokenizer.from_pretrained(tiny["student"])
    core = tokenizer.backend_tokenizer
    core.post_processor = __import__("tokenizers").processors.TemplateProcessing(
        single="$A", special_tokens=[]
    )
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", eos_token="[SEP]")
    torch.manual_seed(5)
    config = GPT2Config(
        vocab_size=len(bare), n_embd=16, n_layer=4, n_head=2, n_positions=32,
        id2label=dict(enumerate(LABELS)), label2id={n: i for i, n in enumerate(LABELS)},
        bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    bare.save_pretrained(folder)
    return folder


def test_take_layers_is_running_only_these_blocks(tiny: dict[str, Path]) -> None:
    """A student of other blocks than configured starts from the wrong place, unseen."""
    tokenizer = load_tokenizer(source_of(tiny["deep"]))
    inputs = tokenize(tokenizer, TEXTS, 32)
    whole: Any = load_classifier(source_of(tiny["deep"])).eval()
    blocks = whole.bert.encoder.layer
    by_hand = copy.deepcopy(whole)
    by_hand.bert.encoder.layer = nn.ModuleList([blocks[3], blocks[0], blocks[0]])
    student = build(tiny["deep"], layers=[3, 0, 0])
    with torch.inference_mode():
        assert torch.equal(student(**inputs).logits, by_hand(**inputs).logits)
    assert student.config.num_hidden_layers == 3


def test_taken_blocks_share_no_weights(tiny: dict[str, Path]) -> None:
    """A block taken twice would be one block with twice the gradient."""
    layers = build(tiny["deep"], layers=[1, 1]).bert.encoder.layer
    pointers = [{p.data_ptr() for p in layer.parameters()} for layer in layers]
    assert not pointers[0] & pointers[1]


@pytest.mark.parametrize("layers", [[0, 2], [1, 1]])
def test_taken_layers_of_a_decoder_survive_saving(
    decoder: Path, tmp_path: Path, layers: list[int]
) -> None:
    """Blocks that keep their old number share a cache: the student differs from what is saved."""
    inputs = tokenize(load_tokenizer(source_of(decoder)), TEXTS, 16)
    student = build(decoder, layers=layers, pad_token_id=3)
    student.save_pretrained(tmp_path)
    load_tokenizer(source_of(decoder)).save_pretrained(tmp_path)
    again: Any = load_classifier(source_of(tmp_path)).eval()
    with torch.inference_mode():
        expected = student(**inputs, use_cache=False).logits
        assert torch.equal(student(**inputs).logits, expected)
        assert torch.equal(again(**inputs).logits, expected)


def test_take_layers_refuses_a_model_with_several_lists() -> None:
    """Taking layers from the first list that fits would cut an encoder and leave its decoder."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = type("Config", (), {"num_hidden_layers": 2})()
            self.one = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
            self.two = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])

    with pytest.raises(ValueError, match="holds 2 lists of 2 blocks"):
        take_layers(Two(), [0])


def test_head_follows_the_students_labels(tiny: dict[str, Path], tmp_path: Path) -> None:
    """A head in the teacher's order under the student's names answers the opposite."""
    inputs = tokenize(load_tokenizer(source_of(tiny["wide"])), TEXTS, 32)
    plain: Any = load_classifier(source_of(tiny["wide"])).eval()
    student = build(tiny["wide"], labels=("positive", "negative"), head_columns=[1, 0])
    with torch.inference_mode():
        assert torch.equal(student(**inputs).logits, plain(**inputs).logits[:, [1, 0]])
    student.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["id2label"] == {"0": "positive", "1": "negative"}
    assert saved["label2id"] == {"positive": 0, "negative": 1}


def test_head_may_keep_fewer_classes(tmp_path: Path) -> None:
    """A student of some of a teacher's classes must be loadable again."""
    three = make_model(tmp_path / "three", labels=("a", "b", "c"))
    student = build(three, labels=("c", "a"), head_columns=[2, 0])
    student.save_pretrained(tmp_path / "saved")
    plain: Any = load_classifier(source_of(three)).eval()
    inputs = tokenize(load_tokenizer(source_of(three)), TEXTS, 32)
    again: Any = load_classifier(ModelSource("saved", str(tmp_path / "saved"), str(three))).eval()
    with torch.inference_mode():
        expected = plain(**inputs).logits[:, [2, 0]]
        assert torch.equal(again(**inputs).logits, expected)
    assert student.num_labels == 2


@pytest.mark.parametrize("columns", [None, (1, 0)])
def test_a_student_says_what_its_outputs_are(
    tiny: dict[str, Path], tmp_path: Path, columns: Any
) -> None:
    """Whoever loads it would read a yes or no for each label as a softmax."""
    kind = "multi_label_classification"
    model = build(tiny["wide"], head_columns=columns, problem_type=kind)
    assert model.config.problem_type == kind
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["problem_type"] == kind
    model = build(tiny["wide"], head_columns=None, labels=("stars",), problem_type="regression")
    inputs = {"input_ids": torch.tensor([[2, 7, 3]])}
    assert model(**inputs).logits.shape == (1, 1)


def test_a_new_head_has_the_tasks_classes(tiny: dict[str, Path]) -> None:
    """A head of the old size cannot learn the task's classes."""
    student = build(tiny["student"], labels=("a", "b", "c"))
    assert student.classifier.out_features == 3
    assert student.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_from_config_is_random_and_seeded(tiny: dict[str, Path]) -> None:
    """Workers that start from different weights never agree again."""
    random_config = {
        "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32,
    }  # fmt: skip
    students = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        students.append(
            build(tiny["student"], random_config=random_config, vocabulary=27, pad_token_id=4)
        )
    first, same, other = ([*s.parameters()] for s in students)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert students[0].config.vocab_size == 27
    assert random_config["model_type"] == "bert"


def test_from_config_pads_with_the_tokenizers_token(tiny: dict[str, Path]) -> None:
    """The model type's own padding index would freeze some other token's embedding at zero."""
    random_config = {
        "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32,
    }  # fmt: skip
    student = build(tiny["student"], random_config=random_config, vocabulary=27, pad_token_id=4)
    assert student.config.pad_token_id == 4
    assert student.bert.embeddings.word_embeddings.padding_idx == 4


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_dropout_is_set_everywhere(
    tiny: dict[str, Path], decoder: Path, probability: float
) -> None:
    """One dropout left over makes a run depend on how it is cut into workers."""
    for folder in (tiny["student"], decoder):
        student = build(folder, dropout=probability)
        found = [m.p for m in student.modules() if isinstance(m, nn.Dropout)]
        assert found
        assert set(found) == {probability}


def test_tied_weights_save_as_safetensors(tmp_path: Path) -> None:
    """Safetensors refuses two names for one tensor, at the first checkpoint."""
    from raydistill.training.checkpoint import load_module, save_module

    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    save_module(tied, tmp_path / "tied.safetensors")
    names = safetensors.torch.load_file(tmp_path / "tied.safetensors").keys()
    assert len([name for name in names if "weight" in name]) == 1
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    load_module(other, tmp_path / "tied.safetensors")
    assert torch.equal(other[1].weight, tied[0].weight)


def test_tokenizer_fingerprint_ignores_the_last_call(tiny: dict[str, Path]) -> None:
    """A fingerprint that changes with use makes equal tokenizers look different."""
    used, fresh = (load_tokenizer(source_of(tiny["student"])) for _ in range(2))
    tokenize(used, TEXTS, 7)
    assert tokenizer_fingerprint(used) == tokenizer_fingerprint(fresh)


def test_tokenizer_fingerprint_sees_vocabulary_and_side(tiny: dict[str, Path]) -> None:
    """Hidden states of differently cut texts would be compared token by token."""
    student, wide, other = (
        read_traits("x", source_of(tiny[name])).tokenizer for name in ("student", "wide", "other")
    )
    assert student == wide != other
    left = load_tokenizer(source_of(tiny["student"]))
    left.truncation_side = "left"
    assert tokenizer_fingerprint(left) != student


def test_a_missing_padding_token_does_not_change_the_fingerprint(decoder: Path) -> None:
    """What is checked before the run must equal what the replicas report."""
    before = read_traits("x", source_of(decoder)).tokenizer
    assert tokenizer_fingerprint(load_tokenizer(source_of(decoder))) == before


def test_pickled_weights_are_refused(tiny: dict[str, Path], tmp_path: Path) -> None:
    """Loading a pickle runs whatever code it holds."""
    (tmp_path / "config.json").write_text((tiny["wide"] / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"code")
    with pytest.raises(ConfigError, match=r"teachers\.wide\.model .*pytorch_model\.bin"):
        read_traits("teachers.wide.model", source_of(tmp_path))
    with pytest.raises(OSError, match="safetensors"):
        load_classifier(source_of(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [([], "no config.json"), (["config.json"], "no .safetensors"), (None, "does not exist")],
)
def test_a_folder_without_a_model_is_refused(
    tmp_path: Path, files: list[str] | None, message: str
) -> None:
    """A traceback from the middle of transformers does not say which setting is wrong."""
    folder = tmp_path / "model"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).write_text("{}")
    with pytest.raises(ConfigError, match=message):
        read_traits("student.model", source_of(folder))


def test_decoder_without_padding_token_teaches(decoder: Path) -> None:
    """A batch of a decoder without padding token fails, or reads the padding as the last word."""
    teacher = LocalTeacher(TeacherSettings("gpt", source_of(decoder), "float32", 16, 8))
    ask = Ask(hidden=(HiddenAsk(4), HiddenAsk(2, "mean"), HiddenAsk(0, "first")))
    together = teacher.answer(Request((0, 1, 2), tuple(map(tuple, TEXTS)), ask))
    begin = 0
    for row, text in enumerate(TEXTS[0]):
        alone = teacher.answer(Request((row,), ((text,),), ask))
        length = int(alone.lengths[0])
        torch.testing.assert_close(together.logits[row : row + 1], alone.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            together.hidden(HiddenAsk(4))[begin : begin + length],
            alone.hidden(HiddenAsk(4)), atol=1e-5, rtol=0,
        )  # fmt: skip
        begin += length
    assert begin == int(together.lengths.sum())


def test_decoder_without_padding_token_learns(decoder: Path) -> None:
    """A student that refuses batches of more than one row fails at the first step."""
    tokenizer = load_tokenizer(source_of(decoder))
    student = build(decoder, pad_token_id=tokenizer.pad_token_id, head_columns=[0, 1])
    inputs = tokenize(tokenizer, TEXTS, 16)
    with torch.inference_mode():
        logits = student(**inputs).logits
        for row, text in enumerate(TEXTS[0]):
            alone = student(**tokenize(tokenizer, [[text]], 16)).logits
            torch.testing.assert_close(logits[row : row + 1], alone, atol=1e-5, rtol=0)
    assert student.config.pad_token_id == tokenizer.pad_token_id


def test_pairs_are_one_sequence_and_cut_at_the_longer(tiny: dict[str, Path]) -> None:
    """Pairs read as two batches, or a premise cut away, change the task."""
    tokenizer = load_tokenizer(source_of(tiny["student"]))
    encoded = tokenize(tokenizer, [["the film was good and fine"], ["bad plot"]], 9)
    assert encoded["input_ids"].shape == (1, 9)
    assert int((encoded["input_ids"] == tokenizer.sep_token_id).sum()) == 2
    alone = tokenize(tokenizer, [["bad plot"]], 9)["input_ids"][0, 1:]
    assert torch.equal(encoded["input_ids"][0, -3:], alone)


def test_padding_goes_no_further_than_the_longest(tiny: dict[str, Path]) -> None:
    """Padding to max_tokens multiplies the work of short texts."""
    tokenizer = load_tokenizer(source_of(tiny["student"]))
    assert tokenize(tokenizer, [["good", "very bad"]], 32)["input_ids"].shape == (2, 4)


MASKS = {
    "right": [[1, 1, 1, 0], [1, 0, 0, 0]],
    "left": [[0, 1, 1, 1], [0, 0, 0, 1]],
    "none": [[1, 1, 1, 1], [1, 1, 1, 1]],
}


@pytest.mark.parametrize("side", MASKS)
@pytest.mark.parametrize("pooling", ["all", "first", "mean", "gram"])
def test_pool_hidden_reads_no_padding(side: str, pooling: Any) -> None:
    """Padding in a pooled state makes it depend on the other rows of the batch."""
    mask = torch.tensor(MASKS[side]).bool()
    hidden = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    rows = [row[keep] for row, keep in zip(hidden, mask, strict=True)]
    expected = {
        "all": torch.cat(rows),
        "first": torch.stack([row[0] for row in rows]),
        "mean": torch.stack([row.mean(0) for row in rows]),
        "gram": torch.cat([(row[:, None] * row[None]).mean(-1).flatten() for row in rows]),
    }[pooling]
    dirty = torch.where(mask.unsqueeze(-1), hidden, float("nan"))
    torch.testing.assert_close(pool_hidden(dirty, mask, pooling), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mean_of_a_long_text_in_half_precision(dtype: torch.dtype) -> None:
    """A float16 sum overflows and bfloat16 cannot count to 257: the mean would be wrong or infinite."""
    hidden = torch.full((1, 257, 2), 300.0, dtype=dtype)
    mean = pool_hidden(hidden, torch.ones(1, 257).bool(), "mean")
    torch.testing.assert_close(mean.float(), hidden[:, 0].float(), rtol=1e-5, atol=0)
