"""What a teacher is: it describes itself and answers rows. How it came to be is its own affair."""

from dataclasses import dataclass
from typing import Literal, Protocol

from raydistill.config.task import Head
from raydistill.models import EmbedderSpec, ModelSource, ModelTraits
from raydistill.signals import Request, TeacherSignal

__all__ = ["Teacher", "TeacherDescription", "TeacherSettings"]


@dataclass(frozen=True)
class TeacherDescription:
    """What a teacher says about itself.

    Attributes:
        traits: Layers, width, labels.
        fingerprint: SHA-256 of weights, configuration, tokenizer and the cut of long texts: equal
            ones give equal answers, but for the last bits, which also depend on what computes.
        num_parameters: Of the whole model.
        num_bytes: Of the weights as loaded.
        device: Where it runs.
        steady: Whether a row's answer has the same bits whatever rows are computed beside it.
    """

    traits: ModelTraits
    fingerprint: str
    num_parameters: int
    num_bytes: int
    device: str
    steady: bool


class Teacher(Protocol):
    """Anything that answers rows of text; a local model is only one way."""

    def describe(self) -> TeacherDescription:
        """Shape, labels, fingerprint."""
        ...

    def answer(self, request: Request) -> TeacherSignal:
        """The asked parts for every row, in order; equal requests get equal answers."""
        ...


@dataclass(frozen=True)
class TeacherSettings:
    """How a local teacher is loaded and run.

    Attributes:
        name: In the configuration.
        source: The model.
        dtype: Weights and computation.
        max_tokens: Longer rows are cut.
        batch_rows: At most that many rows of ``max_tokens`` in a forward pass.
        num_threads: Of torch on the CPU; fixed, since sums may depend on it in the last bit.
        use_gpu: Whether it has (a share of) a GPU.
        attention_maps: Whether maps will be asked for.
        backend: What computes; ``onnx`` only in float32 on the CPU.
        keep_on_device: Whether answers stay in the memory of the device that computed them.
        head: What it gives outputs for, and so what rows it is asked about: texts, words, or questions with windows; or
            texts of one side of pairs, which it embeds.
        embedder: Of one that embeds, what follows its encoder.
    """

    name: str
    source: ModelSource
    dtype: Literal["float32", "float16", "bfloat16"]
    max_tokens: int
    batch_rows: int
    num_threads: int = 1
    use_gpu: bool = False
    attention_maps: bool = False
    backend: Literal["torch", "onnx"] = "torch"
    keep_on_device: bool = False
    head: Head = "texts"
    embedder: EmbedderSpec | None = None
