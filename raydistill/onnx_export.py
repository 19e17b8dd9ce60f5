"""A student, or any model, as a folder that ONNX Runtime computes without torch: in float32, or in 8 bits."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from raydistill.card import export_card
from raydistill.config import DistillConfig
from raydistill.config.task import EXCLUSIVE
from raydistill.errors import ConfigError, Fault
from raydistill.evaluation.measures import agree
from raydistill.figures import Asked, Figures, figures_of
from raydistill.models.backends import (
    ExportError,
    OnnxFile,
    largest_difference,
    write_onnx,
)
from raydistill.models.describe import quiet_transformers
from raydistill.models.exported import (
    ExportForm,
    ExportRecord,
    is_exported,
    onnx_file,
    write_export,
)
from raydistill.prepare.sources import package_faults
from raydistill.signals import Ask, Request
from raydistill.subjects import Rows, Subject, find_model, fitted, open_subject, rows_of
from raydistill.teachers.teacher import LocalTeacher
from raydistill.ui import Ui

__all__ = ["TOLERANCE", "Exported", "export_model", "output_faults"]

TOLERANCE = 1e-4
"""How far logits may be from torch's, relative to the largest one, or to 1."""


@dataclass(frozen=True)
class Exported:
    """What an export left.

    Attributes:
        folder: Of the export.
        record: What it says about itself.
        figures: Of the model in torch, in ONNX, and in 8 bits if that was wanted.
    """

    folder: Path
    record: ExportRecord
    figures: tuple[Figures, ...]


def output_faults(folder: Path) -> list[Fault]:
    """Whether an export may be written here: a new or empty folder, or one that holds an export."""
    if not folder.exists() or is_exported(str(folder)):
        return []
    if not folder.is_dir():
        return [Fault("--output", f"must be a folder, but {folder} is a file.")]
    if any(folder.iterdir()):
        message = f"must be empty or new, but {folder} holds files that are not an export's."
        return [Fault("--output", message)]
    return []


def export_model(
    config: DistillConfig,
    model: str,
    form: ExportForm,
    output: Path,
    *,
    split: str,
    path: str,
    latency: bool,
    ui: Ui,
) -> Exported:
    """Export, compare with torch, and measure each form.

    Args:
        config: Whose data, task and cut of long texts are used.
        model: Folder, Hugging Face id, or registry URI.
        form: ``onnx`` or ``int8``.
        output: Written whole or not at all; an older export there is replaced.
        split: That all forms are measured on.
        path: What the user would change if the model is wrong.
        latency: Whether forms are timed.
        ui: Where progress goes.

    Raises:
        ConfigError: Packages, rows or model are not there, or the model cannot be exported.
    """
    if faults := [*package_faults("--to", form), *output_faults(output)]:
        raise ConfigError(faults)
    rows = rows_of(config, split)
    subject = find_model(rows, model, path)
    if is_exported(subject.source.location):
        raise ConfigError.of(
            path, f"is an export already: {model}. Name the model it was made from."
        )
    if subject.scorer is not None:
        raise ConfigError.of(
            path,
            f"embeds texts, which is not exported here: {model}. sentence-transformers does it: "
            "SentenceTransformer(folder, backend='onnx').",
        )
    rows = fitted(rows, [subject])
    # Exports run on CPUs, and so does what they are compared with.
    subject = replace(subject, settings=replace(subject.settings, use_gpu=False))
    loaded = open_subject(subject)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as home:
        plain, small = Path(home) / "onnx", Path(home) / "int8"
        with ui.doing(f"exporting {model}"):
            record = _write_plain(subject, loaded, rows, plain, path)
        if form == "int8":
            with ui.doing("quantising"):
                record = _write_small(loaded, rows, plain, small, record=record, path=path)
        chosen = plain if form == "onnx" else small
        asked = [_measured(subject, loaded, rows, "torch", latency=latency, ui=ui)]
        for name, folder in [("onnx", plain), ("int8", small)][: 1 if form == "onnx" else 2]:
            own = find_model(rows, str(folder), path)
            asked.append(_measured(own, open_subject(own), rows, name, latency=latency, ui=ui))
        for one in asked[1:]:
            one.figures.agreement = {"torch": _agreement(rows, one, asked[0])}
        figures = tuple(one.figures for one in asked)
        assert loaded.parts is not None, "torch computes it"
        export_card(chosen, record, rows, figures, loaded.parts[1])
        if output.exists():
            shutil.rmtree(output)
        chosen.replace(output)
    return Exported(output, record, figures)


