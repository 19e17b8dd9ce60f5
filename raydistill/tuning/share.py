"""The teachers of all trials: started once, and what they answered is in one store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from raydistill.cache import fill_answers, only_teachers
from raydistill.making import make_rows
from raydistill.prepare import Prepared, Resources
from raydistill.runtime import cluster_resources, object_store_bytes
from raydistill.serve import Served, serve_teachers
from raydistill.storing import missing_texts, store_line
from raydistill.tuning.check import Checked
from raydistill.tuning.records import SearchFolder
from raydistill.ui import Ui

__all__ = ["SharedTeachers", "share_teachers"]


@dataclass(frozen=True)
class SharedTeachers:
    """What trials are given, and what was computed for it.

    Attributes:
        handles: By teacher, without what only this process can use.
        serving: Those that stay.
    """

    handles: Mapping[str, Served]
    serving: Mapping[str, Served] = field(default_factory=dict)

    def computed(self) -> dict[str, int]:
        """Rows that those that stay have computed, in this sitting, as their replicas say."""
        return {n: int(one.stats().get("rows_computed", 0)) for n, one in self.serving.items()}


@contextmanager
def share_teachers(checked: Checked, folder: SearchFolder, ui: Ui) -> Iterator[SharedTeachers]:
    """The teachers, as long as trials need them.

    Those that answer beforehand are stopped before the first trial starts: then all their answers are
    in the store, and their CPUs and GPUs are the students'.
    """
    union = checked.union
    if union.config.teachers and (checked.filled or folder.spent().missing is not None):
        _fill(checked, folder, ui)
    have = cluster_resources()
    with serve_teachers(
        union,
        object_store=object_store_bytes() // checked.concurrent,
        have=Resources(have.cpus, have.gpus),
        say=lambda sentence: None if checked.filled else ui.say(sentence),
        all_rows_known=checked.known,
    ) as teachers:
        handles = {
            name: Served(served.line_now(), served.description) for name, served in teachers.items()
        }
        yield SharedTeachers(handles, {} if checked.filled else teachers)


def _fill(checked: Checked, folder: SearchFolder, ui: Ui) -> None:
    """All answers into the store, counted by what it lacks before and after: that no kill forgets."""
    filling = replace(checked.union, config=only_teachers(checked.union.config))
    make_rows(filling, ui)

    def lacking() -> dict[str, int]:
        return {name: _lacking(filling, name) for name in filling.config.teachers}

    folder.spend(folder.spent().filling(lacking()))
    if checked.filled:
        with ui.doing("teachers answer all rows"):
            fill_answers(filling, ui)
    folder.spend(folder.spent().full(lacking()))


def _lacking(filling: Prepared, name: str) -> int:
    line = store_line(filling, name, inline=False)
    assert line is not None, "a search has a store"
    return missing_texts(filling, name, line)
