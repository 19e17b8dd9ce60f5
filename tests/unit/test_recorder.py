"""What workers drop for the driver."""

import subprocess
import sys
from typing import Any

import pytest

from raydistill.models import ModelTraits
from raydistill.teachers.protocol import TeacherDescription
from raydistill.training.recorder import Recorder, RecorderClient, descriptions_in


class Actor:
    """The recorder, without Ray."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.put = self

    def remote(self, event: dict[str, Any]) -> None:
        self.recorder.put(event)


def test_a_description_passes_unopened() -> None:
    """Opened on its way it would bring torch into the recorder: seconds and 140 MiB."""
    actor = Actor()
    client = RecorderClient(actor)
    said = TeacherDescription(ModelTraits(3, 6, 2, ("a",), None, ""), "f", 1, 4, "cpu", steady=True)
    client.described("wide", said)
    client.progress(3)
    events = actor.recorder.drain()
    assert {type(value) for event in events for value in event.values()} <= {str, int, bytes}
    assert descriptions_in(events) == {"wide": said}
    assert descriptions_in(events[1:]) == {}


@pytest.mark.parametrize("heavy", ["torch", "transformers"])
def test_the_recorder_is_small(heavy: str) -> None:
    """It runs beside every run, and whoever imports more here pays for it there."""
    code = f"import raydistill.training.recorder, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
