"""What is read of another tool's output: its runs, those that failed with the codes that refuse them, its buses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from certify.documents.evidence import BusRun, EvidenceKind, SolveRun
from certify.policy.reasons import effect_of

Family = Literal["hpl", "nccl-tests", "hccl-test"]  # the word after `import`; "hpl" covers HPCC, HPL-MxP and HPCG
MOST_RUNS = 1000  # of one document, of each list


class ReaderOptions(NamedTuple):
    """What no tool prints, and only who brings the file knows. Null: not known.

    Args:
        utc_offset_minutes: of the local times that HPL prints without a zone; 480 for China.
        collective: of hccl_test and of older nccl-tests, such as "all-reduce".
        ranks: of hccl_test.
    """

    utc_offset_minutes: int | None = None
    collective: str | None = None
    ranks: int | None = None


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """Everything that is read of one file.

    Args:
        tool: as the output names itself, such as "HPL-NVIDIA 25.9.0".
        kind: what it is evidence of.
        runs: that passed, in the order of the file.
        failed: that did not, each with at least one code that refuses it.
        buses: sizes of a collective benchmark; one that failed its check has a code that refuses it.
        codes: notes about the file as a whole.
        is_per_device: whether the tool runs one rank a device, so that P x Q counts devices.
    """

    tool: str
    kind: EvidenceKind
    runs: tuple[SolveRun, ...] = ()
    failed: tuple[SolveRun, ...] = ()
    buses: tuple[BusRun, ...] = ()
    codes: tuple[str, ...] = ()
    is_per_device: bool = False


def is_refused(codes: Iterable[str]) -> bool:
    """Return whether one of the codes refuses what bears it."""
    return any(effect_of(code) != "note" for code in codes)


def partition_runs(output: ToolOutput, runs: Sequence[SolveRun]) -> ToolOutput:
    """Return an output with some runs in place of its own: those with a code that refuses them are its failed ones."""
    return replace(
        output,
        runs=tuple(run for run in runs if not is_refused(run.codes)),
        failed=tuple(run for run in runs if is_refused(run.codes)),
    )
