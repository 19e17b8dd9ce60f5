"""The teachers of all trials: started once, and what they answered is in one store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from raydistill.cache import fill_answers, only_teachers
from raydistill.prepare import Resources
from raydistill.runtime import cluster_resources, object_store_bytes
from raydistill.serve import Served, serve_teachers
from raydistill.tuning.check import Checked
from raydistill.ui import Ui

__all__ = ["SharedTeachers", "share_teachers"]


@dataclass(frozen=True)
class SharedTeachers:
    """What trials are given, and what was computed for it.

    Attributes:
        handles: By teacher, without what only this process can use.
        filled: Rows computed before the first trial.
        serving: Those that stay.
    """

    handles: Mapping[str, Served]
    filled: Mapping[str, int]
    serving: Mapping[str, Served] = field(default_factory=dict)

    def computed(self) -> dict[str, int]:
        """Rows computed so far, in this sitting."""
        found = dict(self.filled)
        for name, served in self.serving.items():
            found[name] = found.get(name, 0) + int(served.stats().get("rows_computed", 0))
        return found


@contextmanager
def share_teachers(checked: Checked, ui: Ui) -> Iterator[SharedTeachers]:
    """The teachers, as long as trials need them.

    Those that answer beforehand are stopped before the first trial starts: then all their answers are
    in the store, and their CPUs and GPUs are the students'.
    """
    union = checked.union
    filled: dict[str, int] = {}
    if checked.filled and union.config.teachers:
        with ui.doing("teachers answer all rows"):
            filled = fill_answers(replace(union, config=only_teachers(union.config)), ui)
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
        yield SharedTeachers(handles, filled, {} if checked.filled else teachers)
