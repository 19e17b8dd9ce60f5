"""epochs: the teacherless student's speed that is left in epochs after the first.

Three teachers answered logits and two hidden layers each (32 x 64 tokens x 384, float16) in the
first epoch; from then on their answers come from the store on local disk and no teacher runs. Alone
and accompanied stretches alternate in one process; in each the store is opened anew, as by a new run.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benches.common import Alternating, line, median, say, spread
from benches.overlap import LABELS, ROWS, TOKENS, WIDTH, Case, rows_of_words, word_tokenizer
from raydistill.models import ModelSource
from raydistill.signals import Request
from raydistill.store import Codecs, Place, Shelf, ShelfStore
from raydistill.tasks import TextClassification
from raydistill.teachers.simulated import SimulatedSettings, SimulatedTeacher
from raydistill.teachers.sources import Memory, StoreSource
from raydistill.teachers.stored import StoredTeacher

TEACHERS = 3


def epochs(repeats: int, steps: int) -> list[dict]:
    """Logits alone, and with hidden layers."""
    with tempfile.TemporaryDirectory() as scratch:
        source = word_tokenizer(Path(scratch))
        task = rows_of_words(ROWS * (steps + 2))
        alone = Case("alone", source, task, {}, hidden=False)
        alone.seconds_per_step(steps)
        cases = {
            f"{TEACHERS} teachers, {what}, epoch 2 from local disk": _warm(
                Path(scratch), source, task, hidden, steps
            )
            for what, hidden in (("logits", False), ("logits and 2 hidden layers", True))
        }
        found = Alternating(lambda: alone.seconds_per_step(steps, warm=1), cases)
        for turn in range(repeats):
            found.turn()
            for name in cases:
                say(f"{turn + 1}/{repeats} {name}: {found.ratios[name][-1]:.3f}")
        return [
            line(
                "epochs", name, ROWS / median(found.seconds[name]), "rows/s",
                "the same student without teachers", ROWS / median(found.rival_s[name]),
                median(found.ratios[name]), middle_half=spread(found.ratios[name]),
            )
            for name in cases
        ]  # fmt: skip


def _warm(
    folder: Path, source: ModelSource, task: TextClassification, hidden: bool, steps: int
) -> Callable[[], float]:
    """A case whose store is filled; it is opened anew for every stretch."""
    case = Case("warm", source, task, {f"t{i}": None for i in range(TEACHERS)}, hidden=hidden)
    stores = {
        name: _filled(folder / f"{name}-{hidden}", name, case, i)
        for i, name in enumerate(case.teachers)
    }

    def stretch() -> float:
        case.sources = {
            name: StoreSource(name, _open(folder, name, case), Memory(0), None)
            for name, folder in stores.items()
        }
        return case.seconds_per_step(steps)

    return stretch


def _open(folder: Path, name: str, case: Case) -> ShelfStore:
    dtype = case.plan.asks[name].dtype
    shelf = Shelf(name, "float32", TOKENS, False, dtype, Codecs().label, "cpu", "", "")
    return ShelfStore(Place(str(folder)), shelf, Codecs(), teacher=name)


def _filled(folder: Path, name: str, case: Case, seed: int) -> Path:
    """The first epoch's answers."""
    store = _open(folder, name, case)
    settings = SimulatedSettings(name, 0.0, LABELS, WIDTH, TOKENS, seed=seed)
    teacher = StoredTeacher(SimulatedTeacher(settings), store)
    for begin in range(0, case.task.num_rows, ROWS):
        ids, texts = case.task.texts(range(begin, min(begin + ROWS, case.task.num_rows)))
        teacher.answer(Request(ids, texts, case.plan.asks[name]))
    store.publish()
    torch.manual_seed(0)
    return folder
