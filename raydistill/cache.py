"""Fill the store ahead of time: every teacher answers all rows of a run, rows of like length together."""

from collections.abc import Iterator

import numpy as np

from raydistill.config import DistillConfig
from raydistill.errors import ConfigError
from raydistill.prepare import Prepared, needed_resources
from raydistill.run import check, connect_if_cluster
from raydistill.runtime import cluster_resources, connect_ray, object_store_bytes
from raydistill.serve import Served, needed_answers, serve_teachers
from raydistill.signals import Request
from raydistill.store import row_keys
from raydistill.teachers.actor import ActorTransport
from raydistill.teachers.pool import TeacherPool
from raydistill.ui import Ui

__all__ = ["cache"]

_REQUEST_ROWS = 256
_AHEAD = 2  # requests of each replica on their way


def cache(config: DistillConfig, *, ui: Ui | None = None) -> dict[str, int]:
    """Let every teacher answer what a run will ask and the store has not; nothing is trained.

    Args:
        config: The run.
        ui: Where progress goes; None: standard error.

    Returns:
        Rows computed, by teacher.

    Raises:
        ConfigError: Something in the configuration cannot work; nothing was started or written.
    """
    ui = ui or Ui()
    if not config.store.enabled:
        raise ConfigError.of("store.enabled", "is false: there is no store to fill.")
    # It is filled by replicas, wherever a run would put the teachers.
    remote = {n: t.model_copy(update={"placement": "remote"}) for n, t in config.teachers.items()}
    config = config.model_copy(update={"teachers": remote})
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
                _fill(prepared, name, served, ui)
                computed[name] = int(served.stats()["rows_computed"])
                ui.say(f"{name}: {computed[name]:,} rows computed")
            return computed


def _fill(prepared: Prepared, name: str, served: Served, ui: Ui) -> None:
    """One teacher; the answers stay where they are made and go from there to the store."""
    line = served.line
    requests = list(_requests(prepared, name, served))
    total = sum(request.num_rows for request in requests)
    pool = TeacherPool(
        name,
        ActorTransport(name, line.actors, method="fill"),
        timeout_s=line.timeout_s
        * _AHEAD
        * _REQUEST_ROWS
        / 32,  # it is meant for requests of a batch
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
        for begin in range(0, len(order), _REQUEST_ROWS):
            rows = order[begin : begin + _REQUEST_ROWS]
            picks = store.find(row_keys(task.texts(rows.tolist())[1]), ask)
            absent += [int(row) for row, pick in zip(rows, picks, strict=True) if pick is None]
        for begin in range(0, len(absent), _REQUEST_ROWS):
            ids, texts = task.texts(absent[begin : begin + _REQUEST_ROWS])
            yield Request(ids, texts, ask)
