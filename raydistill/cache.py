"""Fill the store ahead of time: every teacher answers all rows of a run, rows of like length together.

All teachers answer at the same time, each at its own pace: they sit on devices of their own.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from raydistill.checks import check, connect_if_cluster
from raydistill.config import DistillConfig
from raydistill.errors import ConfigError, TeacherError
from raydistill.making import made_rows
from raydistill.prepare import Prepared, needed_resources
from raydistill.runtime import cluster_resources, connect_ray, object_store_bytes
from raydistill.serve import Served, serve_teachers
from raydistill.signals import Request
from raydistill.store import row_keys
from raydistill.storing import missing_rows, needed_answers
from raydistill.teachers.calls import publish_replicas, replica_sentences
from raydistill.teachers.pool import TeacherPool, Ticket
from raydistill.teachers.transport import ActorTransport
from raydistill.ui import Ui

__all__ = ["REQUEST_ROWS", "cache", "fill_answers", "only_teachers"]

REQUEST_ROWS = 1024
"""Of a request; so many that nearly all rows of a pass are as long as its longest."""
_AHEAD = 2  # requests of each replica on their way
_WRITE_S = 600.0  # for the last segments of all replicas
_PAUSE_S = 0.02  # between looks at teachers that all compute


def cache(config: DistillConfig, *, ui: Ui | None = None) -> dict[str, int]:
    """Let every teacher answer what a run will ask and the store has not; nothing is trained.

    Args:
        config: The run.
        ui: Where progress goes; None: standard error.

    Returns:
        Rows computed, by teacher.

    Raises:
        ConfigError: Something in the configuration cannot work; nothing was started or written.
        TeacherError: A teacher failed, or the store did not keep what it answered.
    """
    ui = ui or Ui()
    if not config.store.enabled:
        raise ConfigError.of("store.enabled", "is false: there is no store to fill.")
    if config.data.streaming:
        message = (
            "is true: the rows of a stream are not counted, so there is no end of what to answer."
        )
        raise ConfigError.of("data.streaming", message)
    if not config.teachers:
        raise ConfigError.of("teachers", "are none: there is nothing to fill the store with.")
    config = only_teachers(config)
    with connect_if_cluster(config):
        prepared = check(config, output=False)
        with connect_ray(config.run, needed_resources(config)):
            return fill_answers(prepared, ui)


def fill_answers(prepared: Prepared, ui: Ui) -> dict[str, int]:
    """As `cache`, of a run that was checked, on a Ray that is there.

    Args:
        prepared: The run, as `only_teachers` makes it.
        ui: Where progress goes.

    Returns:
        Rows computed, by teacher.
    """
    with (
        made_rows(prepared, ui),
        serve_teachers(
            prepared, object_store=object_store_bytes(), have=cluster_resources(), say=ui.say
        ) as teachers,
    ):
        started = {name: served for name, served in teachers.items() if served.started}
        _fill_whole(prepared, started, ui)
        computed = dict.fromkeys(teachers, 0)
        for name, served in started.items():
            computed[name] = int(served.stats()["rows_computed"])
            ui.say(f"{name}: {computed[name]:,} rows computed")
        return computed


def only_teachers(config: DistillConfig) -> DistillConfig:
    """The run with all teachers as replicas and no worker on a GPU.

    An inline teacher gets what a worker would have: on another device its answers are not the same
    to the last bit, and the run would look for them on another shelf.
    """
    training = config.training
    workers = {
        "num_cpus": training.cpus_per_worker,
        "num_gpus": training.gpus_per_worker,
        "resources": training.worker_resources,
    }
    teachers = {
        name: teacher.model_copy(
            update={"placement": "remote", **(workers if teacher.placement == "inline" else {})}
        )
        for name, teacher in config.teachers.items()
    }
    idle = training.model_copy(
        update={"num_workers": 1, "gpus_per_worker": 0.0, "worker_resources": {}}
    )
    return config.model_copy(update={"teachers": teachers, "training": idle})


def _fill_whole(prepared: Prepared, teachers: Mapping[str, Served], ui: Ui) -> None:
    """Until nothing is missing: a replica that dies takes with it what it had not published."""
    left, attempts = dict(teachers), 0
    while left:
        attempts += 1
        _fill(prepared, left, ui)
        with ui.doing("writing what was answered"):
            for name, served in left.items():
                for why in publish_replicas(served.line.actors, _WRITE_S):
                    ui.say(f"{name}: a replica could not write its answers ({why})")
                for sentence in replica_sentences(served.line.actors):
                    ui.say(f"{name}: {sentence}")
        left = {
            name: one for name, one in left.items() if _lacks(prepared, name, one, attempts, ui)
        }


def _lacks(prepared: Prepared, name: str, served: Served, attempts: int, ui: Ui) -> bool:
    """Whether answers of a teacher are missing that are worth asking again.

    Raises:
        TeacherError: Some are missing, and asking again would not help.
    """
    line, limit = served.line, prepared.config.store.max_bytes
    assert line.store is not None
    missing = missing_rows(prepared, name, line.store)
    if not missing:
        return False
    if limit is not None:
        raise TeacherError(
            name,
            f"{missing:,} of its answers are not in the store, whose store.max_bytes = {limit:,} "
            "do not hold all that was answered",
            "Raise store.max_bytes, or choose a smaller store.codecs.",
        )
    if attempts > line.max_retries:
        raise TeacherError(
            name,
            f"{missing:,} of its answers are not in the store at {line.store.uri} after {attempts} attempts",
            f"Can every node write there? Else raise teachers.{name}.max_retries.",
        )
    ui.say(f"{name}: {missing:,} answers were lost before they were written; asking again")
    return True


class _Filling:
    """One teacher that is asked for what is missing; the answers go from where they are made to the store."""

    def __init__(self, prepared: Prepared, name: str, served: Served, ui: Ui) -> None:
        line = served.line
        self._open = deque(_requests(prepared, name, served))
        self.num_rows = sum(request.num_rows for request in self._open)
        self._most = _AHEAD * len(line.actors)
        self._tickets: deque[Ticket] = deque()
        self._pool = TeacherPool(
            name,
            ActorTransport(name, line.actors, method="fill"),
            timeout_s=line.timeout_s * _AHEAD * REQUEST_ROWS / prepared.config.training.batch_rows,
            max_retries=line.max_retries,
            start_timeout_s=line.start_timeout_s,
            say=ui.say,
        )

    @property
    def done(self) -> bool:
        """Whether all was asked and answered."""
        return not self._open and not self._tickets

    def move(self, advance: Callable[[int], None]) -> bool:
        """Take what is answered and ask for more, without waiting; whether there was anything to do."""
        moved = False
        while self._tickets and self._pool.ready(self._tickets[0]):
            advance(len(self._pool.collect(self._tickets.popleft()).row_ids))
            moved = True
        while self._open and len(self._tickets) < self._most:
            self._tickets.append(self._pool.ask(self._open.popleft()))
            moved = True
        return moved


def _fill(prepared: Prepared, teachers: Mapping[str, Served], ui: Ui) -> None:
    """Ask all teachers for all that is missing."""
    fillings = [_Filling(prepared, name, served, ui) for name, served in teachers.items()]
    names = ", ".join(teachers)
    with ui.rows(sum(one.num_rows for one in fillings), f"{names}: answers") as advance:
        while not all(one.done for one in fillings):
            moved = [one.move(advance) for one in fillings]
            if not any(moved):
                time.sleep(_PAUSE_S)


def _requests(prepared: Prepared, name: str, served: Served) -> Iterator[Request]:
    """What is missing, over the whole data sorted by length, the longest first."""
    assert served.line.store is not None
    store = served.line.store.open(name)
    for task, ask in needed_answers(prepared, name):
        order = np.argsort(-task.lengths(), kind="stable")
        absent: list[int] = []
        for begin in range(0, len(order), REQUEST_ROWS):
            rows = order[begin : begin + REQUEST_ROWS]
            picks = store.find(row_keys(task.texts(rows.tolist())[1]), ask)
            absent += [int(row) for row, pick in zip(rows, picks, strict=True) if pick is None]
        for begin in range(0, len(absent), REQUEST_ROWS):
            ids, texts = task.texts(absent[begin : begin + REQUEST_ROWS])
            yield Request(ids, texts, ask)
