"""The journal: what is on disk before MLflow hears of it."""

import json
import threading
import time
from pathlib import Path

import pytest

from raydistill.tracking.courier import Courier
from raydistill.tracking.journal import Entry, Journal, merge_metrics, pending_journals
from raydistill.tracking.lock import FileLock


def _metrics(*names: str) -> dict[str, object]:
    return {"op": "metrics", "points": [[name, 1.0, 0, 0] for name in names]}


def test_journal_reads_back_in_order_from_its_position(tmp_path: Path) -> None:
    """A record that is sent twice or skipped makes the curves wrong."""
    journal = Journal(tmp_path)
    for number in range(3):
        journal.append({"op": "tags", "items": {"n": str(number)}})
    first = next(journal.entries())
    journal.move(offset_bytes=first.end_bytes, run_id="r")
    again = Journal(tmp_path)
    assert [entry.record["items"]["n"] for entry in again.entries()] == ["1", "2"]
    assert again.position.run_id == "r"
    assert again.count_pending() == 2


def test_journal_tolerates_a_torn_last_line(tmp_path: Path) -> None:
    """A crash while writing must not cost the records before, nor glue the next one to the ruin."""
    journal = Journal(tmp_path)
    journal.append({"op": "tags", "items": {}})
    with journal.path.open("a") as file:
        file.write('{"op":"par')
    assert Journal(tmp_path).count_pending() == 1
    Journal(tmp_path).append({"op": "finish"})
    assert [entry.record["op"] for entry in Journal(tmp_path).entries()] == ["tags", "finish"]


def test_journal_names_a_line_that_is_not_json(tmp_path: Path) -> None:
    """A damaged line in the middle must not block those after it."""
    journal = Journal(tmp_path)
    journal.append({"op": "tags", "items": {}})
    with journal.path.open("a") as file:
        file.write("###\n")
    journal.append({"op": "finish"})
    assert [e.record["op"] for e in journal.entries()] == ["tags", "unreadable", "finish"]


def test_position_survives_damage(tmp_path: Path) -> None:
    """An unreadable position means sending again, not giving up."""
    journal = Journal(tmp_path)
    journal.move(offset_bytes=5)
    (journal.home / "position.json").write_text("{")
    assert Journal(tmp_path).position.offset_bytes == 0


def test_pending_journals_finds_itself_and_children_only(tmp_path: Path) -> None:
    """Somebody who syncs a folder of runs expects all of them."""
    for name in ("one", "two", "done"):
        Journal(tmp_path / name).append({"op": "tags", "items": {}})
    done = Journal(tmp_path / "done")
    done.move(offset_bytes=done.path.stat().st_size)
    (tmp_path / "unrelated").mkdir()
    assert pending_journals(tmp_path) == [tmp_path / "one", tmp_path / "two"]
    assert pending_journals(tmp_path / "one") == [tmp_path / "one"]
    assert pending_journals(tmp_path / "missing") == []


def test_refer_copies_what_lies_outside_the_folder(tmp_path: Path) -> None:
    """A temporary file is gone when a server answers tomorrow."""
    outside = tmp_path / "elsewhere.txt"
    outside.write_text("hello")
    journal = Journal(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.html").write_text("x")
    assert journal.refer(tmp_path / "run" / "report.html") == "report.html"
    copy = journal.refer(outside)
    outside.unlink()
    assert (tmp_path / "run" / copy).read_text() == "hello"
    with pytest.raises(FileNotFoundError):
        journal.refer(outside)


def test_set_aside_keeps_the_earlier_journal(tmp_path: Path) -> None:
    """Starting anew in an old folder must not throw undelivered records away."""
    journal = Journal(tmp_path)
    journal.append({"op": "tags", "items": {}})
    aside = journal.set_aside()
    assert aside is not None
    assert journal.count_pending() == 0
    assert Journal(aside.parent).count_pending() == 1


def test_merge_metrics_makes_few_calls_and_keeps_the_order() -> None:
    """A backlog of ten thousand single calls takes an hour on a slow server."""
    records = [_metrics("a"), _metrics("b", "c"), _metrics("d"), {"op": "tags"}, _metrics("e")]
    entries = [Entry(record, number) for number, record in enumerate(records)]
    merged = list(merge_metrics(entries, max_points=3))
    assert [(entry.record["op"], entry.end_bytes, entry.count) for entry in merged] == [
        ("metrics", 1, 2),
        ("metrics", 2, 1),
        ("tags", 3, 1),
        ("metrics", 4, 1),
    ]
    assert [point[0] for point in merged[0].record["points"]] == ["a", "b", "c"]


def test_position_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Half a position file would send a run a second time."""
    journal = Journal(tmp_path)
    journal.move(offset_bytes=1, registrations={"u": "models:/m/1"})
    assert json.loads((journal.home / "position.json").read_text())["offset_bytes"] == 1
    assert [path.name for path in journal.home.iterdir()] == ["position.json"]


def test_lock_is_exclusive_until_released(tmp_path: Path) -> None:
    """Two processes that deliver one journal send everything twice."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_courier_rests_after_trouble_and_says_it_once() -> None:
    """A dead server must not be tried at every step, nor complained about at every try."""
    tries: list[float] = []
    said: list[str] = []

    def attempt() -> str | None:
        tries.append(time.monotonic())
        return "away"

    courier = Courier(attempt, said.append, pause_s=60)
    for _ in range(50):
        courier.wake()
        time.sleep(0.001)
    assert not courier.flush()
    assert not courier.close()
    assert 2 <= len(tries) <= 3
    assert said == ["away"]


def test_courier_tries_again_by_itself_after_its_rest() -> None:
    """A server that comes back must get the records while the run still runs."""
    recovered = threading.Event()
    tries: list[int] = []

    def attempt() -> str | None:
        tries.append(1)
        if len(tries) == 1:
            return "away"
        recovered.set()
        return None

    courier = Courier(attempt, lambda _: None, pause_s=0.05)
    courier.wake()
    assert recovered.wait(5)
    assert courier.close()
