"""Where a worker gets one teacher's answers from, whatever is behind it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from raydistill.signals import Request, TeacherSignal
from raydistill.teachers.protocol import TeacherDescription

__all__ = ["Asked", "Source"]


class Source(Protocol):
    """Ask ahead, collect in order; the rest only concerns those who override it."""

    def ask(self, request: Request) -> Any:
        """Announce rows; returns at once."""
        ...

    def collect(self, pending: Any) -> TeacherSignal:
        """The answer to what was announced."""
        ...

    def bring_here(self) -> None:
        """Let what is ready elsewhere travel; never waits."""
        return

    def set_replicas(self, handles: Sequence[Any]) -> None:  # noqa: ARG002 - of those who override it
        """Ask these from now on."""
        return

    def describe(self) -> TeacherDescription | None:
        """Of a teacher in this process; None: it is elsewhere."""
        return None

    def stats(self) -> Mapping[str, float]:
        """What was computed in this process."""
        return {}

    def close(self) -> None:
        """Let others find what was computed in this process."""
        return


class Asked:
    """A source as a teacher that answers at once.

    Args:
        source: Of a teacher in this process.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def describe(self) -> TeacherDescription:
        """Its own description."""
        found = self.source.describe()
        assert found is not None, "the teacher is in this process"
        return found

    def answer(self, request: Request) -> TeacherSignal:
        """Ask and wait."""
        return self.source.collect(self.source.ask(request))
