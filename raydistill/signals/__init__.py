"""What is asked of a teacher, and what it answers."""

from raydistill.signals.ask import SIDES, Ask, AttentionAsk, Cell, HiddenAsk, Request, Side
from raydistill.signals.signal import TeacherSignal, pack_signal

__all__ = [
    "SIDES",
    "Ask",
    "AttentionAsk",
    "Cell",
    "HiddenAsk",
    "Request",
    "Side",
    "TeacherSignal",
    "pack_signal",
]
