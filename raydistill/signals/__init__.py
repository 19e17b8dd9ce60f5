"""What is asked of a teacher, and what it answers."""

from raydistill.signals.ask import Ask, AttentionAsk, HiddenAsk, Request
from raydistill.signals.signal import TeacherSignal, pack_signal

__all__ = ["Ask", "AttentionAsk", "HiddenAsk", "Request", "TeacherSignal", "pack_signal"]
