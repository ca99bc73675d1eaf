"""How a GPU is set, as NVML reports it: power limits, the clock that is set, and modes with what waits for a reset.

Each query that driver or GPU does not have is left out. Source: NVML API reference (device queries, device modes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.devices.libraries import answers

Ask = Callable[..., Any]  # of one function of NVML: its answer, None where library, driver or device lacks it
GRAPHICS_CLOCK = 0
SWITCH: dict[object, str] = {0: "off", 1: "on"}
COMPUTE_MODES: dict[object, str] = {0: "default", 1: "exclusive-thread", 2: "prohibited", 3: "exclusive-process"}


class GpuSettings(NamedTuple):
    """Settings of a GPU that bear on its figure; None where NVML does not report one."""

    power_limit_mw: int | None = None  # that is enforced: the least of all that limit it
    power_limit_default_mw: int | None = None
    power_limit_max_mw: int | None = None
    locked_clock_mhz: int | None = None  # of applications
    modes: tuple[tuple[str, str], ...] = ()

    def of_instance(self) -> GpuSettings:
        """Return the settings of a MIG instance: the GPU's modes and locked clock, without its power limits."""
        return self._replace(power_limit_mw=None, power_limit_default_mw=None, power_limit_max_mw=None)


def settings(ask: Ask, handle: Any) -> GpuSettings:
    """Return how a whole GPU is set.

    Raises:
        DeviceError: the GPU is lost or must be reset.
    """
    limits = ask("nvmlDeviceGetPowerManagementLimitConstraints", handle)
    return GpuSettings(
        power_limit_mw=answers.power_mw(ask("nvmlDeviceGetEnforcedPowerLimit", handle)),
        power_limit_default_mw=answers.power_mw(ask("nvmlDeviceGetPowerManagementDefaultLimit", handle)),
        power_limit_max_mw=None if limits is None else answers.power_mw(limits[1]),
        locked_clock_mhz=ask("nvmlDeviceGetApplicationsClock", handle, GRAPHICS_CLOCK) or None,
        modes=tuple(sorted(_modes(ask, handle).items())),
    )


def _modes(ask: Ask, handle: Any) -> dict[str, str]:
    """Return the modes by name; one that changes at the next reset has its pending value beside it."""
    modes: dict[str, str | None] = {
        "persistence": SWITCH.get(ask("nvmlDeviceGetPersistenceMode", handle)),
        "compute": COMPUTE_MODES.get(ask("nvmlDeviceGetComputeMode", handle)),
    }
    for name, function in (("ecc", "nvmlDeviceGetEccMode"), ("mig", "nvmlDeviceGetMigMode")):
        now, pending = ask(function, handle) or (None, None)
        modes[name] = SWITCH.get(now)
        if pending != now:
            modes[f"{name}-pending"] = SWITCH.get(pending)
    confidential = ask("nvmlSystemGetConfComputeState")
    if confidential is not None:
        modes["confidential"] = SWITCH.get(confidential.ccFeature)
    return {name: value for name, value in modes.items() if value is not None}
