"""epochs: the teacherless student's speed that is left in epochs after the first.

Three teachers answered logits and two hidden layers each (32 x 64 tokens x 384, float16) in the
first epoch; from then on their answers come from the store on local disk and no teacher runs. Alone
and accompanied stretches alternate in one process; in each the store is opened anew, as by a new run.
"""

import tempfile
from pathlib import Path

import torch

from benches.common import line, median, say
from benches.overlap import LABELS, ROWS, TOKENS, WIDTH, Case, rows_of_words, word_tokenizer
from raydistill.signals import Request
from raydistill.store import Codecs, Place, Shelf, ShelfStore
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
        found = []
        for hidden in (False, True):
            case = Case(
                "warm", source, task, {f"t{i}": None for i in range(TEACHERS)}, hidden=hidden
            )
            stores = {
                name: _filled(Path(scratch) / f"{name}-{hidden}", name, case, i)
                for i, name in enumerate(case.teachers)
            }
            speeds, by_itself, ratios = [], [], []
            for turn in range(repeats):
                before = alone.seconds_per_step(steps)
                case.sources = {
                    name: StoreSource(name, _open(folder, name, case), Memory(0), None)
                    for name, folder in stores.items()
                }
                warm = case.seconds_per_step(steps)
                after = alone.seconds_per_step(steps)
                by_itself.append(2 * ROWS / (before + after))
                speeds.append(ROWS / warm)
                ratios.append(speeds[-1] / by_itself[-1])
                say(
                    f"{turn + 1}/{repeats} {'hidden' if hidden else 'logits'}: {ratios[-1]:.3f} (waiting {case.wait_fraction:.1%})"
                )
            what = "logits and 2 hidden layers" if hidden else "logits"
            found.append(
                line(
                    "epochs",
                    f"{TEACHERS} teachers, {what}, epoch 2 from local disk",
                    median(speeds),
                    "rows/s",
                    "the same student without teachers",
                    median(by_itself),
                    median(ratios),
                )
            )
        return found  # fmt: skip


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
