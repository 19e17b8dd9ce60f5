"""From ``student.network`` to a StudentPlan: its tokens, its first embeddings and its sizes fit, or faults."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill.config import DistillConfig
from raydistill.config.networks import (
    AverageNetwork,
    ModelEmbeddings,
    RandomEmbeddings,
    RecurrentNetwork,
    TeacherEmbeddings,
    VectorEmbeddings,
    WordEmbeddings,
)
from raydistill.config.rules import needs_inside
from raydistill.data import Split
from raydistill.errors import ConfigError
from raydistill.models import ModelSource, ModelTraits, load_tokenizer, read_traits
from raydistill.models.describe import RECURRENT
from raydistill.models.embeddings import EmbeddingPlan, matrix_shape, word_matrix
from raydistill.models.vectors import read_vectors
from raydistill.models.words import (
    WordRules,
    known_share,
    possible_words,
    word_tokenizer,
    words_of,
)
from raydistill.prepare.planned import PlannedStudent, shape_of, tokenizer_of
from raydistill.prepare.sources import resolve_source
from raydistill.training.student import StudentPlan, WordTokens

__all__ = ["plan_network"]

_PATH = "student.network"
_RANDOM_SIZE = 300
_TRAINING = ("train", "unlabelled")
_NO_SOURCE = ModelSource("words of the training rows", "", "")


def plan_network(
    config: DistillConfig,
    network: RecurrentNetwork | AverageNetwork,
    *,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
    splits: Mapping[str, Split] | None,
    common: Mapping[str, Any],
) -> PlannedStudent | None:
    """How the student is made, and its shape.

    Args:
        config: Whose student.
        network: Its section.
        sources: Of teachers, by name.
        traits: Shapes of those teachers that could be read.
        splits: Rows, for words; None if they could not be read.
        common: Of every plan.

    Returns:
        None if it needs a teacher or rows that could not be read, which is a fault elsewhere.

    Raises:
        ConfigError: It cannot be made.
    """
    tokens = _tokens(config, network.embeddings, sources, traits, splits)
    return None if tokens is None else _planned(config, network, tokens, common)


class _Tokens:
    """Where tokens and their vectors come from.

    Args:
        tokenizer: Loaded or made.
        source: Of the tokenizer.
        shape: Of the matrix; None: random.
        words: Tokens that are words.
        origin: Of the matrix.
        notes: What should be known.
    """

    def __init__(
        self,
        tokenizer: Any,
        source: ModelSource = _NO_SOURCE,
        *,
        shape: tuple[int, int] | None = None,
        words: WordTokens | None = None,
        origin: EmbeddingPlan | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.tokenizer, self.source, self.shape = tokenizer, source, shape
        self.words, self.origin, self.notes = words, origin, notes


def _tokens(
    config: DistillConfig,
    section: Any,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
    splits: Mapping[str, Split] | None,
) -> _Tokens | None:
    match section:
        case RandomEmbeddings():
            found = tokenizer_of(config, traits)
            return (
                None if found is None else _Tokens(found.tokenizer, found.source, notes=found.notes)
            )
        case WordEmbeddings():
            return None if splits is None else _words(section, splits)
        case VectorEmbeddings():
            return _vectors(section, splits)
        case TeacherEmbeddings():
            if section.teacher not in traits:
                return None
            return _matrix(f"{_PATH}.embeddings.teacher", sources[section.teacher])
        case ModelEmbeddings():
            path = f"{_PATH}.embeddings.model"
            source = resolve_source(
                path,
                section.model,
                tracking_uri=config.tracking.uri,
                revision=config.student.revision,
                trust_remote_code=config.student.trust_remote_code,
            )
            read_traits(path, source)
            return _matrix(path, source)
    raise AssertionError("every kind is above")


def _matrix(path: str, source: ModelSource) -> _Tokens:
    """A model's matrix, with its tokenizer."""
    tokenizer = load_tokenizer(source)
    try:
        shape = matrix_shape(source)
    except ValueError as error:
        raise ConfigError.of(path, f"cannot be used: {error}.") from None
    if shape[0] < len(tokenizer):
        raise ConfigError.of(
            path,
            f"cannot be used: {source.name} has {shape[0]} embeddings, but its tokenizer {len(tokenizer)} tokens.",
        )
    return _Tokens(tokenizer, source, shape=shape, origin=EmbeddingPlan(source))


def _texts(splits: Mapping[str, Split], names: Sequence[str] = _TRAINING) -> Iterator[str]:
    """Of rows, those that train if no others are named."""
    for name in names:
        if name in splits:
            table: pa.Table = splits[name].table
            for column in ("text", "text_pair"):
                if column in table.column_names:
                    for chunk in table[column].chunks:
                        yield from chunk.to_pylist()


def _words_of_rows(
    section: WordEmbeddings | VectorEmbeddings, splits: Mapping[str, Split]
) -> tuple[WordRules, list[str]]:
    rules = WordRules(section.units, section.lower_case)
    found = words_of(
        _texts(splits), rules, min_count=section.min_count, max_words=section.max_words
    )
    if not found:
        raise ConfigError.of(
            f"{_PATH}.embeddings.min_count",
            f"leaves no word of the training rows, got {section.min_count}.",
        )
    return rules, found


