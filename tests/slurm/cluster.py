"""A real Slurm on this machine: its own munged, one slurmctld and several slurmd, each a "node" of its own.

Nothing of the system's configuration is read or changed. A node is a namespace of names, processes and mounts, so that
its host name and machine id differ from the others' and the whole of it can be lost at once, as in a power cut.
Every daemon is a child that the kernel ends with us, however we end.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "scontrol", "unshare", "setpriv")
NAMESPACES = ("unshare", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child")
READY_S = 30.0
CONFIGURATION = """\
ClusterName=petaseal
SlurmctldHost={host}({address})
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/socket/munge
CredType=cred/munge
CommunicationParameters={listening}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/spool/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
TaskProlog={folder}/task-prolog
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
TopologyPlugin=topology/tree
ReturnToService=2
SlurmdTimeout={slurmd_timeout_s}
SlurmctldTimeout=30
MessageTimeout=4
InactiveLimit=0
KillWait=30
MinJobAge=300
WaitTime=0
SlurmdParameters=config_overrides
"""
PROLOG = """\
#!/bin/sh
cd {folder}
while [ -e gate/"$SLURMD_NODENAME" ]; do sleep 0.1; done
cat environment/"$SLURMD_NODENAME"
{{ echo -15 >/proc/$PPID/autogroup; renice -n -15 -p $PPID; }} >/dev/null 2>&1  # a busy host shall not spoil a window
exit 0
"""


def missing() -> str | None:
    """Return why no cluster can be made here; None where it can."""
    if os.geteuid() != 0:
        return "a private Slurm needs root, for namespaces"
    absent = [name for name in PROGRAMS if _program(name) is None]
    if absent:
        return f"{', '.join(absent)} is not installed (Debian: slurm-wlm, munge)"
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"there are no namespaces: {tried.stderr.strip()}"


def require() -> None:
    """Skip the test where no cluster can be made, save in CI, where it fails."""
    why = missing()
    if why is not None:
        assert not os.environ.get("CI"), why
        pytest.skip(why)


@contextlib.contextmanager
def private_slurm(nodes: int | Sequence[str], **settings: Any) -> Iterator[Cluster]:
    """Start a cluster in a folder of its own, which is removed afterwards; `settings` as of `Cluster`."""
    require()
    folder = short_folder()
    try:
        with Cluster(folder, nodes, **settings) as started:
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def short_folder() -> Path:
    """Return a new folder for a cluster: a socket's path has 108 bytes at most, and munge wants it open to all."""
    folder = Path(mkdtemp(prefix="petaseal-slurm-"))
    folder.chmod(0o755)
    return folder


