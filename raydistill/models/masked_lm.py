"""A masked language model that says which words fit at the mask tokens of a text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.augmentation import is_unspaced
from raydistill.models.build import load_tokenizer
from raydistill.models.describe import ModelSource, quiet_transformers

__all__ = ["MaskedLMSettings", "MaskedLanguageModel"]

_SPARE = 5  # times as many tokens are looked at as words are wanted: parts of words are none
_WORD_BEGINS = ("\u2581", "\u0120")  # SentencePiece's and byte-level BPE's mark of a space


@dataclass(frozen=True)
class MaskedLMSettings:
    """How one is loaded and asked.

    Attributes:
        source: Folder or id.
        top_k: Words for each mask token.
        temperature: Divides logits.
        max_tokens: Longer texts are cut.
        batch_rows: Texts of a forward pass.
        num_threads: On a CPU.
        use_gpu: Whether there is one for it.
    """

    source: ModelSource
    top_k: int = 10
    temperature: float = 1.0
    max_tokens: int = 128
    batch_rows: int = 64
    num_threads: int = 1
    use_gpu: bool = False


class MaskedLanguageModel:
    """Loaded and ready; in evaluation mode.

    Args:
        settings: Of it.
    """

    def __init__(self, settings: MaskedLMSettings) -> None:
        from transformers import AutoModelForMaskedLM

        self._settings = settings
        self._device = torch.device("cuda" if settings.use_gpu else "cpu")
        if not settings.use_gpu:
            torch.set_num_threads(settings.num_threads)
        with quiet_transformers():
            self._model: Any = AutoModelForMaskedLM.from_pretrained(
                settings.source.location, use_safetensors=True, **settings.source.options
            )
        self._model.eval().to(self._device)
        self._tokenizer = load_tokenizer(settings.source)
        self._special = set(self._tokenizer.all_special_ids)
        marks = [mark for mark in _WORD_BEGINS if any(t.startswith(mark) for t in self._tokenizer.get_vocab())]  # fmt: skip
        self._mark = marks[0] if marks else None
        self._words: dict[int, str | None] = {}
        self._masked: Tensor | None = None
        head = self._model.get_output_embeddings()
        if isinstance(head, nn.Linear):  # the vocabulary is only multiplied where it is asked for
            head.register_forward_pre_hook(self._only_masked)

    def _only_masked(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (states,) = inputs
        return (states[self._masked],) if self._masked is not None else inputs

    @torch.inference_mode()
    def candidates(self, texts: Sequence[str]) -> list[list[list[tuple[str, float]]]]:
        """Of each text, for each mask token that is read: likely words and their probabilities.

        What comes out of a text depends on its neighbours by rounding only, and on which those are by
        the order of ``texts`` only.
        """
        found: list[list[list[tuple[str, float]]]] = [[] for _ in texts]
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for begin in range(0, len(order), self._settings.batch_rows):
            places = order[begin : begin + self._settings.batch_rows]
            for row, words in self._of_batch([texts[place] for place in places]):
                found[places[row]].append(words)
        return found

    def _of_batch(self, texts: list[str]) -> Iterator[tuple[int, list[tuple[str, float]]]]:
        """Row and words of each mask token in turn."""
        inputs = self._tokenizer(
            texts, truncation=True, max_length=self._settings.max_tokens, padding=True, return_tensors="pt",
        ).to(self._device)  # fmt: skip
        self._masked = inputs["input_ids"] == self._tokenizer.mask_token_id
        logits = self._model(**inputs).logits.float()
        if logits.dim() > 2:  # noqa: PLR2004 - a head of another kind saw all tokens
            logits = logits[self._masked]
        rows = self._masked.nonzero()[:, 0].tolist()
        self._masked = None
        number = min(logits.shape[-1], _SPARE * self._settings.top_k + len(self._special))
        values, tokens = (logits / self._settings.temperature).softmax(-1).topk(number)
        for row, probabilities, ids in zip(rows, values.tolist(), tokens.tolist(), strict=True):
            words = [(self._word(i), p) for i, p in zip(ids, probabilities, strict=True)]
            yield row, [(w, p) for w, p in words if w is not None][: self._settings.top_k]

    def _word(self, token: int) -> str | None:
        """The word that a token is by itself; None of special ones, marks, and parts of words."""
        if token not in self._words:
            self._words[token] = self._read(token)
        return self._words[token]

    def _read(self, token: int) -> str | None:
        name = self._tokenizer.convert_ids_to_tokens(token)
        if token in self._special or name.startswith("##"):
            return None
        word: str = self._tokenizer.decode([token]).strip()
        begins = self._mark is None or name.startswith(self._mark) or is_unspaced(word)
        return word if begins and word and word.replace("'", "").isalnum() else None
