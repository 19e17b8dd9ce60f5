"""Where answers come from never changes them: merged, stored, remembered or asked."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raydistill.errors import NotFiniteError, TeacherError
from raydistill.models import ModelSource, ModelTraits
from raydistill.signals import Ask, Request, TeacherSignal
from raydistill.store import Place, ShelfStore, row_keys
from raydistill.teachers import merging
from raydistill.teachers.actor import TeacherActor
from raydistill.teachers.counting import CountingTeacher
from raydistill.teachers.merging import MergingTeacher
from raydistill.teachers.placement import Trial, choose_placement
from raydistill.teachers.protocol import TeacherDescription, TeacherSettings
from raydistill.teachers.sources import InlineSource, Memory, StoreSource
from raydistill.teachers.stored import Publisher, StoredTeacher, description_from
from tests.unit.test_store import ASK, answer, assert_same, open_store, texts_of


class Slow:
    """Answers as `answer` does, when it is let; remembers how many rows came at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def describe(self) -> TeacherDescription:
        return TeacherDescription(
            ModelTraits(3, 6, 2, ("a",), None, ""), "f", 1, 4, "cpu", steady=True
        )

    def answer(self, request: Request) -> TeacherSignal:
        assert self.gate.wait(30)
        self.sizes.append(request.num_rows)
        if "poison" in request.texts[0]:
            raise NotFiniteError(
                "teachers.wide: logits", (request.row_ids[request.texts[0].index("poison")],), ""
            )
        signal = answer(request.texts[0], request.ask)
        return TeacherSignal(
            "wide", request.row_ids, signal.lengths, signal.dtype, signal.parts, signal.buffer
        )


def request_of(texts: tuple[str, ...], ask: Ask = ASK, first: int = 0) -> Request:
    return Request(tuple(range(first, first + len(texts))), (texts,), ask)


def ask_all(teacher: MergingTeacher, requests: list[Request], slow: Slow) -> list[Any]:
    """Each from a thread of its own, all in line before the second is answered."""
    found: list[Any] = [None] * len(requests)

    def one(i: int) -> None:
        try:
            found[i] = teacher.answer(requests[i])
        except NotFiniteError as error:
            found[i] = error

    slow.gate.clear()
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(requests))]
    for i, thread in enumerate(threads):
        thread.start()
        deadline = 200
        while len(teacher._line) < i and deadline:  # the first is being computed
            threading.Event().wait(0.01)
            deadline -= 1
    slow.gate.set()
    for thread in threads:
        thread.join(30)
    return found


def test_waiting_requests_are_answered_together_and_apart() -> None:
    """Rows that get each other's answers train on noise."""
    slow = Slow()
    teacher = MergingTeacher(slow, window_rows=12)
    teacher.answer(request_of(texts_of(1)))  # tells how large answers are
    requests = [request_of(texts_of(4, 4 * i), first=50 * i) for i in range(6)]
    for request, signal in zip(requests, ask_all(teacher, requests, slow), strict=True):
        assert signal.row_ids == request.row_ids
        assert_same(signal, answer(request.texts[0]))
    assert slow.sizes == [1, 4, 12, 8]


def test_requests_that_ask_for_other_parts_are_not_merged() -> None:
    """One ask would be answered with the other's layers."""
    slow = Slow()
    teacher = MergingTeacher(slow, window_rows=100)
    teacher.answer(request_of(texts_of(1)))
    requests = [request_of(texts_of(3, i), ask) for i, ask in enumerate((ASK, Ask(), Ask(), ASK))]
    for request, signal in zip(requests, ask_all(teacher, requests, slow), strict=True):
        assert_same(signal, answer(request.texts[0], request.ask))
    assert slow.sizes == [1, 3, 6, 3]


def test_a_fault_in_one_request_does_not_fail_the_others() -> None:
    """The worker whose rows are sound would stop with another's error."""
    slow = Slow()
    teacher = MergingTeacher(slow, window_rows=100)
    teacher.answer(request_of(texts_of(1)))
    requests = [
        request_of(texts_of(2)),
        request_of(texts_of(2, 2)),
        request_of(("fine", "poison"), first=7),
    ]
    found = ask_all(teacher, requests, slow)
    assert_same(found[1], answer(texts_of(2, 2)))
    assert isinstance(found[2], NotFiniteError)
    assert found[2].rows == (8,)