class Cluster:
    """A private Slurm; its nodes are named node1, node2, ... and stand in racks of two.

    The partition "all" is the default; "short" has the same nodes and allows 2 minutes.

    Args:
        folder: an empty folder with a short path that all users may enter (see `short_folder`).
        nodes: how many, or their names.
        gpus: of each node; they are character devices that do nothing.
        slurmd_timeout_s: after which a node that does not answer is down.
        partitions: further ones, each with its nodes.
    """

    listening = "NoInAddrAny,NoCtldInAddrAny"  # at 127.0.0.1 alone
    namespaces: tuple[str, ...] = NAMESPACES  # of a node

    def __init__(
        self,
        folder: Path,
        nodes: int | Sequence[str],
        gpus: int = 0,
        slurmd_timeout_s: int = 5,
        partitions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = folder
        named = [f"node{index}" for index in range(1, nodes + 1)] if isinstance(nodes, int) else nodes
        self.names = tuple(named)
        self.partitions = dict(partitions or {})
        self.gpus = gpus
        self.slurmd_timeout_s = slurmd_timeout_s
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        atexit.register(self.stop)
        try:
            self._lay_out()
            munge = ("--key-file", self.folder / "munge/key", "--seed-file", self.folder / "munge/seed")
            files = ("--pid-file", self.folder / "munge/pid", "--log-file", self.folder / "log/munged.log")
            self._daemon("munged", "munged", "--foreground", "--socket", self.folder / "socket/munge", *munge, *files)
            until((self.folder / "socket/munge").exists, what="munged")
            self.start_controller()
            for name in self.names:
                self._boot(name)
            until(lambda: all(self.state(name) == "idle" for name in self.names), what="every node")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything that was started; to be called as often as one likes."""
        for daemon in reversed(self.daemons.values()):
            daemon.kill()
        for daemon in self.daemons.values():
            daemon.wait()
        self.daemons.clear()
        atexit.unregister(self.stop)

    def kill_node(self, name: str) -> None:
        """Lose a whole node with all that runs on it, as in a power cut."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def start_node(self, name: str) -> None:
        """Start a node again and wait until Slurm takes it back."""
        self._boot(name)
        until(lambda: not self.state(name).startswith(("down", "unknown")) and "*" not in self.state(name), what=name)

    def stop_controller(self, kill: bool = False) -> None:
        """End slurmctld: in order, so that it saves what it knows, or at once."""
        daemon = self.daemons.pop("slurmctld")
        daemon.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        daemon.wait()

    def start_controller(self) -> None:
        """Start slurmctld, which goes on with what it knew, and wait until it answers."""
        self._daemon("slurmctld", "slurmctld", "-D")
        until(lambda: "is UP" in self.run("scontrol", "ping"), what="slurmctld")

    def drain(self, name: str, reason: str) -> None:
        """Let a node take no further job."""
        self.run("scontrol", "update", f"nodename={name}", "state=drain", f"reason={reason}")

    def resume(self, name: str) -> None:
        """Let a node take jobs again."""
        self.run("scontrol", "update", f"nodename={name}", "state=resume")

    def set_environment(self, name: str, variables: Mapping[str, str]) -> None:
        """Set the environment variables that every task on a node finds, whatever its submitter had."""
        lines = [f"export {variable}={value}\n" for variable, value in variables.items()]
        (self.folder / "environment" / name).write_text("".join(lines))

    def hold_tasks(self, name: str, hold: bool) -> None:
        """Let no task begin on a node, though Slurm has started it, until it is called again with False."""
        gate = self.folder / "gate" / name
        gate.touch() if hold else gate.unlink(missing_ok=True)

    def hide(self, name: str, folder: Path, hidden: bool = True) -> None:
        """Let a node see an empty folder of its own in the place of one that all share, or the shared one again."""
        unshare = self.daemons[name].pid
        (first,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        what = ("mount", "-t", "tmpfs", "tmpfs") if hidden else ("umount",)
        subprocess.run(["nsenter", "--target", first, "--mount", *what, str(folder)], check=True)

    def state(self, name: str) -> str:
        """Return a node's state in Slurm's words, such as "idle" or "down*"."""
        return self.run("sinfo", "-h", "-p", "all", "-n", name, "-o", "%T").strip()

    def run(self, *command: str) -> str:
        """Return what one of Slurm's commands prints, whatever its exit status."""
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60).stdout

    def address(self, name: str | None) -> str:
        """Return the address of a node, or of the controller."""
        return "127.0.0.1"

    def before_slurmd(self, name: str) -> Sequence[str]:
        """Return what a node's shell runs before it starts slurmd."""
        return ()

    def _daemon(self, name: str, program: str, *arguments: str | Path) -> None:
        """Start a child that dies with us."""
        path = _program(program)
        assert path is not None
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                [_program("setpriv") or "setpriv", "--pdeathsig", "KILL", path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env},
                start_new_session=True,
            )

    def _boot(self, name: str) -> None:
        """Start a node: a shell that is the first process of its namespace, and slurmd in it."""
        quoted = {file: shlex.quote(str(self.folder / file)) for file in ("hosts", f"machine-id/{name}")}
        lines = [f"mount --bind {quoted['hosts']} /etc/hosts", f"hostname {name}", *self.before_slurmd(name)]
        if Path("/etc/machine-id").exists():
            lines.append(f"mount --bind {quoted[f'machine-id/{name}']} /etc/machine-id")
        lines += [f"{_program('slurmd')} -D -N {name} &", "wait"]
        self._daemon(name, *self.namespaces, "bash", "-ec", "\n".join(lines))

    def _lay_out(self) -> None:
        for part in ("state", "spool", "log", "socket", "munge", "environment", "gate", "machine-id", "tmp", "dev"):
            (self.folder / part).mkdir()
        (self.folder / "munge").chmod(0o700)
        for name in self.names:
            (self.folder / "spool" / name).mkdir()
            (self.folder / "tmp" / name).mkdir()
            self.set_environment(name, {})
            digits = sha256(f"{self.folder}/{name}".encode()).hexdigest()[:32]
            (self.folder / "machine-id" / name).write_text(f"{digits}\n")
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        own = "".join(f"{self.address(name)} {name}\n" for name in self.names)
        (self.folder / "hosts").write_text(Path("/etc/hosts").read_text() + own)
        prolog = self.folder / "task-prolog"
        prolog.write_text(PROLOG.format(folder=shlex.quote(str(self.folder))))
        prolog.chmod(0o755)
        (self.folder / "slurm.conf").write_text(self._configuration())
        racks = [self.names[start : start + 2] for start in range(0, len(self.names), 2)]
        lines = [f"SwitchName=rack{i} Nodes={','.join(rack)}\n" for i, rack in enumerate(racks, 1)]
        lines.append(f"SwitchName=spine Switches={','.join(f'rack{i}' for i in range(1, len(racks) + 1))}\n")
        (self.folder / "topology.conf").write_text("".join(lines))
        for index in range(self.gpus):
            os.mknod(self.folder / f"dev/nvidia{index}", 0o600 | 0o020000, os.makedev(1, 3))
        if self.gpus:
            (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/dev/nvidia[0-{self.gpus - 1}]\n")

    def _configuration(self) -> str:
        host = socket.gethostname().split(".")[0]
        controller, *ports = free_ports(len(self.names) + 1)
        text = CONFIGURATION.format(
            host=host,
            address=self.address(None),
            listening=self.listening,
            port=controller,
            folder=self.folder,
            slurmd_timeout_s=self.slurmd_timeout_s,
        )
        gres = f" Gres=gpu:{self.gpus}" if self.gpus else ""
        for name, port in zip(self.names, ports, strict=True):
            where = f"NodeHostname={host} NodeAddr={self.address(name)} Port={port}"
            text += f"NodeName={name} {where} CPUs=2 RealMemory=4000{gres} State=UNKNOWN\n"
        text += "GresTypes=gpu\n" if self.gpus else ""
        text += "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
        for partition, members in self.partitions.items():
            text += f"PartitionName={partition} Nodes={','.join(members)} MaxTime=INFINITE State=UP\n"
        return text + "PartitionName=short Nodes=ALL MaxTime=2 State=UP\n"


def free_ports(count: int) -> Sequence[int]:
    """Return ports on which nobody listens, below those that the kernel gives to outgoing connections."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(range(20000, 32000), 4000):
            one = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("there are no free ports")


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def until(holds: Callable[[], object], limit_s: float = READY_S, what: str = "what was waited for") -> None:
    """Wait until something holds."""
    ends = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < ends, f"{what} did not come true within {limit_s:g} s"
        time.sleep(0.05)
