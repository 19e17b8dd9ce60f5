"""A teacher that only sleeps: a stand-in for one on a GPU elsewhere, for benchmarks and tests."""

import time
from dataclasses import dataclass

import torch

from raydistill.models import ModelTraits
from raydistill.signals import Request, TeacherSignal, pack_signal
from raydistill.teachers.protocol import TeacherDescription

__all__ = ["SimulatedSettings", "SimulatedTeacher"]


@dataclass(frozen=True)
class SimulatedSettings:
    """What it pretends to be.

    Attributes:
        name: Of the teacher.
        latency_s: Seconds an answer takes, whatever is asked.
        labels: Its classes.
        width: Of its hidden states.
        row_tokens: Tokens of every row.
        seed: Of its answers.
    """

    name: str
    latency_s: float
    labels: tuple[str, ...]
    width: int
    row_tokens: int
    seed: int = 0


class SimulatedTeacher:
    """Answers random numbers of the right shapes after a while, the same for every request."""

    def __init__(self, settings: SimulatedSettings) -> None:
        self.settings = settings
        self._ready: dict[tuple[object, int], TeacherSignal] = {}

    def describe(self) -> TeacherDescription:
        """Shape, labels, fingerprint."""
        s = self.settings
        traits = ModelTraits(1, s.width, 1, s.labels, None, "simulated")
        return TeacherDescription(traits, f"simulated-{s.seed}", 0, 0, "none", steady=True)

    def answer(self, request: Request) -> TeacherSignal:
        """The prepared parts, under the ids of this request."""
        begin = time.perf_counter()
        signal = self._signal(request)
        time.sleep(max(0.0, self.settings.latency_s - (time.perf_counter() - begin)))
        return signal

    def _signal(self, request: Request) -> TeacherSignal:
        s, rows = self.settings, request.num_rows
        key = (request.ask, rows)
        if key not in self._ready:
            draw = torch.Generator().manual_seed(s.seed)
            parts = {"logits": torch.randn(rows, len(s.labels), generator=draw)}
            for ask in request.ask.hidden:
                shapes = {"all": (rows * s.row_tokens, s.width), "gram": (rows * s.row_tokens**2,)}
                shape = shapes.get(ask.pooling, (rows, s.width))
                parts[ask.key] = torch.randn(shape, generator=draw)
            lengths = [s.row_tokens] * rows
            self._ready[key] = pack_signal(
                s.name, request.row_ids, lengths, parts, request.ask.dtype
            )
        ready = self._ready[key]
        return TeacherSignal(
            ready.teacher, request.row_ids, ready.lengths, ready.dtype, ready.parts, ready.buffer
        )
