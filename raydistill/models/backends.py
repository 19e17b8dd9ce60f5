"""What computes a frozen model: torch, or ONNX Runtime on CPUs."""

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raydistill.models.describe import quiet_transformers
from raydistill.models.inside import INSIDE, InsideReader
from raydistill.models.spans import logits_of
from raydistill.signals import Ask

__all__ = [
    "Backend",
    "ExportError",
    "OnnxBackend",
    "OnnxFile",
    "TorchBackend",
    "largest_difference",
    "output_names",
    "write_onnx",
]

_OPSET = 17
_TOLERANCE = 1e-3  # of a part's largest value: an export that went wrong is off by much more


class Backend(Protocol):
    """Runs one model."""

    def run(self, inputs: Mapping[str, Tensor], ask: Ask) -> dict[str, Tensor]:
        """One forward pass.

        Args:
            inputs: Of the tokenizer, ``[B, S]`` each, on the CPU.
            ask: What is wanted.

        Returns:
            By the names of `output_names`: logits ``[B, K]``, or for each token ``[B, S, K]`` (of answers start and end), hidden states, queries, keys and values
            ``[B, S, D]``, maps ``[B, H, S, S]``; those of padding mean nothing.
        """
        ...


def output_names(ask: Ask) -> list[str]:
    """What a model must give out for an ask: ``logits``, ``hidden.3``, ``query.3``, ``attention.3``, before any reduction."""
    found = {(hidden.states, hidden.layer) for hidden in ask.hidden}
    states = [
        f"{kind}.{layer}"
        for kind in ("hidden", *INSIDE)
        for layer in sorted(layer for other, layer in found if other == kind)
    ]
    blocks = sorted({attention.layer for attention in ask.attention})
    return [
        "logits",
        *states,
        *(f"attention.{block}" for block in blocks),
    ]


