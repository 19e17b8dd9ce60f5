"""What is looked at before anything starts or is written."""

from collections.abc import Iterator
from contextlib import contextmanager

from raydistill.config import DistillConfig
from raydistill.config.faults import in_order, without_echoes
from raydistill.errors import ConfigError, Fault
from raydistill.output import OutputFolder
from raydistill.prepare import (
    Prepared,
    changed_settings,
    needed_resources,
    prepare,
    resource_faults,
)
from raydistill.runtime import (
    cluster_resources,
    connect_ray,
    embedded,
    job_faults,
    machine_resources,
)
from raydistill.storing import cached_faults, store_faults

__all__ = ["check", "connect_if_cluster", "lacking_resources"]


def check(
    config: DistillConfig,
    faults: list[Fault] | None = None,
    *,
    resume: bool = False,
    output: bool = True,
    machines: bool = True,
    free: tuple[str, ...] = (),
) -> Prepared:
    """Check all that can be checked; nothing is started or written.

    Args:
        config: The run, or the sound part of it.
        faults: Found before.
        resume: Whether an existing run is to be continued.
        output: Whether the run will write its folder.
        machines: Whether it must find room by itself.
        free: Settings below these paths may be others than those of the run to resume.

    Raises:
        ConfigError: With every fault.
    """
    found = list(faults or [])
    prepared, more = prepare(config)
    found += without_echoes(more, found)
    found += without_echoes(job_faults(config), found)
    found += without_echoes(store_faults(config), found)
    if output:
        found += without_echoes(OutputFolder.of(config).faults(resume=resume), found)
        if prepared is not None and not found:
            found += cached_faults(prepared)
    if machines:
        found += without_echoes(lacking_resources(config), found)
    if prepared is not None and resume:
        OutputFolder.of(config).read_weights()  # before anything starts
        before = OutputFolder.of(config).read_manifest()
        if before is not None:
            kept = [
                {path: value for path, value in one.items() if not path.startswith(free)}
                for one in (before, prepared.manifest)
            ]
            found += changed_settings(*kept)
    if found or prepared is None:
        raise ConfigError(in_order(found))
    return prepared


def lacking_resources(config: DistillConfig) -> list[Fault]:
    """What this machine, or the cluster, has not."""
    if embedded(config.run):
        return resource_faults(config, machine_resources(), embedded=True)
    with connect_ray(config.run, needed_resources(config)):
        return resource_faults(config, cluster_resources(), embedded=False)


@contextmanager
def connect_if_cluster(config: DistillConfig) -> Iterator[None]:
    """A running cluster is connected to once for checks and run; an embedded one starts after the checks."""
    if embedded(config.run):
        yield
    else:
        with connect_ray(config.run, needed_resources(config)):
            yield
