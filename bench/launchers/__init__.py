"""The engines that start a campaign on all nodes of a centre: one file and one line in this table for each.

A launcher hands a gang of nodes over to the centre's own engine, finds it again by its name and ends it. It measures,
judges and schedules nothing.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from bench.errors import InputError
from bench.launchers.base import Launcher

LAUNCHERS = {
    "local": "bench.launchers.local:LocalLauncher",
    "slurm": "bench.launchers.slurm:SlurmLauncher",
    "kubernetes": "bench.launchers.kubernetes:KubernetesLauncher",
}
ENTRY_POINTS = "petaseal.launchers"


def launcher_names() -> dict[str, str]:
    """Return the launchers that are known, each with its "module:Class": the table and installed plug-ins."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} | LAUNCHERS


def load_launcher(name: str) -> Launcher:
    """Return a launcher.

    Raises:
        InputError: there is none of that name.
    """
    names = launcher_names()
    if name not in names:
        raise InputError(
            "unknown-launcher", f"there is no launcher named {name!r}", fix=f"choose from {', '.join(sorted(names))}"
        )
    module, _, attribute = names[name].partition(":")
    launcher: Launcher = getattr(importlib.import_module(module), attribute)()
    return launcher
