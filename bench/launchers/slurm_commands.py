"""Slurm's own commands: how they are asked, started and found missing, and the logs that they leave."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.errors import InputError, one_line
from bench.launchers.logs import opened

ANSWER_S = 60.0  # Slurm's commands give up on a silent controller after 9 to 18 s
# A launcher that is itself started in a job must not pass for a part of it, and its user's formats are not ours.
FOREIGN = ("SLURM_", "SALLOC_", "SRUN_", "SQUEUE_", "SINFO_", "SCANCEL_", "SCONTROL_")
# These say which cluster is meant and as whom: without them the commands would ask another one, or nobody.
INHERITED = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})
SILENT = ("unable to contact slurm controller", "socket timed out", "zero bytes were transmitted", "connect failure")
_STARTED: list[subprocess.Popen[bytes]] = []  # they outlive this process; Popen complains when one is let go of


def ask(*command: str) -> str:
    """Return what one of Slurm's commands prints.

    Raises:
        InputError: it is not installed, its controller does not answer, or it refuses.
    """
    try:
        done = subprocess.run(
            command,
            # Times are parsed, and printed in the zone and the language of whoever asks.
            env=environment() | {"LC_ALL": "C", "TZ": "UTC0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except OSError as error:
        raise missing(command[0], error) from None
    except subprocess.TimeoutExpired:
        raise InputError("engine-unreachable", f"did not end within {ANSWER_S:g} s", where=command[0]) from None
    if done.returncode != 0:
        said = one_line(" ".join(done.stderr.split()), 300) or f"ended with status {done.returncode}"
        if any(sign in said.lower() for sign in SILENT):
            fix = "wait until slurmctld answers again; what runs goes on meanwhile"
            raise InputError("engine-unreachable", f"Slurm does not answer: {said}", where=command[0], fix=fix)
        raise InputError("engine-failed", said, where=command[0])
    return done.stdout


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start what outlives this process and its terminal: in a session of its own, with no pipe to anybody.

    Raises:
        InputError: it is not installed, or its log cannot be written.
    """
    try:
        with opened(log) as output:
            process = subprocess.Popen(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except FileNotFoundError as error:
        raise missing(command[0], error) from None
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be written ({error.strerror})", where=log) from None
    _STARTED.append(process)
    return process


def environment() -> dict[str, str]:
    """Return this process's environment without what would change the meaning of Slurm's commands."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN) or name in INHERITED}


def missing(command: str, error: OSError) -> InputError:
    """Return the refusal of a command that cannot be started."""
    fix = "run this on a host from which jobs are submitted, with Slurm's commands on PATH"
    return InputError("engine-missing", f"cannot be started ({error.strerror})", where=command, fix=fix)
