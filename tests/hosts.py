"""Hosts with addresses and names of their own on one machine: Linux network namespaces on a switch.

A host has its own interfaces, its own loopback, its own name, an /etc/hosts that knows all of them, and one folder of
which every host has another one under the same path, as hosts have their own /tmp. It shares the rest of the file
system with the others, as hosts of a cluster share theirs, and the processors.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_TOOLS = ("ip", "unshare", "mount", "hostname")
# Own mounts and name, then the program.
_ENTER = 'mount --bind "$1" /etc/hosts && mount --bind "$2" "$3" && hostname "$4" && shift 4 && exec "$@"'


def why_not() -> str:
    """Say why hosts cannot be made here; empty where they can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed (iproute2, util-linux)"
    name = f"snag-{os.getpid()}-probe"
    tried = _call("ip", "netns", "add", name)
    if tried.returncode:
        return f"no network namespaces: {tried.stderr.strip()}"
    try:
        steps = [
            ("ip", "-n", name, "link", "add", "s0", "type", "bridge"),
            ("ip", "-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1"),
            ("unshare", "--mount", "--uts", "hostname", "probe"),
        ]
        failed = [tried.stderr.strip() for tried in (_call(*step) for step in steps) if tried.returncode]
    finally:
        _call("ip", "netns", "delete", name)
    return f"no virtual network: {failed[0]}" if failed else ""


@dataclass(frozen=True)
class Host:
    """One host on a network.

    Attributes:
        name: its host name.
        address: its IPv4 address.
        namespace: of its network.
        hosts_file: what it reads as /etc/hosts.
        local: folder that it has for itself: not what other hosts find under this path.
    """

    name: str
    address: str
    namespace: str
    hosts_file: Path
    local: Path

    def command(self, command: list[str]) -> list[str]:
        """Return the command that runs another one on this host."""
        enter = ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--uts", "sh", "-c", _ENTER, "sh"]
        disk = self.hosts_file.with_name(self.name)
        return [*enter, str(self.hosts_file), str(disk), str(self.local), self.name, *command]

    def run(self, command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run a command on this host to its end."""
        return subprocess.run(self.command(command), env=environment, capture_output=True, text=True, timeout=600)

    def start(self, command: list[str], environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a command on this host."""
        with log.open("w") as output:
            return subprocess.Popen(
                self.command(command), env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
            )

    def processes(self, kind: str) -> list[psutil.Process]:
        """Living processes on this host, of a kind: part of their command."""
        found: list[psutil.Process] = []
        for pid in self._pids():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if any(kind in word for word in process.cmdline()[:1]):
                    found.append(process)
        return found

    def vanish(self) -> None:
        """Be gone at once, as a machine is that lost its power: no connection is closed, nothing says goodbye."""
        _call("ip", "-n", self.namespace, "link", "set", "eth0", "down")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            pids = self._pids()
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        raise AssertionError(f"{self.name}: processes {pids} outlived SIGKILL")

    def _pids(self) -> list[int]:
        return [int(pid) for pid in _call("ip", "netns", "pids", self.namespace).stdout.split()]


@dataclass
class Network:
    """A switch, and hosts 10.77.0.1, 10.77.0.2, ... on it; a context that leaves nothing behind but `folder`.

    Attributes:
        folder: of the hosts' own files.
        num_hosts: how many.
        local: an empty folder, see `Host.local`.
        hosts: what is on the network while it is up.
    """

    folder: Path
    num_hosts: int
    local: Path
    hosts: list[Host] = field(default_factory=list)

    @property
    def _switch(self) -> str:
        return f"snag-{os.getpid()}-switch"

    def __enter__(self) -> list[Host]:
        try:
            self._plug()
        except BaseException:
            self.__exit__()
            raise
        return self.hosts

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.vanish()
            _call("ip", "netns", "delete", host.namespace)
        _call("ip", "netns", "delete", self._switch)

    def _plug(self) -> None:
        names = [f"host{number}" for number in range(1, self.num_hosts + 1)]
        addresses = [f"10.77.0.{number}" for number in range(1, self.num_hosts + 1)]
        entries = ["127.0.0.1 localhost", *(" ".join(pair) for pair in zip(addresses, names, strict=True))]
        hosts_file = self.folder / "hosts"
        hosts_file.write_text("\n".join(entries) + "\n")
        _must("ip", "netns", "add", self._switch)
        _must("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _must("ip", "-n", self._switch, "link", "set", "bridge", "up")
        for name, address in zip(names, addresses, strict=True):
            namespace = f"snag-{os.getpid()}-{name}"
            _must("ip", "netns", "add", namespace)
            (self.folder / name).mkdir()
            self.hosts.append(Host(name, address, namespace, hosts_file, self.local))
            # Made inside the switch, and one end handed to the host: the machine's own network sees neither.
            wire = ("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _must("ip", "-n", self._switch, *wire)
            _must("ip", "-n", self._switch, "link", "set", name, "master", "bridge", "up")
            _must("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            _must("ip", "-n", namespace, "link", "set", "eth0", "up")
            _must("ip", "-n", namespace, "link", "set", "lo", "up")


def _call(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def _must(*command: str) -> None:
    done = _call(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
