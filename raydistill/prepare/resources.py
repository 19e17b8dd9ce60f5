"""What a run asks of the cluster, and whether the cluster has it: arithmetic only."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from raydistill.config import DistillConfig
from raydistill.config.augmentation import ModelOperation
from raydistill.config.models import TeacherSection
from raydistill.errors import Fault

_MACHINE = ("run.autoscaling", "run.ray_address")
_MAY_START = ("remote", "auto")
"""Placements of teachers that may get replicas of their own, and then on nodes that must be there."""
_ROUNDING = 1e-4
"""Ray counts ten-thousandths."""
_WAY_OUT = " Ask for less, start a node that has it, or set run.autoscaling if the cluster grows on demand."

__all__ = ["Resources", "needed_resources", "replicas_need", "resource_faults"]


@dataclass(frozen=True)
class Resources:
    """CPUs, GPUs and custom resources, as Ray counts them.

    Attributes:
        cpus: Of all nodes.
        gpus: Of all nodes.
        custom: Of all nodes, by name.
        nodes: What each has, under Ray's names; none: nothing is known of them.
    """

    cpus: float
    gpus: float
    custom: Mapping[str, float] = field(default_factory=dict)
    nodes: Sequence[Mapping[str, float]] = ()

    @classmethod
    def of_nodes(cls, nodes: Sequence[Mapping[str, float]]) -> Self:
        """What some nodes have together."""
        total: Counter[str] = Counter()
        for node in nodes:
            total.update(node)
        return cls(total.pop("CPU", 0.0), total.pop("GPU", 0.0), dict(total), tuple(nodes))


def needed_resources(config: DistillConfig) -> Resources:
    """Of all teachers' replicas and all workers together, or of a masked language model before them."""
    training = config.training
    cpus = training.num_workers * training.cpus_per_worker
    gpus = training.num_workers * training.gpus_per_worker
    custom = _times(training.num_workers, training.worker_resources)
    for teacher in config.teachers.values():
        if teacher.placement == "remote":  # the others are with the workers, or nowhere
            need = replicas_need(teacher)
            cpus, gpus = cpus + need.cpus, gpus + need.gpus
        if teacher.placement in _MAY_START:
            for name, amount in replicas_need(teacher).custom.items():
                custom[name] = custom.get(name, 0.0) + amount
    for operation in config.augmentation.operations if config.augmentation else ():
        if isinstance(operation, ModelOperation):
            cpus, gpus = max(cpus, operation.num_cpus), max(gpus, operation.num_gpus)
    return Resources(cpus, gpus, custom)


def replicas_need(teacher: TeacherSection) -> Resources:
    """Of the fewest replicas of a teacher together."""
    count = teacher.replica_bounds[0]
    return Resources(
        count * teacher.num_cpus, count * teacher.num_gpus, _times(count, teacher.resources)
    )


def _times(count: int, amounts: Mapping[str, float]) -> dict[str, float]:
    return {name: count * amount for name, amount in amounts.items()}


def resource_faults(config: DistillConfig, have: Resources, *, embedded: bool) -> list[Fault]:
    """What is asked for and not there.

    Args:
        config: The run.
        have: What the cluster (or this machine) has.
        embedded: Ray starts inside this process, where CPUs are only a count and are made to fit.
    """
    if config.run.autoscaling and not embedded:  # this machine will not grow
        return []
    need = needed_resources(config)
    faults = []
    parts = [
        f"teachers.{name}: {t.replica_bounds[0]} x {t.num_gpus:g}"
        for name, t in config.teachers.items()
        if t.num_gpus and t.placement == "remote"
    ]
    if config.training.gpus_per_worker:
        parts.append(
            f"training: {config.training.num_workers} x {config.training.gpus_per_worker:g}"
        )
    where = "this machine has" if embedded else "the cluster has"
    if need.gpus > have.gpus:
        faults.append(
            Fault(
                "GPUs:",
                f"{need.gpus:g} are asked for ({'; '.join(parts)}), but {where} {have.gpus:g}. Lower num_gpus, "
                "replicas or training.gpus_per_worker"
                + ("." if embedded else ", or set run.autoscaling if the cluster grows on demand."),
                rests_on=_MACHINE,
            )
        )
    if not embedded and need.cpus > have.cpus:
        faults.append(
            Fault(
                "CPUs:",
                f"{need.cpus:g} are asked for by teachers and workers, but the cluster has {have.cpus:g}. Lower "
                "num_cpus, replicas or training.cpus_per_worker, or set run.autoscaling.",
                rests_on=_MACHINE,
            )
        )
    if embedded:
        return faults
    faults += _custom_faults(config, need, have)
    return faults or list(_homeless_faults(config, have))


def _custom_faults(config: DistillConfig, need: Resources, have: Resources) -> list[Fault]:
    """Custom resources that all nodes together have too little of, by the settings that ask for them."""
    faults = []
    for name, amount in need.custom.items():
        there = have.custom.get(name, 0.0)
        if amount <= there + _ROUNDING:
            continue
        asked = [
            f"teachers.{t}.resources"
            for t, teacher in config.teachers.items()
            if teacher.placement in _MAY_START and name in teacher.resources
        ]
        if name in config.training.worker_resources:
            asked.append("training.worker_resources")
        faults.append(
            Fault(
                asked[0],
                f"{amount:g} {name} are asked for by {', '.join(asked)}, but the cluster has {there:g}.{_WAY_OUT}",
                rests_on=(*asked, *_MACHINE),
            )
        )
    return faults


def _homeless_faults(config: DistillConfig, have: Resources) -> Iterator[Fault]:
    """Replicas and workers that no single node has room for, though all together might."""
    training = config.training
    asks = {
        f"teachers.{name}": {"CPU": t.num_cpus, "GPU": t.num_gpus, **t.resources}
        for name, t in config.teachers.items()
        if t.placement in _MAY_START
    }
    asks["training"] = {
        "CPU": training.cpus_per_worker,
        "GPU": training.gpus_per_worker,
        **training.worker_resources,
    }
    for path, ask in asks.items():
        if have.nodes and not any(
            all(node.get(name, 0.0) + _ROUNDING >= amount for name, amount in ask.items())
            for node in have.nodes
        ):
            one = "a worker" if path == "training" else "a replica"
            parts = ", ".join(f"{amount:g} {name}" for name, amount in ask.items() if amount)
            message = f"no node has room for {one}, which asks for {parts}.{_WAY_OUT}"
            yield Fault(path, message, rests_on=(path, *_MACHINE))
