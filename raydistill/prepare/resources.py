"""What a run asks of the cluster, and whether the cluster has it: arithmetic only."""

from dataclasses import dataclass

from raydistill.config import DistillConfig
from raydistill.config.augmentation import ModelOperation
from raydistill.config.models import TeacherSection
from raydistill.errors import Fault

_MACHINE = ("run.autoscaling", "run.ray_address")

__all__ = ["Resources", "needed_resources", "replicas_need", "resource_faults"]


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs, as Ray counts them."""

    cpus: float
    gpus: float


def needed_resources(config: DistillConfig) -> Resources:
    """Of all teachers' replicas and all workers together, or of a masked language model before them."""
    training = config.training
    cpus = training.num_workers * training.cpus_per_worker
    gpus = training.num_workers * training.gpus_per_worker
    for teacher in config.teachers.values():
        if teacher.placement == "remote":  # the others are with the workers, or nowhere
            need = replicas_need(teacher)
            cpus, gpus = cpus + need.cpus, gpus + need.gpus
    for operation in config.augmentation.operations if config.augmentation else ():
        if isinstance(operation, ModelOperation):
            cpus, gpus = max(cpus, operation.num_cpus), max(gpus, operation.num_gpus)
    return Resources(cpus, gpus)


def replicas_need(teacher: TeacherSection) -> Resources:
    """Of the fewest replicas of a teacher together."""
    count = teacher.replica_bounds[0]
    return Resources(count * teacher.num_cpus, count * teacher.num_gpus)


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
    return faults
