"""From a checkpoint to a folder that anybody's transformers loads."""

import shutil
from pathlib import Path

from raydistill.models.describe import quiet_transformers
from raydistill.objective import Objective
from raydistill.prepare import Prepared
from raydistill.training.checkpoint import load_module
from raydistill.training.step import StudentModule
from raydistill.training.student import make_student, make_tokenizer

__all__ = ["export_student"]


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
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with quiet_transformers():
        student.eval().save_pretrained(part)  # type: ignore[operator]
        tokenizer.model_max_length = prepared.student.max_tokens
        tokenizer.save_pretrained(part)
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)
    return sum(parameter.numel() for parameter in student.parameters())
