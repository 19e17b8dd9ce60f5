"""Models that name words for the mask tokens of a text.

A masked language model: words that fit. A classifier: words that would make its own prediction less sure.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.augmentation import is_unspaced
from raydistill.models.build import load_classifier, load_tokenizer
from raydistill.models.describe import ModelSource, quiet_transformers

__all__ = ["MaskedLanguageModel", "NamingSettings", "UnsureClassifier"]

_SPARE = 5  # times as many tokens are looked at as words are wanted: parts of words are none
_WORD_BEGINS = ("\u2581", "\u0120")  # SentencePiece's and byte-level BPE's mark of a space


@dataclass(frozen=True)
class NamingSettings:
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


class _Naming(ABC):
    """A model, loaded and ready, and what its tokens mean.

    Args:
        settings: Of it.
    """

    def __init__(self, settings: NamingSettings) -> None:
        self._settings = settings
        self._device = torch.device("cuda" if settings.use_gpu else "cpu")
        if not settings.use_gpu:
            torch.set_num_threads(settings.num_threads)
        self._model: Any = self._loaded().eval().requires_grad_(False).to(self._device)
        self._tokenizer = load_tokenizer(settings.source)
        self._special = set(self._tokenizer.all_special_ids)
        vocabulary = self._tokenizer.get_vocab()
        marks = [mark for mark in _WORD_BEGINS if any(t.startswith(mark) for t in vocabulary)]
        self._mark = marks[0] if marks else None
        self._words: dict[int, str | None] = {}

    @abstractmethod
    def _loaded(self) -> nn.Module: ...

    @abstractmethod
    def _scores(self, inputs: Any, masked: Tensor) -> Tensor:
        """What is said of every token at each mask, ``[masks, V]``; their softmax weighs them."""

    def candidates(self, texts: Sequence[str]) -> list[list[list[tuple[str, float]]]]:
        """Of each text, for each mask token that is read: words and their weights.

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
        masked = inputs["input_ids"] == self._tokenizer.mask_token_id
        scores = self._scores(inputs, masked).float() / self._settings.temperature
        number = min(scores.shape[-1], _SPARE * self._settings.top_k + len(self._special))
        values, tokens = scores.softmax(-1).topk(number)
        rows = masked.nonzero()[:, 0].tolist()
        for row, weights, ids in zip(rows, values.tolist(), tokens.tolist(), strict=True):
            words = [(self._word(i), weight) for i, weight in zip(ids, weights, strict=True)]
            yield row, [(w, p) for w, p in words if w is not None][: self._settings.top_k]

    def _word(self, token: int) -> str | None:
        """The word that a token is by itself; None of special ones, marks, and parts of words."""
        if token not in self._words:
            self._words[token] = self._read(token)
        return self._words[token]

    def _read(self, token: int) -> str | None:
        name = self._tokenizer.convert_ids_to_tokens(token)
        if name is None or token in self._special or name.startswith("##"):
            return None
        word: str = self._tokenizer.decode([token]).strip()
        begins = self._mark is None or name.startswith(self._mark) or is_unspaced(word)
        return word if begins and word and word.replace("'", "").isalnum() else None


class MaskedLanguageModel(_Naming):
    """Names words that fit, weighed by their probability."""

    def _loaded(self) -> nn.Module:
        from transformers import AutoModelForMaskedLM

        source = self._settings.source
        with quiet_transformers():
            model: Any = AutoModelForMaskedLM.from_pretrained(
                source.location, use_safetensors=True, **source.options
            )
        self._masked: Tensor | None = None
        head = model.get_output_embeddings()
        if isinstance(head, nn.Linear):  # the vocabulary is only multiplied where it is asked for
            head.register_forward_pre_hook(self._only_masked)
        return model  # type: ignore[no-any-return]

    def _only_masked(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (states,) = inputs
        return (states[self._masked],) if self._masked is not None else inputs

    @torch.inference_mode()
    def _scores(self, inputs: Any, masked: Tensor) -> Tensor:
        self._masked = masked
        logits: Tensor = self._model(**inputs).logits
        self._masked = None
        # A head of another kind saw all tokens.
        return logits[masked] if logits.dim() > 2 else logits  # noqa: PLR2004


class UnsureClassifier(_Naming):
    r"""Names words that make a classifier's own prediction less sure.

    .. math:: s_v = \frac{1}{\sigma} (E_v - e) \cdot \nabla_e H(q), \qquad
              P(v) = \mathrm{softmax}_v(s / \tau)

    with q its prediction, H the entropy, e the embedding at the mask and E the embedding matrix: how much a
    word would change H, to first order, by the deviation :math:`\sigma` over all words. A word drawn by P is
    what the hard sample of a Gumbel-softmax over s is, by the Gumbel-max trick. A mixture of embeddings,
    its soft sample, could only be shown to models that share the embeddings; a word can be shown to
    teachers.

    References:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax*, ICLR 2017, arXiv:1611.01144,
        section 2. Ebrahimi et al., *HotFlip*, ACL 2018, arXiv:1712.06751, section 3: the first order.
    """

    def _loaded(self) -> nn.Module:
        return load_classifier(self._settings.source)

    def _scores(self, inputs: Any, masked: Tensor) -> Tensor:
        matrix = self._model.get_input_embeddings()
        embeddings = matrix(inputs["input_ids"])
        move = torch.zeros_like(embeddings).requires_grad_()
        handle = matrix.register_forward_hook(lambda _module, _inputs, found: found + move)
        try:
            logits = self._model(**inputs).logits.float()
        finally:
            handle.remove()
        (slope,) = torch.autograd.grad(self._entropy(logits).sum(), move)
        scores: Tensor = (
            slope[masked].float() @ matrix.weight.float().T
        )  # [masks, V]; e adds a constant
        scores -= scores.mean(-1, keepdim=True)
        scores /= scores.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-30)
        return scores

    def _entropy(self, logits: Tensor) -> Tensor:
        """Of the prediction, ``[B]``; of labels that do not exclude each other the sum of theirs."""
        if self._model.config.problem_type == "multi_label_classification":
            logits = torch.stack([torch.zeros_like(logits), logits], -1)
            return _entropy(logits).sum(-1)
        return _entropy(logits)


def _entropy(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)
