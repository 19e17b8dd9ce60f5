"""From sections to operations on texts: word lists are read, models looked at; or faults."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from raydistill.augmentation import (
    Candidates,
    Change,
    Operation,
    Synonyms,
    Words,
    by_text,
    contextual,
    delete,
    insert,
    mask,
    ngram,
    read_wordnet,
    read_words,
    swap,
    synonym,
    typo,
)
from raydistill.config import DistillConfig
from raydistill.config.augmentation import (
    DeleteOperation,
    InsertOperation,
    MaskedLMOperation,
    MaskOperation,
    ModelOperation,
    NGramOperation,
    SwapOperation,
    SynonymOperation,
    TypoOperation,
)
from raydistill.config.augmentation_rules import operations_of
from raydistill.config.task import PROBLEM_TYPES
from raydistill.errors import ConfigError, Fault
from raydistill.models import ModelSource, load_tokenizer, read_traits
from raydistill.prepare.sources import head_faults, resolve_source, weights_fingerprint

__all__ = ["Contextual", "Operations", "plan_operations"]

_HEADS = ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel")


@dataclass(frozen=True)
class Contextual:
    """A model that an operation asks for words.

    Attributes:
        section: How, and of which kind.
        source: Where it is loaded from.
        token: Its mask token.
        weights: Its fingerprint.
    """

    section: Any
    source: ModelSource
    token: str
    weights: str


@dataclass
class Operations:
    """What operations need beside the text, by where they stand in the configuration.

    Attributes:
        synonyms: Lists.
        lists: Fingerprints of their files.
        models: Those that name words.
        mask_token: Of the student's tokenizer.
    """

    synonyms: dict[str, Synonyms] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    models: dict[str, Contextual] = field(default_factory=dict)
    mask_token: str | None = None

    def build(
        self,
        path: str,
        section: Any,
        words: Words,
        candidates: Mapping[str, Candidates] | None = None,
    ) -> Operation:
        """An operation.

        Args:
            path: Where it stands.
            section: Its settings.
            words: What a word is.
            candidates: Of models, by where they stand.
        """
        if isinstance(section, ModelOperation):
            return contextual(
                (candidates or {})[path],
                token=self.models[path].token,
                rate=section.rate,
                action=section.action,
                words=words,
            )
        return by_text(self._change(path, section), words)

    def _change(self, path: str, section: Any) -> Change:
        """What an operation does to the words of one text."""
        token = getattr(section, "token", None) or self.mask_token
        change: Change
        match section:
            case DeleteOperation(rate=rate):
                change = partial(delete, rate=rate)
            case SwapOperation(rate=rate):
                change = partial(swap, rate=rate)
            case InsertOperation(rate=rate):
                change = partial(insert, rate=rate, synonyms=self.synonyms.get(path))
            case MaskOperation(rate=rate):
                assert token is not None, "whoever plans refuses a mask without a token"
                change = partial(mask, rate=rate, token=token)
            case NGramOperation(shortest=shortest, longest=longest):
                change = partial(ngram, shortest=shortest, longest=longest)
            case SynonymOperation(rate=rate):
                change = partial(synonym, rate=rate, synonyms=self.synonyms[path])
            case _:
                assert isinstance(section, TypoOperation), "all kinds are named"
                change = partial(typo, rate=section.rate)
        return change


def plan_operations(
    config: DistillConfig, mask_token: Callable[[], str | None], *, whose: str = "the student"
) -> Operations:
    """Read word lists, and look at models that name words.

    Args:
        config: Valid by itself.
        mask_token: Gives that of the tokenizer, if there is one; raises ConfigError if no tokenizer
            could be read.
        whose: Tokenizer that is, for the error.

    Raises:
        ConfigError: With every fault of lists and models.
    """
    found, broken = Operations(), False
    lists: dict[Path, tuple[Synonyms, str]] = {}
    faults: list[Fault] = []
    for path, section in operations_of(config).items():
        for name, read in (("words", read_words), ("wordnet", read_wordnet)):
            written = getattr(section, name, None)
            if written is None:
                continue
            place = Path(written).expanduser()
            try:
                if place not in lists:  # WordNet takes seconds
                    lists[place] = read(place), _content(place)
                found.synonyms[path], found.lists[path] = lists[place]
            except ValueError as error:
                faults.append(Fault(f"{path}.{name}", str(error)))
        try:
            if isinstance(section, ModelOperation):
                found.models[path] = _model(config, path, section)
            if isinstance(section, MaskOperation) and section.token is None:
                found.mask_token = mask_token()
                if found.mask_token is None:
                    message = f"is needed: the tokenizer of {whose} has no mask token. Write e.g. token: '[MASK]'."
                    faults.append(
                        Fault(f"{path}.token", message, rests_on=(f"{path}.token", "student"))
                    )
        except ConfigError as error:
            faults, broken = [*faults, *error.faults], True
    if faults or broken:
        raise ConfigError(faults)
    return found


def _model(config: DistillConfig, path: str, section: Any) -> Contextual:
    """A model that can be asked for words.

    Raises:
        ConfigError: It cannot.
    """
    path = f"{path}.model"
    source = resolve_source(
        path,
        section.model,
        tracking_uri=config.tracking.uri,
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
    )
    traits = read_traits(path, source)
    if isinstance(section, MaskedLMOperation):
        faults = _vocabulary_faults(path, source)
    else:
        faults = head_faults(path, source)
        if traits.problem_type == PROBLEM_TYPES["regression"]:
            message = "gives numbers, which are never unsure. Take a classifier."
            faults.append(Fault(path, message))
    if traits.max_positions is not None and section.max_tokens > traits.max_positions:
        faults.append(
            Fault(
                path.removesuffix("model") + "max_tokens",
                f"must not exceed the model's {traits.max_positions} positions, got {section.max_tokens}.",
            )
        )
    token = load_tokenizer(source).mask_token
    if token is None:
        faults.append(Fault(path, "must have a mask token, but its tokenizer has none."))
    if faults:
        raise ConfigError(faults)
    return Contextual(section, source, token, weights_fingerprint(source))


def _vocabulary_faults(path: str, source: ModelSource) -> list[Fault]:
    """A language model without a trained head would name random words."""
    from raydistill.models.auto import AutoConfig

    config = AutoConfig.from_pretrained(source.location, **source.options)
    names = list(getattr(config, "architectures", None) or [])
    known = source.trust_remote_code or any(name.endswith(_HEADS) for name in names)
    if known or not names:
        return []
    return [
        Fault(
            path,
            f"is a {names[0]}, which has no head for its vocabulary, so the words it would name are random. "
            "Take a model that was saved with one (AutoModelForMaskedLM).",
        )
    ]


def _content(place: Path) -> str:
    """Of a file, or of WordNet's."""
    files = sorted(place.glob("data.*")) if place.is_dir() else [place]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