class Failing(Slow):
    """Raises what it is told, once, when more than one row comes."""

    error: BaseException | None = None

    def answer(self, request: Request) -> TeacherSignal:
        assert self.gate.wait(30)
        if request.num_rows > 2 and self.error is not None:
            self.error, error = None, self.error
            raise error
        return super().answer(request)


def test_an_error_of_merged_requests_is_raised_to_each_of_them() -> None:
    """Raised through whoever computed, it leaves that one's own request in line for nobody."""
    slow = Failing()
    teacher = MergingTeacher(slow, window_rows=100)
    teacher.answer(request_of(texts_of(1)))
    slow.error = RuntimeError("out of memory")
    found: list[Any] = []

    def one(request: Request) -> None:
        try:
            found.append(teacher.answer(request).row_ids)
        except RuntimeError as error:
            found.append(str(error))

    threads = [
        threading.Thread(target=one, args=(request_of(texts_of(2, 2 * i), first=10 * i),))
        for i in range(3)
    ]

    def get_in_line() -> None:
        for thread in threads:
            thread.start()
        while len(teacher._line) < 3:
            threading.Event().wait(0.01)

    teacher.run(get_in_line)
    for thread in threads:
        thread.join(30)
    assert found == ["out of memory"] * 3
    assert not teacher._line
    assert teacher.answer(request_of(texts_of(3))).row_ids == (0, 1, 2)


@pytest.mark.parametrize("own_too", [True, False])
def test_an_interrupt_passes_and_the_others_are_answered(own_too: bool) -> None:
    """What was taken from the line and not computed would be waited for for ever."""
    slow = Failing()
    teacher = MergingTeacher(slow, window_rows=4)
    teacher.answer(request_of(texts_of(1)))
    slow.error = KeyboardInterrupt()
    others = [merging._Waiting(request_of(texts_of(2, 2 * i))) for i in range(1 if own_too else 2)]
    teacher._line.extend(others)
    with pytest.raises(KeyboardInterrupt):
        teacher.answer(request_of(texts_of(2, 8), first=80))
    assert list(teacher._line) == others
    assert teacher.answer(request_of(texts_of(2, 8), first=80)).row_ids == (80, 81)
    assert all(waiting.signal is not None for waiting in others)


