"""Ends a campaign: first the engine's jobs, whatever the folder allows, then the flag that every node looks for.

Jobs are found by their names, which follow from the campaign's id and its pools: no private file is needed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.campaign.launch.plan import LaunchPlan, gang_name, gangs
from bench.campaign.opening import NO_ENGINE, OpenCampaign, ReadCampaign
from bench.errors import InputError, PetasealError
from bench.launchers import load_launcher
from bench.launchers.base import Gang, Launcher
from bench.record import write_atomic
from bench.record.folder import Folder
from bench.record.status import Launched

LOG_SUFFIXES = (".launch.log", ".nodes")  # of the files that Slurm's gangs leave among the logs


class Aborted(NamedTuple):
    """What an abort has done, and what it could not do."""

    ended: tuple[str, ...]  # each job that was ended, by its engine and its number
    problems: tuple[str, ...]
    error: PetasealError | None  # what of the folder could not be read or written
    is_unmarked: bool  # whether the flag could not be written


def abort(root: Path, read_campaign: ReadCampaign) -> Aborted:
    """End a campaign's jobs, then write the flag.

    Raises:
        InputError: `campaign-folder-invalid`: it is not the folder of a campaign.
    """
    folder = Folder(root.absolute())
    engine_gangs = _GangsInFolder(folder, read_campaign)
    ended: list[str] = []
    problems: list[str] = []
    if engine_gangs.engine not in (None, NO_ENGINE):
        launcher = load_launcher(engine_gangs.engine)
        # One that cannot be ended must not keep the others from being ended.
        for gang in engine_gangs.gangs:
            try:
                ended += _end(launcher, engine_gangs.engine, gang, folder)
            except (PetasealError, OSError) as refused:
                what = f"{gang.name} could not be ended ({refused}); its nodes end by themselves once they see the flag"
                problems.append(what)
    error, is_unmarked = engine_gangs.error, False
    try:
        write_atomic(folder.abort_file, b"")  # an empty file needs no room on a disk that is full
    except InputError as unwritten:
        problems.append("the flag could not be written: end a launch that still runs, and what was started by hand")
        error, is_unmarked = unwritten, True
    return Aborted(tuple(ended), tuple(problems), error, is_unmarked)


class _GangsInFolder:
    """The gangs of a campaign and their engine, as far as its folder can be read."""

    def __init__(self, folder: Folder, read_campaign: ReadCampaign) -> None:
        self.engine: str | None = None
        self.gangs: list[Gang] = []
        self.error: PetasealError | None = None
        launched: Launched | None = None
        opened: OpenCampaign | None = None
        try:
            opened = OpenCampaign.at(folder.root, read_campaign)
            self.engine = opened.roster.engine if folder.lock_file.exists() else None  # a check leaves no launch.json
        except PetasealError as unread:
            if not _is_campaigns(folder):
                raise
            self.error = unread
        try:
            launched = folder.launched()
        except PetasealError as unread:
            self.error = unread
        if launched is not None:
            self.engine = launched.engine
        options = launched.options if launched is not None else ()
        if opened is not None:
            plan = LaunchPlan(self.engine or NO_ENGINE, (), options, launched.reservation if launched else None)
            for checks in (False, True):
                of_kind = plan._replace(check_only=checks)
                self.gangs += gangs(opened, of_kind)
        else:
            self.gangs = [_named(folder, name, options) for name in _names(folder, read_campaign)]
        self.engine = self.engine or _engine_of_logs(folder)


def _is_campaigns(folder: Folder) -> bool:
    """Return whether a folder is or was a campaign's, so far as can be seen."""
    return any(os.path.lexists(file) for file in (folder.campaign, folder.roster_file))


def _names(folder: Folder, read_campaign: ReadCampaign) -> list[str]:
    """Return the names of a campaign's gangs without its roster: by the signed campaign, else by what lies in logs."""
    try:
        campaign = read_campaign(folder.campaign)
    except PetasealError:
        logs = (file.name for file in _files(folder) if file.name.startswith("petaseal-"))
        return sorted({name.removesuffix(end) for name in logs for end in LOG_SUFFIXES if name.endswith(end)})
    pools = [pool.pool for pool in campaign.pools]
    return [gang_name(campaign.campaign_id, pool, checks) for checks in (False, True) for pool in pools]


def _named(folder: Folder, name: str, options: Sequence[str]) -> Gang:
    """Return a gang of which nothing but its name is known; its nodes by the files of the local engine."""
    files = [file.name for file in _files(folder) if file.name.startswith(f"{name}.") and file.suffix == ".pid"]
    nodes = tuple(file.removeprefix(f"{name}.").removesuffix(".pid") for file in files)
    return Gang(name, name, nodes, (), folder.logs, 0, options=tuple(options))


def _engine_of_logs(folder: Folder) -> str | None:
    """Return the engine by the files that its gangs leave."""
    names = [file.name for file in _files(folder)]
    if any(name.endswith(".pid") for name in names):
        return "local"
    return "slurm" if any(name.endswith(".launch.log") for name in names) else None


def _files(folder: Folder) -> Iterable[Path]:
    try:
        return list(folder.logs.iterdir())
    except OSError:
        return ()


def _end(launcher: Launcher, engine: str, gang: Gang, folder: Folder) -> list[str]:
    """End a gang of this user or, where there is none, of the user who launched it, and say which it was."""
    state = launcher.state(gang)
    # An engine looks for jobs of the user who asks; an administrator may end what another has launched.
    if state.phase not in ("queued", "running"):
        owner = launcher_user(folder)
        if owner is not None:
            gang = gang._replace(user=owner)
            state = launcher.state(gang)
    launcher.cancel(gang)
    if state.phase not in ("queued", "running"):
        return []
    job = f"job {state.job_id} ({gang.name})" if state.job_id else f"the processes of {gang.name}"
    return [f"{engine}: {job}, which was {state.phase}, was ended"]


def launcher_user(folder: Folder) -> int | None:
    """Return the uid that owns a campaign's launch files; None where it is this process's, or there are none."""
    for file in (folder.launch_file, folder.lock_file):
        with contextlib.suppress(OSError):
            owner = file.stat().st_uid
            return owner if owner != os.getuid() else None
    return None