def _words(section: WordEmbeddings, splits: Mapping[str, Split]) -> _Tokens:
    """Words, with random vectors."""
    rules, found = _words_of_rows(section, splits)
    tokenizer = word_tokenizer(rules, found)
    words = WordTokens(rules, tuple(found))
    return _Tokens(tokenizer, words=words, notes=(_coverage(tokenizer, len(found), splits),))


def _vectors(section: VectorEmbeddings, splits: Mapping[str, Split] | None) -> _Tokens | None:
    """Words, with those vectors of a file that they have there."""
    path, file = f"{_PATH}.embeddings.file", Path(section.file).expanduser()
    if not file.is_file():
        raise ConfigError.of(
            path, f"must be a file of word vectors, got '{section.file}', which does not exist."
        )
    if splits is None:
        return None
    rules, of_rows = _words_of_rows(section, splits)
    try:
        found = read_vectors(file, {*of_rows, *map(str.lower, of_rows)}, first=section.more_words)
    except ValueError as error:
        raise ConfigError.of(path, f"{section.file} {error}.") from error
    there = set(found.words)
    known = [word for word in of_rows if word in there]
    missing = [word for word in of_rows if word not in there]
    in_lower_case = sum(word.lower() in there for word in missing)
    way_out = (
        f" {in_lower_case:,} have one in lower case: set lower_case: true." if in_lower_case else ""
    )
    if not known:
        raise ConfigError.of(
            path,
            f"{section.file} has no vector for any of the {len(of_rows):,} words of the training rows, such as "
            f"{', '.join(of_rows[:3])}.{way_out or ' Look at units and lower_case.'}",
        )
    first = [
        w for w, place in zip(found.words, found.places, strict=True) if place < section.more_words
    ]
    mine = set(of_rows)
    more = possible_words((word for word in first if word not in mine), rules)
    vocabulary = [*known, *more]
    tokenizer, matrix = word_tokenizer(rules, vocabulary), word_matrix(vocabulary, found)
    notes = [_coverage(tokenizer, len(vocabulary), splits)]
    if missing:
        notes.append(
            f"{path}: {len(missing):,} of the {len(of_rows):,} words of the training rows have no vector, such as "
            f"{', '.join(missing[:3])}.{way_out}"
        )
    return _Tokens(
        tokenizer,
        shape=(matrix.shape[0], matrix.shape[1]),
        words=WordTokens(rules, tuple(vocabulary)),
        origin=EmbeddingPlan(vectors=matrix),
        notes=tuple(notes),
    )


def _coverage(tokenizer: Any, num_words: int, splits: Mapping[str, Split]) -> str:
    shares = [
        f"{1 - known_share(tokenizer, _texts(splits, [name])):.1%} of the words of data.{name}"
        for name in ("train", "validation")
        if name in splits
    ]
    return f"{_PATH}.embeddings: {num_words:,} words; unknown are {' and '.join(shares)}."


def _planned(
    config: DistillConfig,
    network: RecurrentNetwork | AverageNetwork,
    tokens: _Tokens,
    common: Mapping[str, Any],
) -> PlannedStudent:
    from raydistill.models.auto import AutoConfig

    section: Any = network.embeddings
    size, table_width, origin = network.embedding_size, None, tokens.origin
    if tokens.shape is None:
        size = size or _RANDOM_SIZE
    else:
        width = tokens.shape[1]
        size = size or width
        if section.reduce == "linear":
            table_width = width
        elif size > width:
            raise ConfigError.of(
                f"{_PATH}.embedding_size",
                f"must not exceed the {width} numbers of each vector, got {size}. Write null, which takes all, or "
                "embeddings.reduce: linear.",
            )
        elif size < width and origin is not None:
            origin = replace(origin, width=size)
    settings: dict[str, Any] = {
        "model_type": RECURRENT,
        "vocab_size": tokens.shape[0] if tokens.shape is not None else len(tokens.tokenizer),
        "embedding_size": size,
        "embedding_width": table_width,
        "head_size": network.head_size,
        "freeze_embeddings": getattr(section, "freeze", False),
    }
    if isinstance(network, RecurrentNetwork):
        settings |= {
            "cell": network.kind,
            "num_hidden_layers": network.layers,
            "cell_size": network.hidden_size,
            "bidirectional": network.bidirectional,
            "pooling": network.pooling,
        }
    else:
        special = sorted(tokens.tokenizer.all_special_ids)
        settings |= {"cell": "average", "num_hidden_layers": 0, "uncounted_ids": special}
    plan = StudentPlan(
        source=tokens.source,
        random_config=settings,
        words=tokens.words,
        embeddings=origin,
        **common,
    )
    built = AutoConfig.for_model(**settings)
    traits = shape_of(built, tokens.tokenizer, inside=needs_inside(config))
    return PlannedStudent(plan, traits, tokens.notes)