class TorchBackend:
    """The module itself.

    Args:
        model: A Hugging Face classifier, where it runs.
        device: Where that is.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model, self._device = model, device
        self._reader: InsideReader | None = None  # made when first needed: few models are asked

    def run(self, inputs: Mapping[str, Tensor], ask: Ask) -> dict[str, Tensor]:
        """One forward pass."""
        inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        wanted = {
            "output_hidden_states": any(hidden.states == "hidden" for hidden in ask.hidden),
            "output_attentions": bool(ask.attention),
        }
        names = output_names(ask)
        inside = [name for name in names if name.partition(".")[0] in INSIDE]
        with self._reading(inside, inputs) as read:
            outputs = self.model(**inputs, **wanted)
        found = {"logits": logits_of(outputs)}
        for name in names[1:]:
            kind, _, layer = name.partition(".")
            if kind == "hidden":
                found[name] = outputs.hidden_states[int(layer)]
            elif kind == "attention":
                found[name] = outputs.attentions[int(layer) - 1]
            else:
                found[name] = read[name]
        return found

    def _reading(
        self, names: list[str], inputs: Mapping[str, Tensor]
    ) -> AbstractContextManager[Mapping[str, Tensor]]:
        if not names:
            return nullcontext({})
        if self._reader is None:
            self._reader = InsideReader(self.model)
        return self._reader.reading(names, inputs["attention_mask"].shape)


class ExportError(Exception):
    """A model cannot be exported, or its export computes something else."""


class OnnxFile:
    """A model in a file, computed by ONNX Runtime on CPUs.

    Args:
        file: ONNX.
        num_threads: Of a pass.
    """

    def __init__(self, file: Path, num_threads: int) -> None:
        self._session = _open_session(file, num_threads)
        # What the model does not need is none of the export's inputs.
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def run(self, inputs: Mapping[str, Tensor], ask: Ask) -> dict[str, Tensor]:
        """One forward pass."""
        names = output_names(ask)
        arrays = self._session.run(names, {name: inputs[name].numpy() for name in self._inputs})
        return dict(zip(names, map(torch.from_numpy, arrays), strict=True))


class OnnxBackend(OnnxFile):
    """The module exported to ONNX and computed by ONNX Runtime on CPUs.

    Args:
        model: A Hugging Face classifier in float32 on the CPU; it is not kept.
        examples: Inputs of several shapes, ``[B, S]`` each. The first is exported; on all of them
            the export must give out what the module does.
        ask: The most that will be asked for. What is fused depends on what is given out, so it must
            be the same wherever the same bits are wanted.
        num_threads: Of a pass.

    Raises:
        ExportError: With what happened.
    """

    def __init__(
        self, model: nn.Module, examples: Sequence[Mapping[str, Tensor]], ask: Ask, num_threads: int
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="raydistill-onnx-") as folder, _told():
            file = Path(folder) / "model.onnx"  # beside it the weights, if they exceed 2 GB
            write_onnx(model, examples[0], ask, file)
            super().__init__(file, num_threads)
            largest_difference(self, model, examples, ask, tolerance=_TOLERANCE)


def write_onnx(model: nn.Module, inputs: Mapping[str, Tensor], ask: Ask, file: Path) -> None:
    """Export a model; rows and tokens are free.

    Args:
        model: A Hugging Face classifier in float32 on the CPU.
        inputs: An example, ``[B, S]`` each.
        ask: What it gives out.
        file: Written.

    Raises:
        ExportError: With what happened.
    """
    module = TorchBackend(model, torch.device("cpu"))
    names, found = list(inputs), output_names(ask)
    free = {name: {0: "rows", 1: "tokens"} for name in names}
    of_rows = ("logits",) if ask.logits == "texts" else ()
    free |= {name: {0: "rows"} if name in of_rows else {0: "rows", 1: "tokens"} for name in found}
    free |= {name: {0: "rows", 2: "tokens", 3: "tokens"} for name in found if "attention." in name}
    with _told(), warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Positional(module, names, ask).eval(),
            tuple(inputs.values()),
            str(file),
            input_names=names,
            output_names=found,
            dynamic_axes=free,
            opset_version=_OPSET,
            dynamo=False,  # the newer exporter takes five times as long
        )


def largest_difference(
    exported: Backend,
    model: nn.Module,
    examples: Sequence[Mapping[str, Tensor]],
    ask: Ask,
    *,
    tolerance: float,
) -> float:
    """How far an export is from the module on examples of any shape, relative to the largest value, or to 1.

    Args:
        exported: What is tried.
        model: What it must compute.
        examples: Inputs, ``[B, S]`` each.
        ask: What is compared.
        tolerance: The largest difference that is let through.

    Raises:
        ExportError: It computes something else.
    """
    module, most = TorchBackend(model, torch.device("cpu")), 0.0
    with _told():
        for inputs in examples:
            found = exported.run(inputs, ask)
            most = max(most, _difference(found, module, inputs, ask, tolerance))
    return most


@contextmanager
def _told() -> Iterator[None]:
    """Errors of either library, of any type, as one that says what happened."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ExportError(f"{type(error).__name__}: {lines[0] if lines else ''}") from error


class _Positional(nn.Module):
    """A model as an exporter wants it: tensors in, tensors out."""

    def __init__(self, module: TorchBackend, names: list[str], ask: Ask) -> None:
        super().__init__()
        self.model = module.model  # among the modules of this one, whose weights are exported
        self._module, self._names, self._ask = module, names, ask

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(self._names, tensors, strict=True))
        return tuple(self._module.run(inputs, self._ask).values())


def _open_session(file: Path, num_threads: int) -> Any:
    """A session of ONNX Runtime."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # what is computed here is nobody else's business
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    # Between two passes its threads must not spin: that would take the student's share of the CPU.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _difference(
    found: Mapping[str, Tensor],
    module: TorchBackend,
    inputs: Mapping[str, Tensor],
    ask: Ask,
    tolerance: float,
) -> float:
    with torch.inference_mode():
        expected = module.run(inputs, ask)
    mask, most = inputs["attention_mask"].bool(), 0.0
    for name, true in expected.items():
        one, other = _without_padding(found[name], mask), _without_padding(true, mask)
        worst = float((one - other).abs().max())
        size = max(1.0, float(other.abs().max()))
        if not worst <= tolerance * size:
            rows, tokens = mask.shape
            raise ExportError(
                f"{name} of the export differs by {worst:.2g} on {rows} x {tokens} tokens"
            )
        most = max(most, worst / size)
    return most


def _without_padding(tensor: Tensor, mask: Tensor) -> Tensor:
    if tensor.ndim == 2:  # noqa: PLR2004 - logits
        return tensor
    if tensor.ndim == 3:  # noqa: PLR2004 - hidden states, or logits of tokens
        return tensor[mask]
    squares = mask[:, None, :, None] & mask[:, None, None, :]
    return tensor[squares.expand_as(tensor)]
