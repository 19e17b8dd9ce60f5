"""Tokenizers and taggers made on the spot, with pieces as real ones have them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

TAGS = ("O", "B-per", "I-per", "B-loc", "I-loc")
NAMES = ("Ada", "Lovelace", "Grace", "Hopper", "Alan")
PLACES = ("Paris", "London", "Rio", "York")
FILLER = (
    "went",
    "to",
    "with",
    "and",
    "saw",
    "the",
    "New",
    "in",
    "wonderful",
    "unbelievably",
    "中",
    "国",
)


def word_piece() -> Any:
    """Pieces as BERT has them: lower case, accents and control characters removed, Chinese by characters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    whole = [
        word.lower()
        for word in (*FILLER[:7], "ada", "paris", "rio", "中", "国", "won", "un", "-", "'", ".")
    ]
    pieces = [
        f"##{one}" for one in (*letters, "der", "ful", "love", "lace", "believ", "ably", "don")
    ]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys([*whole, *letters, *pieces])]
    core = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return _fast(core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def unigram() -> Any:
    """Pieces as XLM-R has them: a mark for each space, whatever cannot be seen removed."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = sorted({mark for word in (*NAMES, *PLACES, *FILLER) for mark in word})
    words = [f"▁{word}" for word in (*FILLER[:8], *NAMES[:2], "Par", "Lon")]
    scored = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    scored += [(word, -3.0) for word in words] + [("▁", -5.0), ("ably", -5.0), ("is", -5.0)]
    scored += [(mark, -8.0) for mark in letters]
    core = Tokenizer(models.Unigram(scored, unk_id=3, byte_fallback=False))
    core.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex("[\\u200b-\\u200f\\ufeff]"), "")]
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _fast(core, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>")


def byte_level(*, add_prefix_space: bool = False) -> Any:
    """Pieces as GPT-2 has them: bytes, a space being part of the word behind it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {mark: number for number, mark in enumerate(["<pad>", *alphabet])}
    merges = [("Ġ", "t"), ("Ġ", "A")]
    vocabulary |= {left + right: len(vocabulary) + i for i, (left, right) in enumerate(merges)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    return _fast(core, pad_token="<pad>")


def _fast(core: Any, **special: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=64, **special)


def make_tagger(
    folder: Path,
    tokenizer: Any,
    *,
    layers: int = 1,
    width: int = 16,
    seed: int = 0,
    tags: Sequence[str] = TAGS,
) -> Path:
    """A BERT for words with random weights and this tokenizer, as a folder."""
    import torch
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=2, intermediate_size=2 * width, max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(tags)), label2id={name: i for i, name in enumerate(tags)},
    )  # fmt: skip
    model = BertForTokenClassification(config)
    with torch.no_grad():  # answers that differ from word to word
        model.classifier.weight.mul_(20.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_sentences(number: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Rows whose names and places have tags."""
    import random

    draw = random.Random(seed)
    rows = []
    for _ in range(number):
        words: list[str] = []
        tags: list[str] = []
        for _ in range(draw.randint(2, 4)):
            filler = draw.choices(FILLER, k=draw.randint(1, 3))
            kind, names = draw.choice((("per", NAMES), ("loc", PLACES)))
            span = draw.choices(names, k=draw.randint(1, 2))
            words += [*filler, *span]
            tags += ["O"] * len(filler) + [f"B-{kind}"] + [f"I-{kind}"] * (len(span) - 1)
        rows.append((words, tags))
    return rows


def make_tagging(folder: Path) -> dict[str, Path]:
    """Folders: `data`, teachers `pieces` (the student's tokenizer, tags in another order) and `grams` (another
    tokenizer, wider), and a `student`.
    """
    import json

    data = folder / "data"
    data.mkdir(parents=True)
    for split, number, seed in (("train", 30, 1), ("validation", 12, 2), ("test", 12, 3)):
        rows = make_sentences(number, seed)
        rows[1] = (["", *rows[1][0], "\u200b", "😀"], ["O", *rows[1][1], "O", "O"])
        text = [json.dumps({"tokens": words, "ner_tags": tags}) + "\n" for words, tags in rows]
        (data / f"{split}.jsonl").write_text("".join(text), encoding="utf-8")
    spare = [json.dumps({"tokens": words}) + "\n" for words, _ in make_sentences(6, 4)]
    (data / "unlabelled.jsonl").write_text("".join(spare), encoding="utf-8")
    (data / "labels.json").write_text(json.dumps(TAGS), encoding="utf-8")
    pieces = make_tagger(folder / "pieces", word_piece(), seed=1, tags=TAGS[::-1])
    grams = make_tagger(folder / "grams", unigram(), layers=2, width=24, seed=2)
    student = make_tagger(folder / "student", word_piece(), layers=2, seed=3)
    return {"data": data, "pieces": pieces, "grams": grams, "student": student}


def tagging_settings(folders: dict[str, Path], output: Path) -> dict[str, Any]:
    """A sound run, to be changed; rows are so short that `grams` loses words."""
    return {
        "run": {"name": "tags", "seed": 3, "output_dir": str(output)},
        "data": {"folder": str(folders["data"])},
        "task": {"kind": "tagging"},
        "student": {"model": str(folders["student"]), "max_tokens": 40},
        "teachers": {
            "pieces": {"model": str(folders["pieces"])},
            "grams": {"model": str(folders["grams"]), "max_tokens": 24},
        },
        "ensemble": {"weights": {"grams": 3.0}},
        "losses": [
            {"kind": "cross_entropy", "weight": 0.5},
            {"kind": "forward_kl", "temperature": 2.0},
            {"kind": "hidden_mse", "weight": 0.1, "layers": "last", "projection": "linear"},
        ],
        "training": {"epochs": 1, "batch_rows": 12, "learning_rate": 1e-3},
        "tracking": {"enabled": False},
        "evaluation": {"latency": False},
    }
