"""Questions, tokenizers and models for answers made on the spot."""

import json
import random
from pathlib import Path
from typing import Any

from tests.unit.words import NAMES, PLACES, byte_level, word_piece

CONTEXT = (
    "Ada Lovelace saw Grace Hopper in Paris, and Alan went to New York with 42 wonderful 中国 maps."
)


def paired(tokenizer: Any, kind: str) -> Any:
    """The same with a question and a window around special tokens."""
    from tokenizers import processors

    core = tokenizer.backend_tokenizer
    first, end = ("[CLS]", "[SEP]") if kind == "pieces" else ("<s>", "</s>")
    ids = [(one, core.token_to_id(one)) for one in (first, end)]
    middle = f"{end}" if kind == "pieces" else f"{end} {end}"
    core.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {end}", pair=f"{first} $A {middle} $B:1 {end}:1", special_tokens=ids
    )
    return tokenizer


def pieces() -> Any:
    """Word pieces, as BERT has them."""
    return paired(word_piece(), "pieces")


def grams() -> Any:
    """Unigrams, as XLM-R has them; some reach over several units."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(
        set("".join((*NAMES, *PLACES, CONTEXT, "Where went?中国0123456789.mapsith")) + "▁") - {" "}
    )
    words = [f"▁{word}" for word in ("Where", "went", "with", "maps", "to", "Ada", "Par")]
    scored = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    scored += [(word, -3.0) for word in (*words, "▁Rio.", "中国", "国.", "is.", "York")]
    scored += [(mark, -8.0) for mark in letters]
    core = Tokenizer(models.Unigram(scored, unk_id=3, byte_fallback=False))
    core.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex("[\\u200b-\\u200c\\u200e\\ufeff]"), "")]
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=64, pad_token="<pad>", unk_token="<unk>", cls_token="<s>",
        sep_token="</s>",
    )  # fmt: skip
    return paired(tokenizer, "grams")


def bytes_() -> Any:
    """Bytes, as GPT-2 has them; nothing stands around a text."""
    return byte_level()


def make_answerer(
    folder: Path,
    tokenizer: Any,
    *,
    layers: int = 1,
    width: int = 16,
    seed: int = 0,
    length: int = 64,
) -> Path:
    """A BERT for answers with random weights and this tokenizer, as a folder."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=length, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = BertForQuestionAnswering(config)
    with torch.no_grad():  # answers that differ from place to place
        model.qa_outputs.weight.mul_(3.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_questions(number: int, seed: int, *, unanswerable: bool = False) -> list[dict[str, Any]]:
    """Who went where: the answer is the place behind a name, in contexts of several sentences."""
    draw = random.Random(seed)
    names, places = ["Ada", "Grace", "Alan", "Hopper"], ["Paris", "London", "Rio", "York", "中国"]
    rows = []
    for row in range(number):
        there = draw.sample(names, k=draw.randint(2, 4))
        context, answers = "", {"text": list[str](), "answer_start": list[int]()}
        for name in there:
            place = draw.choice(places)
            context += f"{name} went with {draw.randint(1, 99)} maps to {place}. "
            if name == there[0]:
                answers = {"text": [place], "answer_start": [len(context) - len(place) - 2]}
        asked = there[0]
        if unanswerable and row % 3 == 0:
            asked = "Lovelace"
            answers = {"text": [], "answer_start": []}
        rows.append({
            "id": f"q{seed}-{row}", "question": f"Where went {asked}?", "context": context.rstrip(), "answers": answers,
        })  # fmt: skip
    return rows


def make_answering(folder: Path, *, unanswerable: bool = True) -> dict[str, Path]:
    """Folders: `data`, teachers `pieces` (the student's tokenizer) and `grams` (another, wider), and a `student`."""
    data = folder / "data"
    data.mkdir(parents=True)
    for split, number, seed in (("train", 24, 1), ("validation", 9, 2), ("test", 9, 3)):
        rows = make_questions(number, seed, unanswerable=unanswerable)
        rows[1]["context"] += " \u200b😀 👨‍👩‍👧"
        text = [json.dumps(row) + "\n" for row in rows]
        (data / f"{split}.jsonl").write_text("".join(text), encoding="utf-8")
    spare = [{k: v for k, v in row.items() if k != "answers"} for row in make_questions(5, 4)]
    (data / "unlabelled.jsonl").write_text("".join(json.dumps(r) + "\n" for r in spare))
    return {
        "data": data,
        "pieces": make_answerer(folder / "pieces", pieces(), seed=1),
        "grams": make_answerer(folder / "grams", grams(), layers=2, width=24, seed=2),
        "student": make_answerer(folder / "student", pieces(), layers=2, seed=3),
    }


def answering_settings(folders: dict[str, Path], output: Path) -> dict[str, Any]:
    """A sound run, to be changed; contexts are longer than what fits."""
    return {
        "run": {"name": "answers", "seed": 3, "output_dir": str(output)},
        "data": {"folder": str(folders["data"])},
        "task": {"kind": "question_answering"},
        "student": {"model": str(folders["student"]), "max_tokens": 48},
        "teachers": {
            "pieces": {"model": str(folders["pieces"])},
            "grams": {"model": str(folders["grams"]), "max_tokens": 60},
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
