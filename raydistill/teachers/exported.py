"""A frozen model that an export left in a folder, computed by ONNX Runtime on CPUs. No Ray here."""

from dataclasses import replace
from pathlib import Path

import torch

from raydistill.models.backends import OnnxFile
from raydistill.models.describe import quiet_transformers, traits_of_config
from raydistill.models.exported import is_exported, onnx_file, read_export
from raydistill.teachers.protocol import TeacherDescription, TeacherSettings
from raydistill.teachers.rows import RowReader
from raydistill.teachers.shapes import rows_on_cpu
from raydistill.teachers.teacher import LocalTeacher

__all__ = ["ExportedTeacher", "open_frozen"]


class ExportedTeacher(LocalTeacher):
    """As the model itself; only logits can be asked for.

    With weights of 8 bits a row's logits depend a little on the rows beside it: inputs of a product are
    scaled together.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        from raydistill.models.auto import AutoConfig

        self.settings = settings = replace(settings, use_gpu=False, dtype="float32")
        folder = Path(settings.source.location)
        self._device = torch.device("cpu")
        self.reader = RowReader(settings)
        with quiet_transformers():
            self._config = AutoConfig.from_pretrained(folder, **settings.source.options)
        self._fixed_passes = False
        self._batch_rows = rows_on_cpu(settings.batch_rows, settings.max_tokens)
        record = read_export(settings.name, folder)
        self._description = TeacherDescription(
            traits=traits_of_config(self._config, self.reader.tokenizer),
            fingerprint=record.fingerprint,
            num_parameters=record.num_parameters,
            num_bytes=sum(file.stat().st_size for file in folder.glob("*.onnx*")),
            device="cpu",
            steady=False,
        )
        self._backend = OnnxFile(onnx_file(folder), settings.num_threads)

    def describe(self) -> TeacherDescription:
        """Shape, labels, and the fingerprint of the model that was exported; nobody looks for equal bits."""
        return self.facts


def open_frozen(settings: TeacherSettings) -> LocalTeacher:
    """A model in this process, whether it is one of transformers or an export of one."""
    if is_exported(settings.source.location):
        return ExportedTeacher(settings)
    return LocalTeacher(settings)