def test_one_thread_loads_and_computes_whoever_asks(tmp_path: Path) -> None:
    """Each thread that computes with torch gets helpers that stay; more than cores slow all of them."""
    seen: set[str] = set()

    class Watched(Slow):
        def __init__(self) -> None:
            super().__init__()
            seen.add(threading.current_thread().name)

        def describe(self) -> TeacherDescription:
            seen.add(threading.current_thread().name)
            return super().describe()

        def answer(self, request: Request) -> TeacherSignal:
            seen.add(threading.current_thread().name)
            return super().answer(request)

    name = TeacherSettings("wide", ModelSource("m", "m", "m"), "float32", 32, 8)
    actor = TeacherActor(lambda _: Watched(), name, store=Opens(tmp_path, 0.3))
    askers = [
        threading.Thread(target=actor.answer, args=(request_of(texts_of(2, 2 * i)),))
        for i in range(4)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(30)
    actor.fill(request_of(texts_of(2, 40)))
    assert actor.stats()["rows_computed"] == 10
    assert len(seen) == 1
    assert not seen & {threading.current_thread().name, *(asker.name for asker in askers)}


def test_answers_too_large_for_the_window_are_not_merged() -> None:
    """Attention maps of 256 long rows would not fit into memory."""
    slow = Slow()
    row = answer(texts_of(1)).num_bytes
    teacher = MergingTeacher(slow, window_rows=100, window_bytes=3 * row)
    teacher.answer(request_of(texts_of(1)))
    ask_all(teacher, [request_of(texts_of(2, 2 * i)) for i in range(3)], slow)
    assert slow.sizes == [1, 2, 2, 2]


class Other(Slow):
    """With other weights."""

    def describe(self) -> TeacherDescription:
        return replace(super().describe(), fingerprint="g")


def test_a_teacher_with_other_weights_writes_to_no_shelf_of_the_first(tmp_path: Path) -> None:
    """A replica that restarts after the files changed would answer otherwise, and fill the store."""
    teacher = StoredTeacher(Slow(), open_store(tmp_path))
    teacher.answer(request_of(texts_of(4)))
    teacher.publish()
    StoredTeacher(Slow(), open_store(tmp_path))
    store = open_store(tmp_path)
    folder = re.escape(str(tmp_path / store.shelf.name))
    with pytest.raises(TeacherError, match=rf"teachers\.wide: .*files changed.*{folder}"):
        StoredTeacher(Other(), store)


class Opens:
    """A shelf as an actor gets it."""

    def __init__(self, folder: Path, publish_s: float) -> None:
        self.folder, self.publish_s = folder, publish_s

    def open(self, _: str, say: Callable[[str], None]) -> ShelfStore:
        return open_store(self.folder, publish_s=self.publish_s, say=say)


def test_what_was_computed_is_published_though_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that dies after a pause would lose all that it computed before."""
    monkeypatch.setattr(Publisher.__init__, "__defaults__", (0.02,))
    name = TeacherSettings("wide", ModelSource("m", "m", "m"), "float32", 32, 8)
    actor = TeacherActor(lambda _: Slow(), name, store=Opens(tmp_path, 0.3))
    actor.answer(request_of(texts_of(4)))
    assert not list(tmp_path.glob("*/*.arrow"))
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("*/*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(tmp_path.glob("*/*.arrow"))) == 1
    assert all(t.daemon for t in threading.enumerate() if t.name == "publisher")


def test_the_publisher_waits_for_the_computation_and_outlives_an_error() -> None:
    """A store that is written while it is read loses rows; a disk that is full may be emptied."""
    lock, looks = threading.Lock(), []

    class Stored:
        def publish_due(self) -> None:
            looks.append(lock.locked())
            if len(looks) == 1:
                raise OSError("disk full")

    def run(work: Callable[[], None]) -> None:
        with lock:
            work()

    publisher = Publisher(Stored(), run, look_s=0.01)  # type: ignore[arg-type]
    publisher.start()
    deadline = time.monotonic() + 20
    while len(looks) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    publisher.end()
    assert len(looks) >= 3
    assert all(looks)


def test_a_replica_describes_and_counts_itself_while_it_computes() -> None:
    """Whoever looks whether more replicas are needed would wait for the slowest."""
    slow = Slow()
    name = TeacherSettings("wide", ModelSource("m", "m", "m"), "float32", 32, 8)
    actor = TeacherActor(lambda _: slow, name)
    slow.gate.clear()
    computing = threading.Thread(target=actor.answer, args=(request_of(texts_of(2)),))
    computing.start()
    while not actor._teacher._computing.locked():
        time.sleep(0.01)
    assert actor.stats()["rows_computed"] == 0
    assert actor.describe().fingerprint == "f"
    pinged = threading.Event()
    ping = threading.Thread(target=lambda: (actor.ping(), pinged.set()))
    ping.start()
    assert not pinged.wait(0.1)
    slow.gate.set()
    assert pinged.wait(30)
    computing.join(30)
    ping.join(30)


def test_a_stored_teacher_computes_each_text_once(tmp_path: Path) -> None:
    """Rows that occur twice in a batch, or again in the next epoch, cost a pass each."""
    slow = Slow()
    counted = CountingTeacher(slow)
    teacher = StoredTeacher(counted, open_store(tmp_path))
    twice = (*texts_of(4), *texts_of(3, 2))
    assert_same(teacher.answer(request_of(twice)), answer(twice))
    assert slow.sizes == [5]
    assert_same(teacher.answer(request_of(texts_of(6))), answer(texts_of(6)))
    assert slow.sizes == [5, 1]
    teacher.publish()
    again = StoredTeacher(counted, open_store(tmp_path))
    again.answer(request_of(texts_of(6), Ask()))
    assert counted.stats()["rows_computed"] == 6
    assert again.stats() == {"rows_found": 6}
    about = open_store(tmp_path).about()
    assert description_from(about, slow.describe().traits) == TeacherDescription(
        slow.describe().traits, "f", 1, 4, "not started", steady=True
    )
    assert description_from({}, slow.describe().traits) is None


class Asked:
    """A pool that answers."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def ask(self, request: Request) -> Request:
        self.rows.append(request.num_rows)
        return request

    def collect(self, pending: Request) -> TeacherSignal:
        return Slow().answer(pending)

    def bring_here(self) -> None:
        self.rows.append(0)


def test_what_is_found_is_not_asked_and_both_come_in_order(tmp_path: Path) -> None:
    """Half filled, a store must neither hide rows nor move them."""
    store = open_store(tmp_path)
    store.add(row_keys((texts_of(3),)), answer(texts_of(3)))
    pool = Asked()
    source = StoreSource("wide", store, Memory(1 << 20), pool)
    mixed = ("row 7", "row 1", "row 8", "row 0")
    assert_same(source.collect(source.ask(request_of(mixed))), answer(mixed))
    assert pool.rows == [2]
    assert (source.hits, source.misses) == (2, 2)
    assert_same(source.collect(source.ask(request_of(mixed[::-1]))), answer(mixed[::-1]))
    assert pool.rows == [2]
    source.bring_here()
    assert pool.rows == [2, 0]


def test_memory_keeps_to_its_bytes_and_the_newest() -> None:
    """Kept without a limit, an epoch of hidden states fills the object store."""
    pool = Asked()
    row = answer(("row 10",)).num_bytes
    source = StoreSource("wide", None, Memory(5 * row), pool)
    for i in (10, 12, 14):
        source.collect(source.ask(request_of(texts_of(2, i))))
    source.collect(source.ask(request_of(texts_of(2, 14))))
    source.collect(source.ask(request_of(texts_of(2, 12))))
    assert pool.rows == [2, 2, 2]
    source.collect(source.ask(request_of(texts_of(2, 10))))
    assert pool.rows == [2, 2, 2, 2]


def test_a_teacher_that_was_not_started_and_is_needed_ends_the_run_by_name(tmp_path: Path) -> None:
    """Evicted in the middle of a run, answers would otherwise be waited for without end."""
    source = StoreSource("wide", open_store(tmp_path), Memory(0), None)
    with pytest.raises(TeacherError, match=r"wide.*was not started.*beginning with row 4"):
        source.ask(request_of(texts_of(2), first=4))


def test_an_inline_teacher_computes_what_was_asked_ahead_together(tmp_path: Path) -> None:
    """One request at a time it pads as the plain loop does."""
    slow = Slow()
    stored = StoredTeacher(slow, open_store(tmp_path))
    source = InlineSource(stored, 8, CountingTeacher(slow), stored)
    asked = [source.ask(request_of(texts_of(4, 4 * i))) for i in range(3)]
    for i in (0, 1, 2):
        assert_same(source.collect(asked[i]), answer(texts_of(4, 4 * i)))
    assert slow.sizes == [8, 4]
    source.close()
    assert None not in open_store(tmp_path).find(row_keys((texts_of(12),)), ASK)
    apart = InlineSource(slow, 0)
    asked = [apart.ask(request_of(texts_of(2, i))) for i in (0, 2)]
    assert_same(apart.collect(asked[1]), answer(texts_of(2, 2)))
    assert slow.sizes[2:] == [2, 2]


@pytest.mark.parametrize(
    ("seconds", "num_bytes", "spare", "chosen"),
    [
        (0.3, 1000, True, "remote"),
        (0.3, 1000, False, "inline"),
        (0.004, 1000, True, "inline"),
        (0.3, 10**9, True, "inline"),
    ],
)
def test_auto_weighs_computing_against_bringing(
    seconds: float, num_bytes: int, spare: bool, chosen: str
) -> None:
    """Beside a student that uses all cores, a teacher only takes them away."""
    found, why = choose_placement(Trial(32, seconds, num_bytes), spare=spare)
    assert found == chosen
    assert f"32 rows take {seconds * 1000:.0f} ms" in why


def test_an_inline_teacher_is_not_asked_what_the_store_has(tmp_path: Path) -> None:
    """Rows found would be counted as computed, and `store/misses` could never be 0."""
    slow = Slow()
    store = open_store(tmp_path)
    stored = StoredTeacher(slow, store)
    inner = InlineSource(stored, 8, CountingTeacher(slow), stored)
    source = StoreSource("wide", store, Memory(0), inner)
    for _ in range(2):
        asked = source.ask(request_of(texts_of(4)))
        assert_same(source.collect(asked), answer(texts_of(4)))
    assert (source.hits, source.misses, slow.sizes) == (4, 4, [4])
    assert source.describe() == slow.describe()


def test_a_replica_tells_what_its_store_cannot_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another node a full disk would cost every later run the teacher, and nobody would know."""
    settings = TeacherSettings("wide", ModelSource("m", "m", "m"), "float32", 32, 8)
    actor = TeacherActor(lambda _: Slow(), settings, store=Opens(tmp_path, 0.0))
    assert actor.said() == []

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Place, "publish", full)
    assert_same(actor.answer(request_of(texts_of(2))), answer(texts_of(2)))
    assert "No space left on device" in "".join(actor.said())
    assert actor.said() == []
