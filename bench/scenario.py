"""What a fake device does: the script that ``bench.devices.fake`` follows, read from YAML.

Times are seconds from the opening of the core window (negative: in the warm-up). The file is named by the environment
variable PETASEAL_SCENARIO, so that worker processes find it too.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any, Literal

import msgspec
from msgspec import field

from bench.errors import InputError
from bench.record import Document, Name, Precision, Text, read_yaml
from bench.record.configs import YAML_MAX_BYTES
from bench.record.fields import in_words
from bench.record.node import CountUnit
from bench.record.reading import read_given

SCENARIO_VARIABLE = "PETASEAL_SCENARIO"
NODE_VARIABLE = "PETASEAL_NODE"  # the name of this node, in a campaign
Wrong = Literal["zero", "nan", "stale", "bf16", "element"]


class Throttle(Document, frozen=True, kw_only=True):
    """A stretch of time with a lower clock."""

    from_s: float
    to_s: float
    rate_ppm: int
    reason: str = "thermal"


class Script(Document, frozen=True, kw_only=True):
    """The scripted behaviour of one fake device."""

    rate_gflop_s: dict[Precision, int] = field(
        default_factory=lambda: {"fp16": 300_000, "fp32": 40_000, "fp64": 40_000}
    )
    curve: tuple[tuple[float, int], ...] = ()  # (second, rate in ppm), linear in between
    noise_ppm: int = 300  # standard deviation of the rate over one interval
    noise_correlation: float = 0.0  # AR(1) from one interval to the next
    noise_interval_s: float = 1.0
    throttle: tuple[Throttle, ...] = ()
    clock_mhz: int = 1_755
    power_mw: int = 650_000
    energy_ppm: int | None = None  # by how much the energy counter runs ahead of the power; null: there is none
    temperature_c: int = 62
    temperature_rise_c: int = 0  # still to come when load begins
    temperature_rise_s: float = 10.0  # time constant of the rise
    telemetry_interval_s: float = 0.0  # least time between two readings that are answered
    telemetry: bool = True
    ecc_error_at_s: float | None = None
    foreign_before: int = 0
    foreign_from_s: float | None = None
    first_launch_ns: int = 0  # by how much each kernel's first launch of a shape is longer: it loads or compiles
    event_ppm: int | None = 0  # by how much the device's own time is longer; null: it has none
    late_s: float = 0.0
    memory_limit_bytes: int | None = None  # less than it reports: operands beyond it do not fit
    hang_at_s: float | None = None
    fail_at_s: float | None = None
    die_at_s: float | None = None
    utc_step_at_s: float | None = None
    utc_step_s: float = 0.0
    wrong: Wrong | None = None
    wrong_from_s: float | None = None  # null: from the beginning
    wrong_sums_from_s: float | None = None  # that it contributes to reductions, after the last opened window
    only: Precision | None = None  # the precision in which hang, fail, die and wrong happen; null: each
    # uuid, serial, die_id, pci_address, parent as the driver would report them
    identity: dict[str, str | None] = field(default_factory=dict)


class Scenario(Document, frozen=True, kw_only=True):
    """All fakes of a node: a script for all, with what differs on single ones, by index."""

    vendor: Text = "petaseal"
    model: Text = "Fake-1"
    count_unit: CountUnit = "card"
    plays: Name | None = None  # id of the row of the ratings that the fakes are judged by; null: the one of their model
    default: Script = Script()
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock_uncertainty_ns: int | None = 1_000_000
    memory_bytes: int = 80 * 2**30
    cache_bytes: int | None = 50 * 2**20
    units: int | None = 128
    max_clock_mhz: int | None = 1_800

    def script(self, index: int) -> Script:
        """Return the script of one device.

        Raises:
            InputError: what the scenario says of it is not a script.
        """
        overrides = self.devices.get(str(index), {})
        try:
            return msgspec.convert(msgspec.to_builtins(self.default) | overrides, Script)
        except msgspec.ValidationError as error:
            raise InputError("config-invalid", in_words(error), where=f"scenario, device {index}") from None


def read_scenario() -> Scenario:
    """Return the scenario that the environment names; the default one where it names none."""
    path = os.environ.get(SCENARIO_VARIABLE)
    return read_yaml(Path(path), Scenario) if path else Scenario()


class Noise:
    """A reproducible AR(1) series of relative rates, one for each interval of a script."""

    def __init__(self, script: Script, index: int) -> None:
        self._script = script
        self._random = [Random(f"{index}/{side}") for side in ("before", "after")]  # noqa: S311 (a simulation)
        self._values: tuple[list[float], list[float]] = ([], [])

    def factor(self, second: float) -> float:
        """Return the rate at a time, relative to 1."""
        script = self._script
        if not script.noise_ppm:
            return 1.0
        side = second >= 0
        at = int(abs(second) / script.noise_interval_s)
        values, random = self._values[side], self._random[side]
        while len(values) <= at:
            last = values[-1] if values else 0.0
            fresh = random.gauss(0, script.noise_ppm / 1e6)
            values.append(script.noise_correlation * last + fresh * (1 - script.noise_correlation**2) ** 0.5)
        return max(0.01, 1 + values[at])


def interpolate(curve: tuple[tuple[float, int], ...], second: float) -> float:
    """Return a piecewise linear curve's value in ppm; 10^6 where there is none, its ends beyond them."""
    if not curve:
        return 1e6
    before = [point for point in curve if point[0] <= second]
    after = [point for point in curve if point[0] > second]
    if not before or not after:
        return float((before[-1] if before else after[0])[1])
    (x0, y0), (x1, y1) = before[-1], after[0]
    return y0 + (y1 - y0) * (second - x0) / (x1 - x0)


def use_scenario(scenario: Path | None) -> None:
    """Name the fakes' scenario in the environment, where worker processes find it too, after reading it once."""
    if scenario is not None:
        os.environ[SCENARIO_VARIABLE] = _lasting(scenario)
        read_scenario()


def _lasting(file: Path) -> str:
    """Return a name under which worker processes find a file too: a pipe gives its content once, and to this one."""
    if not file.is_fifo():
        return str(file.absolute())
    copy = os.memfd_create(file.name)
    os.write(copy, read_given(file, YAML_MAX_BYTES))
    return f"/proc/{os.getpid()}/fd/{copy}"
