"""A teacher: describe yourself, answer these rows. No Ray here."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill.errors import NotFiniteError, TeacherError
from raydistill.models import ModelSource, ModelTraits, load_classifier, load_tokenizer, tokenize
from raydistill.models.describe import traits_of_config
from raydistill.models.outputs import select_parts
from raydistill.signals import Request, TeacherSignal, pack_signal

__all__ = ["LocalTeacher", "Teacher", "TeacherDescription", "TeacherSettings", "time_answers"]

_TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# What a configuration says about how it was saved or is called, not about what is computed.
_NOT_THE_MODEL = {
    "dtype", "output_attentions", "output_hidden_states", "return_dict", "transformers_version", "use_cache",
}  # fmt: skip


@dataclass(frozen=True)
class TeacherDescription:
    """What a teacher says about itself.

    Attributes:
        traits: Layers, width, labels.
        fingerprint: SHA-256 of weights, configuration, tokenizer and the cut of long texts: equal
            ones give equal answers.
        num_parameters: Of the whole model.
        num_bytes: Of the weights as loaded.
        device: Where it runs.
    """

    traits: ModelTraits
    fingerprint: str
    num_parameters: int
    num_bytes: int
    device: str


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
        batch_rows: At most that many rows in a forward pass.
        num_threads: Of torch on the CPU; fixed, since sums depend on it in the last bit.
        use_gpu: Whether it has (a share of) a GPU.
        attention_maps: Whether maps will be asked for.
    """

    name: str
    source: ModelSource
    dtype: Literal["float32", "float16", "bfloat16"]
    max_tokens: int
    batch_rows: int
    num_threads: int = 1
    use_gpu: bool = False
    attention_maps: bool = False


class LocalTeacher:
    """A frozen Hugging Face sequence-classification model in this process."""

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings
        self._device = torch.device("cuda" if settings.use_gpu else "cpu")
        if settings.use_gpu and not torch.cuda.is_available():
            raise TeacherError(
                settings.name,
                "was given a GPU but torch sees none",
                "Check the CUDA driver of that node.",
            )
        if self._device.type == "cpu":
            torch.set_num_threads(settings.num_threads)
        self._tokenizer = load_tokenizer(settings.source)
        model: Any = load_classifier(
            settings.source, dtype=_TORCH[settings.dtype], attention_maps=settings.attention_maps
        )
        if getattr(model.config, "pad_token_id", None) is None:
            model.config.pad_token_id = self._tokenizer.pad_token_id
        model.config.use_cache = False  # keys and values of decoders would only take memory
        self._model: Any = model.requires_grad_(False).eval().to(self._device)

    def describe(self) -> TeacherDescription:
        """Shape, labels, fingerprint."""
        model: nn.Module = self._model
        traits = traits_of_config(self._model.config, self._tokenizer)
        return TeacherDescription(
            traits=traits,
            fingerprint=self._fingerprint(traits),
            num_parameters=sum(p.numel() for p in model.parameters()),
            num_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
            device=str(self._device),
        )

    def _fingerprint(self, traits: ModelTraits) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(
                tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
            )
        # Weights alone do not say which activation or which epsilon.
        config = {
            key: value
            for key, value in self._model.config.to_dict().items()
            if not key.startswith("_") and key not in _NOT_THE_MODEL
        }
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        digest.update(f"{traits} {self.settings.max_tokens} {self.settings.dtype}".encode())
        return digest.hexdigest()

    @torch.inference_mode()
    def answer(self, request: Request) -> TeacherSignal:
        """Run the model over the rows, in slices of ``batch_rows``.

        Where there are several slices, rows of like length share one, so that less padding is
        computed; the answer is in the order of the request all the same.

        Raises:
            NotFiniteError: A part of the answer is NaN or infinite, before or after rounding to the
                dtype asked for.
        """
        step = self.settings.batch_rows
        order = list(range(request.num_rows))
        if request.num_rows > step:  # characters stand for tokens; sorted() keeps the order of ties
            order.sort(key=lambda row: sum(len(column[row]) for column in request.texts))
        slices = [
            self._forward(request.select(order[begin : begin + step]))
            for begin in range(0, request.num_rows, step)
        ]
        lengths = np.concatenate([piece for _, piece in slices])
        back = np.argsort(order)
        parts = {
            key: _reorder(torch.cat([piece[key] for piece, _ in slices]), lengths, back)
            for key in slices[0][0]
        }
        return pack_signal(
            self.settings.name, request.row_ids, lengths[back].tolist(), parts, request.ask.dtype
        )

    def _forward(self, request: Request) -> tuple[dict[str, Tensor], NDArray[np.int32]]:
        inputs = tokenize(self._tokenizer, request.texts, self.settings.max_tokens)
        mask = inputs["attention_mask"].bool()
        inputs = {key: value.to(self._device) for key, value in inputs.items()}
        outputs = self._model(
            **inputs,
            output_hidden_states=bool(request.ask.hidden),
            output_attentions=bool(request.ask.attention),
        )
        parts = select_parts(outputs, mask.to(self._device), request.ask)
        wire = _TORCH[request.ask.dtype]
        for key, part in parts.items():
            if not torch.isfinite(part.to(wire)).all():
                self._refuse(key, part, wire, request.row_ids, mask)
        return parts, mask.sum(1).int().numpy()

    def _refuse(
        self, key: str, part: Tensor, wire: torch.dtype, row_ids: tuple[int, ...], mask: Tensor
    ) -> None:
        """Name the rows whose values are not finite."""
        finite = torch.isfinite(part.to(wire))
        rows = row_ids
        if key == "logits" or len(part) == len(row_ids):
            bad = ~finite.reshape(len(row_ids), -1).all(1)
            rows = tuple(row for row, is_bad in zip(row_ids, bad.tolist(), strict=True) if is_bad)
        elif key.startswith("hidden."):
            owner = torch.arange(len(row_ids)).repeat_interleave(mask.sum(1).cpu())
            bad_rows = set(owner[~finite.all(1).cpu()].tolist())
            rows = tuple(row_ids[i] for i in sorted(bad_rows))
        name = self.settings.name
        remedy = f"Look at the weights of teachers.{name}.model, or compute it in float32."
        if torch.isfinite(part).all():
            remedy = f"The value is too large for teachers.{name}.signal_dtype = {str(wire).removeprefix('torch.')}; use bfloat16 or float32."
        raise NotFiniteError(f"teachers.{name}: {key}", rows, remedy)


def _reorder(part: Tensor, lengths: NDArray[np.int32], back: NDArray[np.intp]) -> Tensor:
    """The rows of a part, which may take several elements each, in another order."""
    rows, tokens = len(lengths), int(lengths.sum())
    if len(part) == rows and part.dim() > 1:
        return part[torch.from_numpy(back).to(part.device)]
    sizes = lengths.astype(np.int64)
    if part.dim() == 1:  # attention maps, H x L x L a row
        sizes = sizes**2
        sizes *= len(part) // int(sizes.sum())
    elif len(part) != tokens:
        raise AssertionError("a part has one element a row, a token, or a pair of tokens")
    pieces = torch.split(part, sizes.tolist())
    return torch.cat([pieces[row] for row in back])


def time_answers(teacher: Teacher, requests: Sequence[Request]) -> list[float]:
    """Seconds that each answer takes, tokenizing included."""
    seconds = []
    for request in requests:
        begin = time.perf_counter()
        teacher.answer(request)
        seconds.append(time.perf_counter() - begin)
    return seconds
