"""From a checkpoint to a folder that anybody's transformers loads."""

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from raydistill.models import TextEmbedder
from raydistill.models.describe import quiet_transformers
from raydistill.models.embedding_files import write_embedder
from raydistill.objective import Objective
from raydistill.prepare import Prepared, PreparedTasks
from raydistill.training.checkpoint import load_module
from raydistill.training.several import make_tasks
from raydistill.training.step import StudentModule
from raydistill.training.student import make_student, make_tokenizer

__all__ = ["export_student", "export_tasks"]


def export_student(prepared: Prepared, checkpoint: Path, out: Path) -> int:
    """Write the best student: weights as safetensors, configuration with label names, tokenizer.

    Projections stay behind; they are part of the training, not of the student.

    Returns:
        Its number of parameters.
    """
    tokenizer = make_tokenizer(prepared.student)
    student = make_student(prepared.student, tokenizer)
    best = checkpoint / "best.safetensors"
    if best.exists():
        load_module(student, best)
    else:
        module = StudentModule(student, Objective(prepared.objective))
        load_module(module, checkpoint / "module.safetensors")
    return _write(student, tokenizer, prepared.student.max_tokens, out)


def export_tasks(prepared: PreparedTasks, checkpoint: Path, out: Path) -> dict[str, int]:
    """As :func:`export_student` for each task, into a folder of its name; the encoder is in all.

    Returns:
        Number of parameters of each task's student.
    """
    tokenizer = make_tokenizer(prepared.student)
    plans = {name: (one.student, one.objective) for name, one in prepared.tasks.items()}
    tasks = make_tasks(plans, dict.fromkeys(plans, 1.0), tokenizer, owner=prepared.owner)
    best = checkpoint / "best.safetensors"
    if best.exists():
        load_module(tasks.students, best)
    else:
        load_module(tasks, checkpoint / "module.safetensors")
    out.mkdir(parents=True, exist_ok=True)
    most = prepared.student.max_tokens
    return {name: _write(tasks.part(name).student, tokenizer, most, out / name) for name in plans}


def _write(student: nn.Module, tokenizer: Any, max_tokens: int, out: Path) -> int:
    """A folder that is there whole or not at all; the number of parameters."""
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with quiet_transformers():
        student.eval().save_pretrained(part)  # type: ignore[operator]
        tokenizer.model_max_length = max_tokens
        tokenizer.save_pretrained(part)
    if isinstance(student, TextEmbedder):
        width = int(student.config.hidden_size)
        write_embedder(part, student.spec, width=width, max_tokens=max_tokens)
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)
    return sum(parameter.numel() for parameter in student.parameters())
