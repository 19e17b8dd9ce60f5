"""Words as tokens: a tokenizer made from rows, saved and loaded like any other.

Chinese characters may be tokens of their own; to cut Chinese text into words is left to whoever makes the
rows, as the words must be cut the way the vectors were.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

__all__ = [
    "SPECIAL_WORDS",
    "WordRules",
    "known_share",
    "possible_words",
    "word_tokenizer",
    "words_of",
]

SPECIAL_WORDS = ("[PAD]", "[UNK]", "[SEP]")
"""The first tokens: padding, an unknown word, the end of a text."""


@dataclass(frozen=True)
class WordRules:
    """What a word is.

    Attributes:
        units: ``characters``: Chinese characters one by one, other words whole.
        lower_case: Whether everything is read in lower case.
    """

    units: Literal["words", "characters"] = "words"
    lower_case: bool = False


def _core(rules: WordRules, vocabulary: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {word: i for i, word in enumerate((*SPECIAL_WORDS, *vocabulary))}
    core = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL_WORDS[1]))
    core.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=rules.units == "characters",
        strip_accents=False,
        lowercase=rules.lower_case,
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # A text without a word still has a token; two texts are kept apart.
    end = SPECIAL_WORDS[2]
    core.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B:1 {end}:1", special_tokens=[(end, 2)]
    )
    return core


def words_of(
    texts: Iterable[str], rules: WordRules, *, min_count: int = 1, max_words: int = 50_000
) -> list[str]:
    """The words of some texts, the most frequent first, then by the alphabet.

    Args:
        texts: Of all rows.
        rules: What a word is.
        min_count: Rarer ones are left out.
        max_words: At most so many.
    """
    from tokenizers import trainers

    core = _core(rules, ())
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words + len(SPECIAL_WORDS),
        min_frequency=min_count,
        special_tokens=list(SPECIAL_WORDS),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    ids = core.get_vocab(with_added_tokens=False)
    return sorted((word for word in ids if word not in SPECIAL_WORDS), key=ids.__getitem__)


def word_tokenizer(rules: WordRules, vocabulary: Sequence[str]) -> Any:
    """A tokenizer of these words.

    Args:
        rules: What a word is.
        vocabulary: Without special tokens, which come before.
    """
    from transformers import PreTrainedTokenizerFast

    pad, unknown, end = SPECIAL_WORDS
    return PreTrainedTokenizerFast(
        tokenizer_object=_core(rules, vocabulary),
        pad_token=pad,
        unk_token=unknown,
        sep_token=end,
        model_input_names=["input_ids", "attention_mask"],
    )


def possible_words(words: Iterable[str], rules: WordRules) -> list[str]:
    """Those that a text can be cut into; of a file's words, not `New_York`.

    Args:
        words: Of any origin.
        rules: What a word is.
    """
    core = _core(rules, ())
    normal, cut = core.normalizer.normalize_str, core.pre_tokenizer.pre_tokenize_str
    return [word for word in words if [piece for piece, _ in cut(normal(word))] == [word]]


def known_share(tokenizer: Any, texts: Iterable[str], *, most: int = 10_000) -> float:
    """Share of the running words that are known; 1 if there are none.

    Args:
        tokenizer: As from :func:`word_tokenizer`.
        texts: Of all rows.
        most: Only so many are looked at.
    """
    core = tokenizer.backend_tokenizer
    lines = core.encode_batch(list(islice(texts, most)), add_special_tokens=False)
    total = sum(len(line.ids) for line in lines)
    return 1.0 - sum(line.ids.count(1) for line in lines) / total if total else 1.0
