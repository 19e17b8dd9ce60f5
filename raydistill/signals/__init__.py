"""What is asked of a teacher, and what it answers."""

from raydistill.signals.ask import Ask, AttentionAsk, Cell, HiddenAsk, Request
from raydistill.signals.signal import TeacherSignal, pack_signal

__all__ = ["Ask", "AttentionAsk", "Cell", "HiddenAsk", "Request", "TeacherSignal", "pack_signal"]
