"""Checks of the devices themselves: who they are, how they are set, and what shape they are in. Pure."""

from __future__ import annotations

from collections.abc import Callable

from bench.doctor.outcomes import ABSENT, CheckCase, Judgement, Outcome, Values, findings, over_devices, unread
from bench.doctor.view import DeviceView, NodeView
from bench.record import DeviceModel
from bench.telemetry import Reading
from bench.units import full_name, shortened_list

PENDING = "-pending"
NVIDIA = "nvidia"


def device_fault(view: NodeView) -> Outcome:
    """A device is lost or broken."""
    cases = [CheckCase({"what": one.what, "code": one.code}, one.device.device) for one in view.faulty]
    return findings(cases) if cases or view.devices else ABSENT


def device_unusable(view: NodeView) -> Outcome:
    """A device is there, and this node's stack cannot compute on it."""
    return findings(CheckCase({"what": what}) for what in view.unusable)


def identity_shared(view: NodeView) -> Outcome:
    """Two devices report one identity."""
    return findings(CheckCase({"what": what}) for what in view.colliding)


def compute_prohibited(view: NodeView) -> Outcome:
    """The compute mode prohibits computing."""
    return _mode(view, "compute", lambda mode: [{"mode": mode}] if mode == "prohibited" else [])


def compute_exclusive(view: NodeView) -> Outcome:
    """The compute mode is exclusive to one process."""
    return _mode(view, "compute", lambda mode: [{"mode": mode}] if mode.startswith("exclusive") else [])


def persistence(view: NodeView) -> Outcome:
    """Persistence mode is off: the driver unloads the state of an unused device."""
    return _mode(view, "persistence", lambda mode: [{"mode": mode}] if mode == "off" else [])


def mig(view: NodeView) -> Outcome:
    """The GPU is in MIG mode: instances are measured, and not the GPU."""
    return _mode(view, "mig", lambda mode: [{"mode": mode}] if mode == "on" else [])


def confidential(view: NodeView) -> Outcome:
    """Confidential computing is on."""
    return _mode(view, "confidential", lambda mode: [{"mode": mode}] if mode == "on" else [])


def ecc_off(view: NodeView) -> Outcome:
    """The memory is not error-corrected."""
    # Not of NVIDIA alone: memory of others is corrected too, and whether it is their tools do not say.
    return _mode(view, "ecc", lambda mode: [{"mode": mode}] if mode == "off" else [], of_all=True)


def _mode(view: NodeView, name: str, judge: Callable[[str], list[Values]], of_all: bool = False) -> Outcome:
    """Return the result of checking one mode of the devices.

    Args:
        view: the node.
        name: of the mode.
        judge: says what of its value.
        of_all: whether each vendor's devices have it; else NVIDIA's alone.
    """

    def of_device(one: DeviceView) -> Judgement:
        mode = one.local.model.modes.get(name)
        if mode is not None:
            return judge(mode)
        has_it = not one.is_cpu if of_all else one.local.model.vendor.casefold() == NVIDIA
        return "not-reported" if has_it else "absent"

    return over_devices(view.devices, of_device)


def mode_pending(view: NodeView) -> Outcome:
    """A mode, such as ECC, changes at the next reset."""

    def judge(one: DeviceView) -> Judgement:
        modes = one.local.model.modes
        waiting = {name.removesuffix(PENDING): mode for name, mode in modes.items() if name.endswith(PENDING)}
        if not modes:
            return "absent" if one.is_cpu else "not-reported"
        return [{"mode": name, "now": modes.get(name, "?"), "next": mode} for name, mode in waiting.items()]

    return over_devices(view.devices, judge)


def power_cap(view: NodeView) -> Outcome:
    """The power limit is below the default."""

    def judge(one: DeviceView) -> Judgement:
        limit, default = one.local.model.power_limit_mw, one.local.model.power_limit_default_mw
        if limit is None or default is None:
            return "absent" if one.is_cpu else "not-reported"
        return [{"limit": _watts(limit), "default": _watts(default)}] if limit < default else []

    return over_devices(view.devices, judge)


def _watts(mw: int) -> str:
    return f"{mw / 1000:g}"


def clock_cap(view: NodeView) -> Outcome:
    """An accelerator's clock is locked, or capped for applications, below the highest."""

    def judge(one: DeviceView) -> Judgement:
        cap, highest = one.local.model.locked_clock_mhz, one.local.model.max_clock_mhz
        if one.is_cpu:
            return "absent"
        if cap is None or highest is None:
            return "not-reported"
        return [{"cap": str(cap), "highest": str(highest)}] if cap < highest else []

    return over_devices(view.devices, judge)


def throttled(view: NodeView) -> Outcome:
    """A device is throttled, under no load of ours."""

    def judge(one: DeviceView, reading: Reading) -> Judgement:
        if reading.throttled is None:
            return "not-reported"
        return [{"reasons": ", ".join(reading.throttled)}] if reading.throttled else []

    return _of_readings(view, judge)