def _write_plain(
    subject: Subject, loaded: LocalTeacher, rows: Rows, folder: Path, path: str
) -> ExportRecord:
    """In float32, with what is needed to use it."""
    assert loaded.parts is not None, "torch computes it"
    module, tokenizer = loaded.parts
    folder.mkdir()
    ask = Ask(logits=rows.task().head)
    examples = _examples(loaded, rows)
    with _refused(path, subject, module):
        write_onnx(module, examples[0], ask, onnx_file(folder))
        exported = OnnxFile(onnx_file(folder), subject.settings.num_threads)
        worst = largest_difference(exported, module, examples, ask, tolerance=TOLERANCE)
    with quiet_transformers():
        module.config.save_pretrained(folder)
        tokenizer.model_max_length = subject.settings.max_tokens
        tokenizer.save_pretrained(folder)
    said = loaded.facts
    record = ExportRecord(
        form="onnx",
        source=_shown(subject),
        fingerprint=said.fingerprint,
        num_parameters=said.num_parameters,
        difference=worst,
        tolerance=TOLERANCE,
    )
    write_export(folder, record)
    return record


def _write_small(
    loaded: LocalTeacher, rows: Rows, plain: Path, folder: Path, *, record: ExportRecord, path: str
) -> ExportRecord:
    """Weights in 8 bits, one scale a column; what goes into a product is scaled when it is computed."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    assert loaded.parts is not None, "torch computes it"
    module = loaded.parts[0]
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns("*.onnx*"))
    large = sum(file.stat().st_size for file in plain.glob("*.onnx*")) > 1 << 31
    ask, before = Ask(logits=rows.task().head), logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
    try:
        with _refused(path, None, module):
            quantize_dynamic(
                onnx_file(plain),
                onnx_file(folder),
                per_channel=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=large,
            )
            exported = OnnxFile(onnx_file(folder), loaded.settings.num_threads)
            worst = largest_difference(
                exported, module, _examples(loaded, rows), ask, tolerance=float("inf")
            )
    finally:
        logging.disable(before)
    record = replace(record, form="int8", difference=worst, tolerance=None)
    write_export(folder, record)
    return record


@contextmanager
def _refused(path: str, subject: Subject | None, module: Any) -> Iterator[None]:
    """What either library cannot do, said of the model by its name."""
    try:
        yield
    except (ExportError, RuntimeError, ValueError, NotImplementedError) as error:
        what = "quantised" if subject is None else "exported to ONNX"
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = lines[0].rstrip(". ")
        raise ConfigError.of(
            path, f"is a {type(module).__name__}, which cannot be {what}: {reason}."
        ) from error


def _examples(loaded: LocalTeacher, rows: Rows) -> list[dict[str, Tensor]]:
    """Rows of the split in several shapes: the longest beside the shortest, one alone, several."""
    task = rows.task()
    order = task.lengths().argsort(kind="stable").tolist()
    chosen = (
        [order[-1], order[0], order[len(order) // 2]],
        [order[0]],
        [order[-1]],
        order[:: max(1, len(order) // 7)][:8],
    )
    found = []
    for places in chosen:
        ids, texts = task.texts(places)
        found.append(loaded.reader.inputs_of(Request(ids, texts, Ask(logits=task.head))))
    return found


def _measured(
    subject: Subject, model: LocalTeacher, rows: Rows, name: str, *, latency: bool, ui: Ui
) -> Asked:
    with ui.doing(f"measuring {name} on {rows.split.table.num_rows:,} rows"):
        found = figures_of(subject, model, rows, latency=latency)
    found.figures.name = name
    return found


def _agreement(rows: Rows, one: Asked, torch: Asked) -> dict[str, float]:
    places = list(range(len(rows.labels)))
    if rows.kind not in EXCLUSIVE:
        places = torch.subject.known
    task = rows.task()
    return agree(
        rows.kind,
        one.logits[:, places],
        torch.logits[:, places],
        queries=task.queries(),
        questions=task.questions(),
    )


def _shown(subject: Subject) -> str:
    """Of a folder its last two names: where it lies is nobody else's business."""
    folder = Path(subject.source.location)
    if subject.name.startswith("models:/") or not folder.is_dir():
        return subject.name
    return "/".join(folder.parts[-2:])
