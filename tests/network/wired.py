"""A private Slurm whose nodes have a network namespace each, joined by the relay.

Slurm's own messages go over a management network without limits, on which the controller is too; what the nodes
exchange among themselves goes over the fabric, whose numbers a test sets.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from tests.network import relay
from tests.network.relay import Relay, random_network, wait_for_namespace
from tests.network.switch import FABRIC
from tests.slurm import cluster
from tests.slurm.cluster import Cluster, short_folder

MANAGEMENT_MTU = 1500


class WiredCluster(Cluster):
    """A private Slurm over a relay, which it starts and ends with itself."""

    # Bound to no address: the one that this machine's name has, to which Slurm would bind, is not on that network.
    listening = "EnableIPv4"
    namespaces = (cluster.NAMESPACES[0], "--net", *cluster.NAMESPACES[1:])

    def start(self) -> None:
        """Start the relay, then everything else."""
        self.management, self.fabric = (f"{random_network()}" for _ in range(2))
        while self.fabric == self.management:
            self.fabric = random_network()
        self.relay = Relay().__enter__()
        try:
            self.relay.join("management", None, self.interface, self.address(None), MANAGEMENT_MTU)
            super().start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything that was started."""
        super().stop()
        self.relay.__exit__(None, None, None)

    @property
    def interface(self) -> str:
        """The management network's device on this machine itself; several clusters may be there at once."""
        _, second, third = self.management.split(".")
        return f"seal{second}x{third}"

    def address(self, name: str | None) -> str:
        """Return the address of a node on the management network, or of the controller."""
        return f"{self.management}.{254 if name is None else self.names.index(name) + 1}"

    def before_slurmd(self, name: str) -> Sequence[str]:
        """Return how a node waits for its devices."""
        return (f"until [ -e {shlex.quote(str(self._wired(name)))} ]; do sleep 0.02; done",)

    def _boot(self, name: str) -> None:
        self._wired(name).unlink(missing_ok=True)
        super()._boot(name)
        pid = self.daemons[name].pid
        wait_for_namespace(pid)
        self.relay.join("management", pid, "management0", self.address(name), MANAGEMENT_MTU)
        self.relay.join("fabric", pid, FABRIC, f"{self.fabric}.{self.names.index(name) + 1}")
        self._wired(name).touch()

    def _wired(self, name: str) -> Any:
        return self.folder / "spool" / f"{name}.wired"


@contextlib.contextmanager
def wired_slurm(nodes: int, **settings: Any) -> Iterator[WiredCluster]:
    """Start a cluster with a relay; `settings` as of `Cluster`."""
    cluster.require()
    relay.require()
    folder = short_folder()
    try:
        with WiredCluster(folder, nodes, **settings) as started:
            assert isinstance(started, WiredCluster)
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)
