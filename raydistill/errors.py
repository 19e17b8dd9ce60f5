"""Everything that raydistill raises on purpose.

::

    RaydistillError
    ├── ConfigError            the user's input is wrong: every fault at once, exit code 2 (also a ValueError)
    ├── SignalError            an answer of a teacher does not fit what was asked
    ├── TeacherError           a teacher failed; facts: teacher, cause, setting
    │   ├── TeacherTimeoutError    no answer within its deadline
    │   └── TeacherLostError       all replicas died, restarts included
    ├── NotFiniteError         NaN or infinity in a teacher's answer or in the loss
    ├── CheckpointError        a checkpoint is torn or belongs to another run
    ├── TrackingError          the tracking server refused or cannot be reached
    └── TrainingError          the workers failed for a reason of their own

Every exception passes its facts, not a finished sentence, to ``super().__init__`` and builds the sentence
in ``__str__``: then it survives pickling from an actor to the driver with its type and attributes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = [
    "CheckpointError",
    "ConfigError",
    "Fault",
    "NotFiniteError",
    "RaydistillError",
    "SignalError",
    "TeacherError",
    "TeacherLostError",
    "TeacherTimeoutError",
    "TrackingError",
    "TrainingError",
]

_MAX_ROWS_NAMED = 5


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong with what the user wrote.

    Attributes:
        path: Where, as written in the configuration (``losses.1.temperature``) or as a file's path.
        message: The rule, what was got, and the way out; continues the sentence that ``path`` begins.
        rests_on: Settings that the complaint follows from; empty: the one at ``path``.
        doubts: Settings whose value is unknown because of this fault: a complaint that rests on one
            of them may be a mere echo of it, see :func:`raydistill.config.faults.without_echoes`.
    """

    path: str
    message: str
    rests_on: tuple[str, ...] = field(default=(), compare=False)
    doubts: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        """The one line that the user sees."""
        return f"{self.path} {self.message}" if self.path else self.message


class RaydistillError(Exception):
    """Base of everything raised on purpose."""


class ConfigError(RaydistillError, ValueError):
    """What the user wrote cannot work. Carries every fault that could be found.

    Attributes:
        faults: In the order of the configuration; at least one.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)

    @classmethod
    def of(cls, path: str, message: str) -> "ConfigError":
        """A configuration error with a single fault."""
        return cls([Fault(path, message)])


class SignalError(RaydistillError):
    """A teacher's answer, or a pair of tensors, does not fit."""


class TeacherError(RaydistillError):
    """A teacher failed while answering.

    Attributes:
        teacher: Its name in the configuration.
        cause: What happened, as a clause without a full stop.
        remedy: The setting to change or the thing to look at, as a sentence.
    """

    def __init__(self, teacher: str, cause: str, remedy: str = "") -> None:
        self.teacher, self.cause, self.remedy = teacher, cause, remedy
        super().__init__(teacher, cause, remedy)

    def __str__(self) -> str:
        return f"teachers.{self.teacher}: {self.cause}. {self.remedy}".rstrip()


class TeacherTimeoutError(TeacherError):
    """No replica answered within its deadline, retries included."""


class TeacherLostError(TeacherError):
    """Replicas died more often than the configuration allows."""


class NotFiniteError(RaydistillError):
    """NaN or infinity where a number must be.

    Attributes:
        subject: What holds it, by name (``teachers.wide logits``, ``loss term forward_kl``).
        rows: Ids of the rows it came from.
        remedy: What may help, as a sentence.
    """

    def __init__(self, subject: str, rows: Sequence[int], remedy: str = "") -> None:
        self.subject, self.rows, self.remedy = subject, tuple(int(row) for row in rows), remedy
        super().__init__(subject, self.rows, remedy)

    def __str__(self) -> str:
        named = ", ".join(str(row) for row in self.rows[:_MAX_ROWS_NAMED])
        more = len(self.rows) - _MAX_ROWS_NAMED
        rows = f"row{'s' if len(self.rows) > 1 else ''} {named}" + (
            f" and {more} more" if more > 0 else ""
        )
        return f"{self.subject} is not finite for {rows}. {self.remedy}".rstrip()


class CheckpointError(RaydistillError):
    """A checkpoint is torn, or belongs to another run."""


class TrackingError(RaydistillError):
    """The tracking server or the registry refused, or cannot be reached."""


class TrainingError(RaydistillError):
    """The training workers failed for a reason that is not one of the above."""
