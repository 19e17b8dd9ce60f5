"""Ray for one run: connect or start, say what there is, leave as found."""

import logging
import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raydistill.config import DistillConfig
from raydistill.config.training import RunSection
from raydistill.errors import ConfigError, Fault, TrainingError
from raydistill.prepare import Resources
from raydistill.training.trainer import quiet_ray_train

_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the drivers of submitted jobs
_ENOUGH = 1_000_000  # of a custom resource, for whatever a run may start

__all__ = [
    "cluster_resources",
    "connect_ray",
    "embedded",
    "job_faults",
    "machine_resources",
    "object_store_bytes",
]


def embedded(run: RunSection) -> bool:
    """Whether Ray will start inside this process."""
    import ray

    address = run.ray_address or os.environ.get("RAY_ADDRESS")
    return not ray.is_initialized() and address in (None, "", "local")


def machine_resources() -> Resources:
    """What an embedded Ray would have; CPUs are only a count there."""
    import torch

    return Resources(float(os.cpu_count() or 1), float(torch.cuda.device_count()))


def cluster_resources() -> Resources:
    """What the connected cluster has."""
    import ray

    nodes = tuple(node["Resources"] for node in ray.nodes() if node["Alive"])
    return Resources.of_nodes(nodes)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts its own handler for SIGTERM in place; ours lets workers save before they stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def connect_ray(run: RunSection, need: Resources) -> Iterator[None]:
    """Ray for the duration of a block; what was running before is left running.

    Raises:
        ConfigError: The cluster cannot be reached.
        TrainingError: Ray does not start on this machine.
    """
    import ray
    from ray.exceptions import AuthenticationError

    quiet_ray_train()
    if ray.is_initialized():
        yield
        return
    # Accelerator variables stay as they are; the warning about it helps nobody here.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    starts_here = embedded(run)
    options: dict[str, object] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if starts_here:
        # One more CPU than asked for: evaluation and Ray Train's own tasks find room.
        options["num_cpus"] = max(os.cpu_count() or 1, int(need.cpus) + 1)
        options["resources"] = dict.fromkeys(need.custom, _ENOUGH)  # this node is every pool
        # For this one run: what serves a cluster only takes memory and start-up time.
        options["include_dashboard"] = False
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    else:
        options["address"] = run.ray_address or os.environ["RAY_ADDRESS"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            with _own_signals():
                ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = options.get("address", "this machine")
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise ConfigError.of(
                "run.ray_address",
                f"leads to no Ray cluster at {where}: {lines[0] if lines else error}",
            ) from error
        except AuthenticationError as error:
            raise ConfigError.of(
                "run.ray_address",
                f"leads to a cluster that wants another token, or any: {options.get('address')}. Set RAY_AUTH_MODE=token "
                "and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's.",
            ) from error
        except Exception as error:  # Ray raises a bare one where its processes do not start in time
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise TrainingError(
                f"Ray did not start: {lines[0] if lines else error} Does the machine have cores and memory to spare?"
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def job_faults(config: DistillConfig) -> list[Fault]:
    """In a submitted job the working directory is a copy that Ray deletes: results must not go there."""
    if not os.environ.get(_JOB_VARIABLE):
        return []
    why = "in a submitted job: its working directory is a copy that Ray deletes"
    faults = []
    output = config.run.output_dir
    if output is None or not Path(output).expanduser().is_absolute():
        faults.append(Fault("run.output_dir", f"must be an absolute path {why}, got {output}."))
    store = config.store.path
    if config.store.enabled and store and "://" not in store and not Path(store).is_absolute():
        faults.append(Fault("store.path", f"must be a URI or an absolute path {why}, got {store}."))
    uri = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if config.tracking.enabled and (uri is None or re.match(r"sqlite:///[^/]", uri)):
        faults.append(
            Fault(
                "tracking.uri",
                f"must be a server or an absolute sqlite:////path {why}, got {uri}; or set tracking.enabled: false.",
            )
        )
    return faults


def object_store_bytes() -> int:
    """Of this node, for limits on what is asked ahead."""
    import ray

    nodes = [n for n in ray.nodes() if n["Alive"]]
    sizes = [int(n["Resources"].get("object_store_memory", 0)) for n in nodes]
    return min((size for size in sizes if size), default=1 << 30)
