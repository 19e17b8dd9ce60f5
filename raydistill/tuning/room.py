"""How many trials have room at the same time: arithmetic only."""

from collections.abc import Mapping, Sequence

from raydistill.cache import only_teachers
from raydistill.config import DistillConfig
from raydistill.config.faults import without_echoes
from raydistill.errors import Fault
from raydistill.prepare import Resources, needed_resources, resource_faults
from raydistill.runtime import embedded

__all__ = ["room_for"]

_ROUNDING = 1e-9
Amounts = Mapping[str, float]


def room_for(config: DistillConfig, have: Resources, *, filled: bool) -> tuple[int, list[Fault]]:
    """How many trials run at the same time, and why they cannot.

    Args:
        config: The search.
        have: What this machine has, or the cluster.
        filled: Whether teachers are gone by then; else they stay beside the trials.
    """
    tuning, inside = config.tuning, embedded(config.run)
    assert tuning is not None
    students = config.model_copy(update={"teachers": {}})
    parts = [only_teachers(config), students] if filled else [config]
    faults: list[Fault] = []
    for part in parts:
        faults += without_echoes(resource_faults(part, have, embedded=inside), faults)
    if faults:
        return 1, faults
    per = needed_resources(students)
    held = Resources(0.0, 0.0)
    if not filled:
        whole = needed_resources(config)
        custom = {name: amount - per.custom.get(name, 0.0) for name, amount in whole.custom.items()}
        held = Resources(whole.cpus - per.cpus, whole.gpus - per.gpus, custom)
    fits = int((have.cpus - held.cpus) / per.cpus + _ROUNDING)
    if per.gpus:
        fits = min(fits, int((have.gpus - held.gpus) / per.gpus + _ROUNDING))
    wanted = {name: amount for name, amount in per.custom.items() if amount and not inside}
    for name, amount in wanted.items():  # a Ray that starts here has them as they are asked for
        free = have.custom.get(name, 0.0) - held.custom.get(name, 0.0)
        fits = min(fits, int(free / amount + _ROUNDING))
    if have.nodes and not inside:
        workers = _workers(config, have.nodes, [] if filled else _replicas(config))
        fits = min(fits, workers // config.training.num_workers)
    fits = max(0, fits)
    grows = config.run.autoscaling and not inside
    if tuning.concurrent == "auto" and grows:
        message = (
            f"is auto, but with run.autoscaling nobody knows how many nodes there will be (now there is room for {fits}). "
            "Write how many trials may run at the same time."
        )
        return fits, [Fault("tuning.concurrent", message)]
    fits = max(1, fits)
    if tuning.concurrent == "auto":
        return min(fits, tuning.trials), []
    if tuning.concurrent <= fits or grows or (inside and not per.gpus):
        return min(tuning.concurrent, tuning.trials), []
    what = "this machine has" if inside else "the cluster has"
    others = "".join(f", {amount:g} {name}" for name, amount in wanted.items())
    message = (
        f"is {tuning.concurrent}, but {what} room for {fits}: a trial takes {per.cpus:g} CPUs and {per.gpus:g} GPUs{others}. "
        "Lower it, or set auto."
    )
    return fits, [Fault("tuning.concurrent", message)]


def _replicas(config: DistillConfig) -> list[Amounts]:
    """What each replica asks for that is surely there."""
    return [
        {"CPU": teacher.num_cpus, "GPU": teacher.num_gpus, **teacher.resources}
        for teacher in config.teachers.values()
        if teacher.placement == "remote" and (teacher.num_cpus or teacher.num_gpus)
        for _ in range(teacher.replica_bounds[0])
    ]


def _workers(config: DistillConfig, nodes: Sequence[Amounts], replicas: Sequence[Amounts]) -> int:
    """How many workers the nodes have room for: none can be on two of them.

    Replicas are put where they take the fewest workers' places.
    """
    training = config.training
    ask = {"CPU": training.cpus_per_worker, "GPU": training.gpus_per_worker, **training.worker_resources}  # fmt: skip
    left = [dict(node) for node in nodes]
    for replica in replicas:
        able = [place for place, node in enumerate(left) if _times(replica, node)]
        if able:  # else it is said elsewhere that there is no room for it
            rest = {place: _without(left[place], replica) for place in able}
            best = min(able, key=lambda place: _times(ask, left[place]) - _times(ask, rest[place]))
            left[best] = rest[best]
    return sum(_times(ask, node) for node in left)


def _times(ask: Amounts, node: Amounts) -> int:
    """How often something fits on a node."""
    wanted = {name: amount for name, amount in ask.items() if amount}
    return int(max(0.0, min(node.get(name, 0.0) / amount for name, amount in wanted.items())) + _ROUNDING)  # fmt: skip


def _without(node: Amounts, taken: Amounts) -> dict[str, float]:
    return {name: amount - taken.get(name, 0.0) for name, amount in node.items()}
