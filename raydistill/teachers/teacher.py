"""A teacher: describe yourself, answer these rows. No Ray here."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.config.task import Head
from raydistill.errors import NotFiniteError, TeacherError
from raydistill.models import (
    EmbedderSpec,
    ModelSource,
    load_classifier,
    tokenize,
)
from raydistill.models.backends import Backend, ExportError, OnnxBackend, TorchBackend
from raydistill.models.describe import traits_of_config
from raydistill.models.outputs import select_parts
from raydistill.models.pieces import (
    WordPieces,
    select_word_parts,
    word_pieces,
)
from raydistill.models.span_pieces import SpanPieces, span_pieces
from raydistill.models.spans import select_span_parts
from raydistill.signals import Ask, AttentionAsk, HiddenAsk, Request, TeacherSignal, pack_signal
from raydistill.signals.ask import Pooling, embedding_key
from raydistill.signals.signal import CPU, TORCH_DTYPES, vectors_per_row
from raydistill.teachers.fingerprint import deciding_settings, fingerprint
from raydistill.teachers.protocol import TeacherDescription, TeacherSettings
from raydistill.teachers.rows import EncodedRows, RowReader
from raydistill.teachers.shapes import STEP, Pass, plan_full_passes, plan_passes, rows_on_cpu
from raydistill.teachers.steadiness import is_steady, long_text, plan_probes

__all__ = ["LocalTeacher", "rows_not_finite", "time_answers"]

_POOLINGS: dict[Head, Pooling] = {"texts": "all", "words": "words", "spans": "units"}
_NO_SOURCE = ModelSource("", "", "")
_LOGITS = Ask()
_STEADY: dict[str, bool] = {}
"""Shapes of teachers found steady in this process, and whether in passes of four."""
# Tokens of padding that cost what a pass more costs: launching its kernels, or next to nothing.
_PADDING = {"cuda": 1024, "cpu": 64}


class LocalTeacher:
    """A frozen Hugging Face model that classifies texts, or words, finds answers, or embeds texts, in this process.

    Attributes:
        settings: How it is loaded and run.
        reader: How it cuts rows into tokens.
    """

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
        self.reader = RowReader(settings)
        model: Any = load_classifier(
            settings.source,
            dtype=TORCH_DTYPES[settings.dtype],
            attention_maps=settings.attention_maps,
            head=settings.head,
            embedder=settings.embedder,
        )
        if getattr(model.config, "pad_token_id", None) is None:
            model.config.pad_token_id = self.reader.tokenizer.pad_token_id
        model.config.use_cache = False  # keys and values of decoders would only take memory
        self._fixed_passes = False
        self._batch_rows = settings.batch_rows
        if self._device.type == "cpu":
            self._batch_rows = rows_on_cpu(settings.batch_rows, settings.max_tokens)
        model.requires_grad_(False).eval().to(self._device)
        weights = list(model.parameters())
        self._config, traits = model.config, traits_of_config(model.config, self.reader.tokenizer)
        self._description = TeacherDescription(
            traits=traits,
            fingerprint=fingerprint(
                model, traits, settings.max_tokens, settings.dtype, *_embedding(settings.embedder)
            ),
            num_parameters=sum(weight.numel() for weight in weights),
            num_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
            device=str(self._device),
            steady=False,
        )
        self._last_layer = Ask(logits=None, embeddings=("passage",))
        if settings.head != "embeddings":
            last = HiddenAsk(traits.num_layers, _POOLINGS[settings.head])
            self._last_layer = Ask((last,), logits=settings.head)
        self._backend: Backend = TorchBackend(model, self._device)
        if settings.backend == "onnx":
            self._backend = self._export(model)

    def describe(self) -> TeacherDescription:
        """Shape, labels, fingerprint; and how passes must be shaped here for rows to have the same bits."""
        return replace(self._description, steady=self._make_steady())

    @property
    def facts(self) -> TeacherDescription:
        """The same, but nobody has tried the bits."""
        return self._description

    def _export(self, model: Any) -> OnnxBackend:
        settings, layers = self.settings, range(1, self._description.traits.num_layers + 1)
        # All of it, whatever a run asks for: the answers of every run stand on one shelf.
        maps = layers if settings.attention_maps else ()
        most = self._last_layer
        if settings.head != "embeddings":
            most = Ask(
                tuple(HiddenAsk(k) for k in (0, *layers)),
                tuple(AttentionAsk(k) for k in maps),
                logits=settings.head,
            )
        examples = [
            tokenize(
                self.reader.tokenizer,
                [[long_text(i, n) for i, n in enumerate(words)]],
                settings.max_tokens,
            )
            for words in ((3, 12, 7), (5,), (settings.max_tokens, 2))
        ]
        try:
            return OnnxBackend(model, examples, most, settings.num_threads)
        except ExportError as error:
            raise TeacherError(
                settings.name,
                f"cannot be computed by ONNX Runtime: {error}",
                f"Set teachers.{settings.name}.backend: torch.",
            ) from error

    @property
    def _may_be_steady(self) -> bool:
        """Never on a GPU, nor in half precision, nor where four rows do not fit."""
        exact = self._device.type == "cpu" and self.settings.dtype == "float32"
        return exact and self._batch_rows >= STEP

    def _make_steady(self) -> bool:
        """Whether rows have the same bits in any company, if need be in passes of four."""
        self._fixed_passes = False
        if not self._may_be_steady:
            return False
        # It is a matter of shapes: a second teacher of the same shape in this process need not try.
        shape = f"{deciding_settings(self._config)} {replace(self.settings, name='', source=_NO_SOURCE)}"
        if shape in _STEADY:
            self._fixed_passes = _STEADY[shape]
            return True
        steady = self._is_steady()
        if not steady:
            self._fixed_passes = True
            steady = self._fixed_passes = self._is_steady()
        if steady:
            _STEADY[shape] = self._fixed_passes
        return steady

    def _is_steady(self) -> bool:
        probes = plan_probes(
            batch_rows=self._batch_rows,
            max_tokens=self.settings.max_tokens,
            num_parameters=self._description.num_parameters,
        )
        return is_steady(self._answer, self._last_layer, probes)

    def answer(self, request: Request) -> TeacherSignal:
        """Run the model over the rows, those of like width together; the answer is in their order.

        Raises:
            NotFiniteError: A part of the answer is NaN or infinite, before or after rounding to the
                dtype asked for.
        """
        return self._answer(request, self.settings.max_tokens)

    @torch.inference_mode()
    def _answer(self, request: Request, cut: int) -> TeacherSignal:
        encoded = self.reader.encode(request, cut)
        passes = self._plan([len(ids) for ids in encoded.inputs["input_ids"]])
        lengths = np.array(encoded.lengths, dtype=np.int32)
        pieces = [self._forward(request, encoded, one) for one in passes]
        order = [row for one in passes for row in one.rows]
        back = np.argsort(order)
        parts = {
            key: _reorder(key, torch.cat([piece[key] for piece in pieces]), lengths[order], back)
            for key in pieces[0]
        }
        self._refuse_not_finite(request, parts, lengths)
        place = self._device if self.settings.keep_on_device else CPU
        return pack_signal(
            self.settings.name,
            request.row_ids,
            lengths.tolist(),
            parts,
            request.ask.dtype,
            device=place,
        )

    def _plan(self, lengths: list[int]) -> list[Pass]:
        rows, most = self._batch_rows, self.settings.max_tokens
        if self._may_be_steady:
            return plan_passes(lengths, batch_rows=rows, max_tokens=most, fixed=self._fixed_passes)
        padding = _PADDING[self._device.type]
        return plan_full_passes(lengths, batch_rows=rows, max_tokens=most, padding=padding)

    def _forward(self, request: Request, encoded: EncodedRows, one: Pass) -> dict[str, Tensor]:
        rows = [*one.rows, *([one.rows[-1]] * one.fill)]
        inputs = self.reader.tokenizer.pad(
            {key: [values[row] for row in rows] for key, values in encoded.inputs.items()},
            padding="max_length",
            max_length=one.width,
            return_tensors="pt",
        )
        found = self._backend.run(inputs, request.ask)
        mask = inputs["attention_mask"][: len(one.rows)].bool()
        if encoded.word_ids is not None:
            pieces = word_pieces(
                [encoded.word_ids[row] for row in one.rows],
                [encoded.lengths[row] for row in one.rows],
                mask,
            )
            pieces = WordPieces(*(tensor.to(self._device) for tensor in pieces.tensors))
            return select_word_parts(found, pieces, request.ask, len(one.rows))
        if encoded.spans is not None:
            matched = span_pieces([encoded.spans[row] for row in one.rows], mask)
            matched = SpanPieces.from_tensors([t.to(self._device) for t in matched.tensors])
            return select_span_parts(found, mask.to(self._device), matched, request.ask)
        if self.settings.embedder is not None:
            return {embedding_key(request.ask.embeddings[0]): found["logits"][: len(one.rows)]}
        return select_parts(found, mask.to(self._device), request.ask)

    @torch.inference_mode()
    def run_plainly(self, request: Request, max_tokens: int | None = None) -> Tensor:
        """Logits of the rows as one batch, padded to the longest and no further: for timing.

        A single row is not filled up to four here, as it is where equal bits are wanted. Of pairs, a model that
        embeds texts embeds the passages, of which there are many.

        Args:
            request: The rows.
            max_tokens: Longer rows are cut; None: as always.
        """
        inputs = self.reader.inputs_of(request, max_tokens)
        return self._backend.run(inputs, _LOGITS)["logits"].float().cpu()

    @property
    def parts(self) -> tuple[Any, Any] | None:
        """Module and tokenizer, for an export; None: torch does not compute it."""
        if not isinstance(self._backend, TorchBackend):
            return None
        return self._backend.model, self.reader.tokenizer

    def _refuse_not_finite(
        self, request: Request, parts: dict[str, Tensor], lengths: NDArray[np.int32]
    ) -> None:
        wire, name = TORCH_DTYPES[request.ask.dtype], self.settings.name
        for key, part in parts.items():
            if torch.isfinite(part.to(wire)).all():
                continue
            rows = tuple(
                request.row_ids[row] for row in rows_not_finite(key, part.to(wire), lengths)
            )
            remedy = f"Look at the weights of teachers.{name}.model, or compute it in float32."
            if torch.isfinite(part).all():
                remedy = f"The value is too large for teachers.{name}.signal_dtype = {request.ask.dtype}; use bfloat16 or float32."
            raise NotFiniteError(f"teachers.{name}: {key}", rows, remedy)


def _embedding(spec: EmbedderSpec | None) -> tuple[str, ...]:
    """What decides an embedding beside the encoder."""
    return () if spec is None else (spec.decides,)


def rows_not_finite(key: str, part: Tensor, lengths: NDArray[np.int32]) -> list[int]:
    """Rows with a value in a part that is NaN or infinite."""
    bad = ~torch.isfinite(part).reshape(len(part), -1).all(1).cpu()
    owner = torch.from_numpy(vectors_per_row(key, lengths, len(part)))
    rows = torch.arange(len(lengths)).repeat_interleave(owner)
    return sorted(set(rows[bad].tolist()))


def _reorder(key: str, part: Tensor, lengths: NDArray[np.int32], back: NDArray[np.intp]) -> Tensor:
    """The rows of a part, which may take several vectors each, in another order."""
    pieces = torch.split(part, vectors_per_row(key, lengths, len(part)).tolist())
    return torch.cat([pieces[row] for row in back])


def time_answers(teacher: LocalTeacher, requests: Sequence[Request]) -> list[float]:
    """Seconds that each batch takes as anybody would run it, tokenizing included."""
    seconds = []
    for request in requests:
        begin = time.perf_counter()
        teacher.run_plainly(request)
        seconds.append(time.perf_counter() - begin)
    return seconds
