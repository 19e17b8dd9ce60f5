"""Nodes with addresses of their own, each in a network namespace: as several machines, but for the disk they share."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import losses_of, weights_hash
from tests.e2e.local import await_step, clean_environment, pooled

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"
    ),
]
NET = "10.77.31"


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


class Machines:
    """Namespaces on one bridge, a node of Ray in each.

    Args:
        tag: Begins the names of all interfaces and namespaces.
        sockets: Where Ray puts its sockets.
    """

    def __init__(self, tag: str, sockets: str) -> None:
        self.tag, self._sockets = tag, sockets
        self.nodes: dict[str, subprocess.Popen] = {}
        self.environment = clean_environment(
            RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_health_check_period_ms="1000",
            RAY_health_check_timeout_ms="3000", GLOO_SOCKET_IFNAME="eth0", RAY_ADDRESS=f"{NET}.10:6379",
        )  # fmt: skip
        ip("link", "add", tag, "type", "bridge")
        ip("addr", "add", f"{NET}.1/24", "dev", tag)
        ip("link", "set", tag, "up")

    def start(self, name: str, number: int, *options: str, before: str = ":") -> None:
        """A machine more, and its node; what comes before it sees that machine's own mounts."""
        space, address = f"{self.tag}{number}", f"{NET}.{number}"
        ip("netns", "add", space)
        ip("link", "add", f"{space}v", "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", f"{space}v", "master", self.tag, "up")
        for words in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                      ["link", "set", "lo", "up"]):  # fmt: skip
            ip("-n", space, *words)
        where = ["--head", "--num-cpus=0", "--dashboard-host=127.0.0.1"]
        if name != "head":
            where = [f"--address={NET}.10:6379", "--num-cpus=4"]
        command = ["ray", "start", "--block", f"--node-ip-address={address}", f"--temp-dir={self._sockets}/{name}",
                   "--object-store-memory=200000000",
                   "--disable-usage-stats", *where, *options]  # fmt: skip
        shell = f'{before} && exec "$@"'
        log = Path(self._sockets) / f"{name}.log"
        for _ in range(5):  # Ray gives a node 30 seconds, and a busy machine may take longer
            with log.open("w") as said:
                self.nodes[name] = subprocess.Popen(
                    ["ip", "netns", "exec", space, "bash", "-c", shell, "bash", *command],
                    env={k: v for k, v in self.environment.items() if k != "RAY_ADDRESS" or name != "head"},
                    stdout=said, stderr=said, start_new_session=True,
                )  # fmt: skip
            while self.nodes[name].poll() is None:
                if "Ray runtime started" in log.read_text():
                    return
                time.sleep(0.2)
        raise AssertionError(log.read_text())

    def unplug(self, number: int) -> None:
        """A machine that nobody hears of again."""
        ip("link", "set", f"{self.tag}{number}v", "down")

    def lose(self, number: int) -> None:
        """A machine without power: until nothing runs there, not even what was just being started."""
        look = ["ip", "netns", "pids", f"{self.tag}{number}"]
        while left := subprocess.run(
            look, capture_output=True, text=True, check=True
        ).stdout.split():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.2)

    def call(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess:
        """A command on the head's machine."""
        return subprocess.run(
            ["ip", "netns", "exec", f"{self.tag}10", *words], env=self.environment, capture_output=True,
            text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def stop(self) -> None:
        for node in self.nodes.values():
            node.terminate()
        for node in self.nodes.values():
            with suppress(subprocess.TimeoutExpired):
                node.wait(30)
        spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
        for line in spaces.stdout.splitlines():
            if line.startswith(self.tag):
                space = line.split()[0]
                self.lose(int(space.removeprefix(self.tag)))
                ip("netns", "del", space)
                ip("link", "del", f"{space}v", check=False)
        ip("link", "del", self.tag)


@pytest.fixture
def machines() -> Iterator[Machines]:
    sockets = tempfile.mkdtemp(prefix="rd")  # paths of sockets are at most 107 bytes long
    found = Machines(f"rd{secrets.token_hex(2)}", sockets)
    try:
        yield found
    finally:
        found.stop()
        shutil.rmtree(sockets, ignore_errors=True)


def pool(name: str) -> str:
    return f'--resources={{"{name}_node": 1}}'


@pytest.mark.timeout(1200)
def test_machines_leave_and_join_and_the_student_stays_the_same(machines, tiny, tmp_path):
    """A teachers' machine falls silent, a student's dies; all that crosses machines goes by address."""
    alone, folder = tmp_path / "alone", tmp_path / "run"
    sections: dict[str, Any] = {
        "tracking": {"enabled": False},
        "store": {"enabled": False},
        "share": 1,
    }
    config = pooled(tiny, alone, tmp_path / "alone.yaml", **sections)
    command = [sys.executable, "-m", "raydistill", "train"]
    done = subprocess.run([*command, config], env=clean_environment(), capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr

    machines.start("head", 10)
    machines.start("teacher", 11, pool("teacher"))
    machines.start("student", 12, pool("student"))
    # This one sees an empty folder where the others see the run's.
    shared = tmp_path / "shared"
    shared.mkdir()
    machines.start("blind", 13, pool("student"), before=f"mount -t tmpfs none {shared}")
    config = pooled(tiny, shared / "run", tmp_path / "blind.yaml", **sections)
    refused = machines.call(*command, config)
    assert refused.returncode == 2, refused.stderr
    (line,) = refused.stderr.splitlines()
    assert line.startswith("run.output_dir must be storage that all nodes share, but ")
    assert f"is not seen on {NET}.13." in line

    config = pooled(tiny, folder, tmp_path / "config.yaml", **sections)
    run = subprocess.Popen(
        ["ip", "netns", "exec", f"{machines.tag}10", *command, config], env=machines.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        await_step(folder, 24)
        machines.unplug(11)
        machines.start("teacher2", 14, pool("teacher"))
        await_step(folder, 84)
        machines.lose(12)
        machines.start("student2", 15, pool("student"))
        said, _ = run.communicate(timeout=500)
    finally:
        run.kill()
    assert run.returncode == 0, said
    assert weights_hash(folder) == weights_hash(alone)
    assert losses_of(folder) == losses_of(alone)