def foreign_process(view: NodeView) -> Outcome:
    """Another process has a context on a device."""

    def judge(one: DeviceView, reading: Reading) -> Judgement:
        if reading.processes is None:
            return "absent" if one.is_cpu else "not-reported"
        if reading.processes == 0 and view.host.is_container:  # a driver shows a container no process but its own
            return "hidden"
        return [{"count": str(reading.processes)}] if reading.processes else []

    return _of_readings(view, judge, view.refuses_busy)


def ecc_errors(view: NodeView) -> Outcome:
    """Uncorrected memory errors were counted since the driver was loaded."""

    def judge(one: DeviceView, reading: Reading) -> Judgement:
        if reading.ecc_uncorrected is None:
            return "absent" if one.is_cpu else "not-reported"
        return [{"count": str(reading.ecc_uncorrected)}] if reading.ecc_uncorrected else []

    return _of_readings(view, judge)


def _of_readings(
    view: NodeView, judge: Callable[[DeviceView, Reading], Judgement], counts_0: bool | None = None
) -> Outcome:
    """Return the result of checking the first reading of each device."""

    def of_device(one: DeviceView) -> Judgement:
        if one.reading is None:
            return "absent" if one.is_cpu else "no-reading"
        return judge(one, one.reading)

    return over_devices(view.devices, of_device, counts_0)


def rows_remapped(view: NodeView) -> Outcome:
    """Rows of a GPU's memory wait for a reset to be replaced, or there is no spare row left."""

    def judge(one: DeviceView) -> Judgement:
        if one.repairs is None:
            return "absent" if one.is_cpu else "not-reported"
        if not (one.repairs.pending or one.repairs.failed):
            return []
        states = [name for name in ("pending", "failed") if getattr(one.repairs, name)]
        return [{"state": ", ".join(states), "count": str(one.repairs.remapped)}]

    return over_devices(view.devices, judge)


def pcie_width(view: NodeView) -> Outcome:
    """A link has fewer lanes than the device could have."""

    def judge(one: DeviceView) -> Judgement:
        if one.link is None:
            return "absent"
        if one.link.width is None or one.link.max_width is None:
            return "not-shown"
        is_narrow = one.link.width < one.link.max_width
        return [{"width": str(one.link.width), "highest": str(one.link.max_width)}] if is_narrow else []

    return over_devices(view.devices, judge)


def pcie_speed(view: NodeView) -> Outcome:
    """A link is slower than the device could have it."""

    def judge(one: DeviceView) -> Judgement:
        if one.link is None:
            return "absent"
        speed, highest = one.link.speed_mt_s, one.link.max_speed_mt_s
        if speed is None or highest is None:
            return "not-shown"
        return [{"speed": f"{speed / 1000:g}", "highest": f"{highest / 1000:g}"}] if speed < highest else []

    return over_devices(view.devices, judge)


def kernel_log(view: NodeView) -> Outcome:
    """The kernel's log holds errors of devices."""
    if view.host.errors is None:
        return unread("no-permission")
    places = {(one.local.device.pci_address or "").lower()[-12:-2]: one.name for one in view.devices}
    known: dict[tuple[str, str], list[str]] = {}
    for error, count in sorted(view.host.errors.items()):
        times = f" x {count}" if count > 1 else ""
        known.setdefault((error.address, places.get(error.address[-10:], "")), []).append(f"{error.what}{times}")
    # A function that is none of the devices, such as a switch above them, is named by its address.
    return findings(
        CheckCase(
            {"errors": shortened_list(texts, 6), "address": "" if name or not address else f" ({address})"},
            name or None,
        )
        for (address, name), texts in known.items()
    )


def versions(view: NodeView) -> Outcome:
    """Devices of one model differ in driver, firmware or library."""
    models: dict[str, list[DeviceModel]] = {}
    for one in view.devices:
        if not one.is_cpu:
            models.setdefault(full_name(one.local.model.vendor, one.local.model.model), []).append(one.local.model)
    cases, is_read = [], False
    for name, alike in models.items():
        for what in ("driver", "firmware", "library", "source_version"):
            known = sorted({text for model in alike if (text := getattr(model, what)) is not None})
            is_read = is_read or bool(known)
            if len(known) > 1:
                cases.append(CheckCase({"model": name, "what": what, "versions": ", ".join(known)}))
    if not models:
        return ABSENT
    return findings(cases) if is_read else unread("not-reported")


DEVICE_CHECKS = (
    device_fault,
    device_unusable,
    identity_shared,
    compute_prohibited,
    foreign_process,
    power_cap,
    clock_cap,
    throttled,
    mig,
    mode_pending,
    rows_remapped,
    ecc_errors,
    kernel_log,
    ecc_off,
    confidential,
    versions,
    compute_exclusive,
    persistence,
    pcie_width,
    pcie_speed,
)
