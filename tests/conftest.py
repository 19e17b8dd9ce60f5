"""Small models and data made on the spot: no hub, seconds on a CPU."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

LABELS = ("negative", "positive")
GOOD = ("good", "great", "fine", "lovely", "superb")
BAD = ("bad", "awful", "poor", "dull", "broken")
FILLER = ("the", "film", "was", "a", "very", "plot", "cast", "and", "its", "end", "it", "is")


def make_rows(num_rows: int, seed: int) -> list[dict[str, str]]:
    """Rows whose label is the kind of word that occurs, with 10 % of noise."""
    draw = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        label = draw.randrange(2)
        words = draw.choices(FILLER, k=draw.randint(2, 12))
        words.insert(draw.randrange(len(words)), draw.choice((BAD, GOOD)[label]))
        if draw.random() < 0.1:
            label = 1 - label
        rows.append({"text": " ".join(words), "label": LABELS[label]})
    return rows


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_model(
    folder: Path,
    *,
    layers: int = 2,
    width: int = 32,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    reverse_vocabulary: bool = False,
) -> Path:
    """A BERT classifier with random weights and a word-level tokenizer, as a folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = sorted({*GOOD, *BAD, *FILLER}, reverse=reverse_vocabulary)
    vocabulary = {
        w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])
    }
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=2, intermediate_size=2 * width, max_position_embeddings=64,
        id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():  # answers that differ from row to row
        model.classifier.weight.mul_(20.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_masked_lm(folder: Path) -> Path:
    """A BERT with random weights and a head for its vocabulary, as a folder."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig.from_pretrained(make_model(folder, layers=1, width=16))
    torch.manual_seed(0)
    model = BertForMaskedLM(config)
    with torch.no_grad():  # words that are not all alike
        model.cls.predictions.bias.normal_()
    model.save_pretrained(folder)
    return folder


def two_teachers(tiny: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Settings of a sound run, to be changed."""
    return {
        "run": {"name": "tiny", "output_dir": str(folder / "out")},
        "data": {"folder": str(tiny["data"])},
        "student": {"model": str(tiny["student"]), "max_tokens": 16},
        "teachers": {"wide": {"model": str(tiny["wide"])}, "deep": {"model": str(tiny["deep"])}},
        "losses": [{"kind": "cross_entropy"}, {"kind": "forward_kl"}],
    }


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders: teachers `wide` (3 x 48) and `deep` (4 x 32), `other` (another vocabulary), a
    `student` (2 x 32), and `data` (96 train, 32 unlabelled, 40 validation, 40 test).
    """
    root = tmp_path_factory.mktemp("tiny")
    data = root / "data"
    data.mkdir()
    for name, num_rows, seed in (("train", 96, 1), ("validation", 40, 2), ("test", 40, 3)):
        write_rows(data / f"{name}.jsonl", make_rows(num_rows, seed))
    write_rows(data / "unlabelled.jsonl", [{"text": row["text"]} for row in make_rows(32, 4)])
    (data / "labels.json").write_text(json.dumps(LABELS), encoding="utf-8")
    return {
        "data": data,
        "wide": make_model(root / "wide", layers=3, width=48, seed=1),
        "deep": make_model(root / "deep", layers=4, width=32, seed=2),
        "other": make_model(root / "other", layers=2, width=32, seed=3, reverse_vocabulary=True),
        "student": make_model(root / "student", layers=2, width=32, seed=4),
    }
