"""Fill the store ahead of time: every teacher answers all rows of a run, rows of like length together."""

from collections.abc import Iterator

import numpy as np

from raydistill.config import DistillConfig
from raydistill.errors import ConfigError, TeacherError
from raydistill.prepare import Prepared, needed_resources
from raydistill.run import check, connect_if_cluster
from raydistill.runtime import cluster_resources, connect_ray, object_store_bytes
from raydistill.serve import Served, serve_teachers
from raydistill.signals import Request
from raydistill.store import row_keys
from raydistill.storing import missing_rows, needed_answers
from raydistill.teachers.calls import publish_replicas, replica_sentences
from raydistill.teachers.pool import TeacherPool
from raydistill.teachers.transport import ActorTransport
from raydistill.ui import Ui

__all__ = ["REQUEST_ROWS", "cache", "only_teachers"]

REQUEST_ROWS = 1024
"""Of a request; so many that nearly all rows of a pass are as long as its longest."""
_AHEAD = 2  # requests of each replica on their way
_WRITE_S = 600.0  # for the last segments of all replicas


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
        with (
            connect_ray(config.run, needed_resources(config)),
            serve_teachers(
                prepared, object_store=object_store_bytes(), have=cluster_resources(), say=ui.say
            ) as teachers,
        ):
            computed = {}
            for name, served in teachers.items():
                if not served.started:
                    computed[name] = 0
                    continue
                _fill_whole(prepared, name, served, ui)
                computed[name] = int(served.stats()["rows_computed"])
                ui.say(f"{name}: {computed[name]:,} rows computed")
            return computed


def only_teachers(config: DistillConfig) -> DistillConfig:
    """The run with all teachers as replicas and no worker on a GPU.

    An inline teacher gets what a worker would have: on another device its answers are not the same
    to the last bit, and the run would look for them on another shelf.
    """
    training = config.training
    workers = {"num_cpus": training.cpus_per_worker, "num_gpus": training.gpus_per_worker}
    teachers = {
        name: teacher.model_copy(
            update={"placement": "remote", **(workers if teacher.placement == "inline" else {})}
        )
        for name, teacher in config.teachers.items()
    }
    idle = training.model_copy(update={"num_workers": 1, "gpus_per_worker": 0.0})
    return config.model_copy(update={"teachers": teachers, "training": idle})


def _fill_whole(prepared: Prepared, name: str, served: Served, ui: Ui) -> None:
    """Until nothing is missing: a replica that dies takes with it what it had not published."""
    line, limit = served.line, prepared.config.store.max_bytes
    assert line.store is not None
    for _ in range(1 + line.max_retries):
        _fill(prepared, name, served, ui)
        with ui.doing(f"writing what {name} answered"):
            for why in publish_replicas(line.actors, _WRITE_S):
                ui.say(f"{name}: a replica could not write its answers ({why})")
            for sentence in replica_sentences(line.actors):
                ui.say(f"{name}: {sentence}")
        missing = missing_rows(prepared, name, line.store)
        if not missing:
            return
        if limit is not None:
            raise TeacherError(
                name,
                f"{missing:,} of its answers are not in the store, whose store.max_bytes = {limit:,} "
                "do not hold all that was answered",
                "Raise store.max_bytes, or choose a smaller store.codecs.",
            )
        ui.say(f"{name}: {missing:,} answers were lost before they were written; asking again")
    raise TeacherError(
        name,
        f"{missing:,} of its answers are not in the store at {line.store.uri} after {1 + line.max_retries} attempts",
        f"Can every node write there? Else raise teachers.{name}.max_retries.",
    )


def _fill(prepared: Prepared, name: str, served: Served, ui: Ui) -> None:
    """One teacher; the answers stay where they are made and go from there to the store."""
    line = served.line
    requests = list(_requests(prepared, name, served))
    total = sum(request.num_rows for request in requests)
    pool = TeacherPool(
        name,
        ActorTransport(name, line.actors, method="fill"),
        timeout_s=line.timeout_s * _AHEAD * REQUEST_ROWS / prepared.config.training.batch_rows,
        max_retries=line.max_retries,
        start_timeout_s=line.start_timeout_s,
        say=ui.say,
    )
    tickets = []
    with ui.rows(total, f"{name} answers") as advance:
        for request in requests:
            tickets.append(pool.ask(request))
            if len(tickets) >= _AHEAD * len(line.actors):
                advance(len(pool.collect(tickets.pop(0)).row_ids))
        for ticket in tickets:
            advance(len(pool.collect(ticket).row_ids))


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
