"""Everything around the losses: TextBrewer's ``TrainingConfig``, and marked places for what it does not hold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raydistill.importing.parts import Part, shown

__all__ = ["TRAINING_KEYS", "Surroundings"]

TRAINING_KEYS = (
    "gradient_accumulation_steps",
    "ckpt_frequency",
    "ckpt_epoch_frequency",
    "ckpt_steps",
    "log_dir",
    "output_dir",
    "device",
    "fp16",
    "fp16_opt_level",
    "data_parallel",
    "local_rank",
)
_ROWS = 32  # of a forward pass, to be filled in
_LEVELS = ("O0", "O1", "O2", "O3")


@dataclass
class Surroundings:
    """Sections but ``losses``, being filled.

    Attributes:
        teachers: Their names; none if no term needs one.
        by_row: Whether a temperature is compared between the rows of a forward pass.
        run: Settings of the section.
        teacher: Of each teacher.
        training: Of the section.
        comments: By path.
        accumulated: Forward passes of an optimizer step.
    """

    teachers: Sequence[str]
    by_row: bool
    run: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    accumulated: int = 1

    def sections(self, name: str, losses: list[dict[str, Any]]) -> dict[str, Any]:
        """All sections, in order, with what is to be filled in.

        Args:
            name: Of the file.
            losses: Terms.
        """
        self.comments |= {
            "data.folder": "<- your rows: files train, validation, test (.jsonl, .csv, …)",
            "student.model": "<- a folder or a Hugging Face id",
            "student.dropout": "<- of the student in training; TextBrewer leaves the model's own, 0.1 in BERT",
            "training.epochs": "<- num_epochs of distiller.train",
            "training.learning_rate": "<- of your optimizer",
            "training.warmup_fraction": "<- as scheduler_class has it",
            "training.schedule": "<- likewise; without one the learning rate is constant there",
            "training.max_grad_norm": "<- null: no clipping, the default of distiller.train",
        }
        for teacher in self.teachers:
            self.comments[f"teachers.{teacher}.model"] = "<- a folder or a Hugging Face id"
        several = len(self.teachers) > 1
        if several:
            self.comments["ensemble.combine"] = "mean of logits, as MultiTeacherDistiller"
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name.removesuffix(".json")).strip("._-")
        one = {"model": "path/to/teacher", **self.teacher}
        return {
            "run": {"name": stem or "textbrewer", **self.run},
            "data": {"folder": "path/to/data"},
            "student": {"model": "path/to/student", "dropout": 0.1},
            **(
                {"teachers": {teacher: dict(one) for teacher in self.teachers}}
                if self.teachers
                else {}
            ),
            **({"ensemble": {"combine": "logits"}} if several else {}),
            "losses": losses,
            "training": {
                "epochs": 3,
                **self._rows(),
                "learning_rate": 1e-4,
                "warmup_fraction": 0,
                "schedule": "constant",
                "max_grad_norm": None,
                **self.training,
            },
        }

    def _rows(self) -> dict[str, int]:
        """Rows of a step, of a forward pass, and of those that are compared."""
        batch_size = "batch_size of your DataLoader"
        found = {"batch_rows": _ROWS * self.accumulated}
        if self.accumulated == 1:
            self.comments["training.batch_rows"] = f"<- {batch_size}"
        else:
            found["micro_batch_rows"] = _ROWS
            self.comments["training.micro_batch_rows"] = f"<- {batch_size}"
            self.comments["training.batch_rows"] = f"<- {self.accumulated} times that {batch_size}"
        if self.by_row:
            found["group_rows"] = _ROWS
            self.comments["training.group_rows"] = f"<- {batch_size}"
        return found

    def take(self, part: Part) -> None:
        """Take over a ``TrainingConfig``, with its defaults for what it does not say."""
        part.refuse_unknown(TRAINING_KEYS)
        self.accumulated = part.whole("gradient_accumulation_steps", 1)
        if "output_dir" in part.values:
            self.run["output_dir"] = part.word("output_dir", "outputs")
            part.remark(
                "output_dir",
                "holds the student as a Hugging Face folder, checkpoints and a report, not gs*.pkl files.",
            )
        if part.values.get("log_dir") is not None:
            part.word("log_dir", "")
            part.remark(
                "log_dir", "has no equivalent: curves go to MLflow (tracking), not to TensorBoard."
            )
        self._take_checkpoints(part)
        self._take_device(part)
        self._take_precision(part)

    def _take_checkpoints(self, part: Part) -> None:
        a_time, every = part.whole("ckpt_frequency", 1), part.whole("ckpt_epoch_frequency", 1)
        if part.values.get("ckpt_steps") is not None:
            self.training["evaluate_every_steps"] = part.whole("ckpt_steps", 1)
            part.remark(
                "ckpt_steps",
                "goes with num_steps of distiller.train: write that as training.max_steps, with epochs enough to reach it.",
            )
            return
        if a_time > 1:
            part.remark(
                "ckpt_frequency",
                f"has no equivalent in epochs: for {a_time} checkpoints an epoch set training.evaluate_every_steps to an epoch's steps / {a_time}.",
            )
        if every > 1:
            part.remark(
                "ckpt_epoch_frequency",
                f"has no equivalent in epochs: a checkpoint is written after each; for every {every} epochs set training.evaluate_every_steps to their steps.",
            )

    def _take_device(self, part: Part) -> None:
        device = part.word("device", "cuda")
        kind, _, number = device.partition(":")
        if kind == "cuda":
            self.training["gpus_per_worker"] = 1
            if self.teachers:
                self.teacher["placement"] = "inline"
                self.comments[f"teachers.{self.teachers[0]}.placement"] = (
                    "on the worker's GPU, as there; with GPUs to spare: num_gpus: 1 instead"
                )
            if number not in ("", "0"):
                part.remark("device", f"{device} becomes any GPU: Ray chooses which.")
        elif kind != "cpu":
            part.remark(
                "device",
                f"{shown(device)} has no equivalent: workers train on CPUs, or on GPUs of CUDA (training.gpus_per_worker).",
            )
        processes = part.whole("local_rank", -1, least=-1) >= 0
        if part.flag("data_parallel") or processes:
            key, rows = (
                ("local_rank", " and training.batch_rows to the rows of all processes together")
                if processes
                else ("data_parallel", "")
            )
            part.remark(
                key, f"does not say how many GPUs: set training.num_workers to their number{rows}."
            )

    def _take_precision(self, part: Part) -> None:
        level = part.word("fp16_opt_level", "O1")
        if level not in _LEVELS:
            part.fault(
                "fp16_opt_level", f"must be one of {', '.join(_LEVELS)}, got {shown(level)}."
            )
        if not part.flag("fp16"):
            return
        if level == "O0":
            part.remark("fp16", "with fp16_opt_level O0 is float32, as here by default.")
            return
        self.training["precision"] = "bfloat16"
        own = (
            "weights stay in float32"
            if level == "O1"
            else f"weights stay in float32, unlike {level}"
        )
        part.remark("fp16", f"becomes precision: bfloat16, which needs no loss scaling; {own}.")
