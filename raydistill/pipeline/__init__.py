"""How a worker gets what it needs before it needs it."""

from raydistill.pipeline.ahead import copied_ahead
from raydistill.pipeline.feed import Fed, Feed
from raydistill.pipeline.fresh import FreshRows
from raydistill.pipeline.grouped import Drawing, plan_groups
from raydistill.pipeline.plan import (
    MicroBatch,
    StepRows,
    by_turns,
    plan_micro_batches,
    table_steps,
)
from raydistill.pipeline.streamed import StreamedRows
from raydistill.pipeline.window import Window

__all__ = [
    "Drawing",
    "Fed",
    "Feed",
    "FreshRows",
    "MicroBatch",
    "StepRows",
    "StreamedRows",
    "Window",
    "by_turns",
    "copied_ahead",
    "plan_groups",
    "plan_micro_batches",
    "table_steps",
]
