"""Cambricon's management library libcndev: what identifies an MLU, and its telemetry. Nothing is ever set.

Each function is asked with the newest version of its structure that the library knows. A card that is shared (sMLU,
MIM, virtual functions) is a slice: who may compute on the rest of it, and how much, is unknown here.
Source: Cambricon, cndev.h of CNToolkit 3 and 4 (device, power, ECC, MIM and sMLU management).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ctypes import Structure, byref, c_char_p, c_int32, c_uint32
from pathlib import Path
from typing import Any, ClassVar, Self

from bench.devices.libraries import answers
from bench.devices.libraries import cndev_api as api
from bench.devices.libraries.loading import Library, load_library
from bench.devices.source import DeviceSource, Fault, ListedDevice, usable
from bench.devices.tools.texts import MIB, address
from bench.errors import DeviceError, InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

NAME = "libcndev.so"
HOME = "usr/local/neuware"  # unless NEUWARE_HOME says otherwise
SUCCESS, MISSING, OTHER_VERSION, TOO_MANY, NO_PERMISSION, IN_PROBLEM = 0, -1, 3, 9, 13, 18
VERSIONS = (6, 5)  # of the structures
ERRORS = {
    MISSING: "this release does not have it",
    1: "the driver is not loaded",
    2: "the driver is too old for the library",
    OTHER_VERSION: "it knows no version of the structures that petaseal knows",
    6: "there is no such card",
    12: "there is no card that can be used",
    NO_PERMISSION: "this user has no permission",
    17: "the driver does not answer in time",
    IN_PROBLEM: "the card is in problem",
}
UNSOUND = "CNDev says that the card is in problem"
NEEDED = ("cndevInit", "cndevGetDeviceCount", "cndevGetDeviceHandleByIndex", "cndevGetUUID")
MOST_DEVICES, MOST_PROCESSES = 256, 64
TWO_CHIPS = {"MLU370-X8": 48 * 10**9}  # cards on which the driver lists each chip, with the memory of the whole card


class CndevSource(DeviceSource):
    """All cards of Cambricon on a node, through libcndev.

    Clock and reasons of throttling are read where the library answers, and are not promised: which boards do is not
    documented. A slice has no power and no utilisation of its own.
    """

    exposes: ClassVar[tuple[str, ...]] = ("power", "temperature", "ecc", "processes")

    def __init__(self, root: Path, library: Library) -> None:
        super().__init__(root, "cndev", library.path, library.sha256)
        self._functions = {
            name: library.function(name, *types, result=c_char_p if name in api.TEXTS else c_int32)
            for name, types in api.FUNCTIONS.items()
        }
        # The library reports the driver's version in numbers: a fake one says here what it is.
        self._fake = library.function("petasealFakeDriver", result=c_char_p)
        self._versions: dict[str, int] = {}  # by function: of its structure, once the library has taken one
        self._handles: dict[int, int] = {}
        self._slices: frozenset[int] = frozenset()
        code = self._call("cndevInit", 0)
        if code != SUCCESS:
            raise _refused("cndevInit", code)
        version = self._filled("cndevGetLibVersion", api.CndevLibVersion)
        self.version = None if version is None else f"{version.major}.{version.minor}.{version.build}"

    @classmethod
    def open(cls, root: Path) -> Self:
        """Load and initialise the library.

        Raises:
            InputError: as `DeviceSource.open`.
        """
        home = root / os.environ.get("NEUWARE_HOME", HOME).lstrip("/")
        folders = [str(home / folder) for folder in ("lib64", "lib")]
        return cls(root, load_library("Cambricon", (NAME,), folders, needed=NEEDED))

    def devices(self) -> list[ListedDevice]:
        """Return all cards, or chips of cards, in the library's order.

        Raises:
            InputError: the library does not count them, or none of them answers.
        """
        counted, code = api.CndevCardInfo(), MISSING
        for counted.version in VERSIONS:
            code = self._call("cndevGetDeviceCount", byref(counted))
            if code != OTHER_VERSION:
                break
        if code != SUCCESS or counted.number > MOST_DEVICES:
            raise _refused("cndevGetDeviceCount", code)
        self._handles = {}
        rows = [self._listed(index) for index in range(counted.number)]
        self._slices = frozenset(row.number for row in rows if row.count_unit == "slice")
        return usable(rows)

    def complete(self, row: ListedDevice) -> ListedDevice:
        """Return a card with what it exposes beyond what every one does: its clock, reasons of throttling."""
        if row.number not in self._handles:
            return row
        try:
            reading = self._reading(self._handles[row.number], row.number in self._slices)
        except DeviceError as error:
            return row._replace(fault=Fault("device-failed", error.what))
        return row._replace(exposes=answers.exposed(row.exposes or self.exposes, reading))

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at the cards.

        Raises:
            InputError: none of them has a reading.
        """
        look: dict[int, Reading | DeviceError] = {}
        for row in rows:
            if row.number not in self._handles:
                continue
            try:
                reading = self._reading(self._handles[row.number], row.number in self._slices)
            except DeviceError as error:
                look[row.number] = error
                continue
            if reading != Reading():
                look[row.number] = reading
        if rows and not look:
            raise answers.refused(NAME, "no card has a reading")
        return look

    def close(self) -> None:
        """Release the library."""
        self._call("cndevRelease")

    def _call(self, name: str, *arguments: Any) -> int:
        """Return a function's code."""
        function = self._functions[name]
        return MISSING if function is None else int(function(*arguments))

    def _first(self, functions: Sequence[tuple[str, type[Structure]]], card: int) -> Any:
        """Return what the first of some functions fills that the library has; None without one."""
        return next((info for name, kind in functions if (info := self._filled(name, kind, card)) is not None), None)

    def _filled(self, name: str, kind: type[Structure], *device: int) -> Any:
        """Return a structure that a function fills; None where library or card does not.

        Raises:
            DeviceError: the library says that the card is in problem.
        """
        versioned = hasattr(kind, "version")
        for version in (self._versions[name],) if name in self._versions else VERSIONS:
            answer: Any = kind()
            if versioned:
                answer.version = version
            code = self._call(name, byref(answer), *device)
            if code == IN_PROBLEM:
                raise DeviceError("device-failed", UNSOUND)
            if code == SUCCESS:
                self._versions[name] = version
                return answer
            if code != OTHER_VERSION or not versioned:
                break
        return None

    def _text(self, name: str, number: int) -> str | None:
        function = self._functions[name]
        return None if function is None else answers.text(function(number))

    def _listed(self, index: int) -> ListedDevice:
        handle = c_int32()
        code = self._call("cndevGetDeviceHandleByIndex", index, byref(handle))
        if code != SUCCESS:
            fault = Fault.of(_refused("cndevGetDeviceHandleByIndex", code))
            return ListedDevice(number=index, model="unknown", driver=self._fake_driver(), fault=fault)
        self._handles[index] = handle.value
        try:
            row = self._described(index, handle.value)
            self._check_health(handle.value)
        except DeviceError as error:
            name = self._text("cndevGetCardNameStringByDevId", handle.value)
            fault = Fault("device-failed", error.what)
            return ListedDevice(number=index, model=name or "unknown", driver=self._fake_driver(), fault=fault)
        return row

    def _described(self, index: int, card: int) -> ListedDevice:
        model, versions = self._model(card), self._filled("cndevGetVersionInfo", api.CndevVersionInfo, card)
        uuid = self._filled("cndevGetUUID", api.CndevUUID, card)
        sn = self._filled("cndevGetCardSN", api.CndevCardSN, card)
        cores = self._filled("cndevGetCoreCount", api.CndevCount, card)
        clock = self._filled("cndevGetFrequencyInfo", api.CndevFrequencyInfo, card)
        power, default, most = self._limits(card)
        unnamed = answers.refused(NAME, "the card has no name")
        row = ListedDevice(
            number=index,
            model=model or "unknown",
            uuid=None if uuid is None else readable_identifier(answers.text(uuid.uuid)),
            serial=None if sn is None or sn.sn == 2**64 - 1 else readable_identifier(f"{sn.sn:x}"),
            pci_address=self._address(card),
            firmware=None if versions is None else ".".join(map(str, versions.mcu)),
            driver=self._fake_driver() or (None if versions is None else ".".join(map(str, versions.driver))),
            memory_bytes=self._memory_bytes(card),
            units=None if cores is None else answers.count(cores.count) or None,
            max_clock_mhz=None if clock is None else answers.clock_mhz(clock.boardFreqArange[1]),
            power_limit_mw=power,
            power_limit_default_mw=default,
            power_limit_max_mw=most,
            modes=self._modes(card),
            fault=Fault.of(unnamed) if model is None else None,
        )
        return self._as_slice(row) if self._is_shared(card) else chip_of_two(row)

    def _as_slice(self, row: ListedDevice) -> ListedDevice:
        """Return a card of which only a share may be here: its identities are the whole's, its limits nobody's."""
        return row._replace(
            uuid=None,
            serial=None,
            parent=row.serial or row.uuid,
            count_unit="slice",
            units=None,
            power_limit_mw=None,
            power_limit_default_mw=None,
            power_limit_max_mw=None,
            exposes=tuple(name for name in self.exposes if name != "power"),
        )

    def _is_shared(self, card: int) -> bool:
        for name in ("cndevGetSMLUMode", "cndevGetMimMode"):
            mode = self._filled(name, api.CndevMode, card)
            if mode is not None and mode.mode == 1:
                return True
        virtual = self._filled("cndevGetCardVfState", api.CndevVfState, card)
        return virtual is not None and virtual.vfState > 0

    def _fake_driver(self) -> str | None:
        return None if self._fake is None else answers.text(self._fake())

    def _model(self, card: int) -> str | None:
        name = self._text("cndevGetCardNameStringByDevId", card)
        number = None if name else self._filled("cndevGetCardName", api.CndevCardName, card)
        return name if number is None else self._text("cndevGetCardNameString", number.id)

    def _address(self, card: int) -> str | None:
        place = self._first(api.PLACE, card)
        if place is None:
            return None
        return address(f"{place.domain:04x}:{place.bus:02x}:{place.device:02x}.{place.function}")

    def _memory_bytes(self, card: int) -> int | None:
        memory = self._first(api.MEMORY, card)
        total = None if memory is None else answers.bounded(memory.physicalMemoryTotal, 1, 2**32)
        return None if total is None else total * MIB

    def _limits(self, card: int) -> tuple[int | None, int | None, int | None]:
        """Return the limit of power, the default one and the highest that can be set, mW."""
        now = self._first(api.POWER, card)
        default = self._filled("cndevGetPowerManagementDefaultLimitation", api.CndevPowerLimit, card)
        most = self._filled("cndevGetPowerManagementLimitationRange", api.CndevPowerLimitRange, card)
        return (
            None if now is None else answers.power_mw(now.cap * 1000),
            None if default is None else answers.power_mw(default.powerLimit * 1000),
            None if most is None else answers.power_mw(most.maxPowerLimit * 1000),
        )

    def _modes(self, card: int) -> tuple[tuple[str, str], ...]:
        for version in VERSIONS:
            now, pending = api.CndevMode(version), api.CndevMode(version)
            code = self._call("cndevGetEccMode", byref(now), byref(pending), card)
            if code == SUCCESS:
                return answers.ecc_modes(now.mode, pending.mode)
            if code != OTHER_VERSION:
                break
        return ()

    def _check_health(self, card: int) -> None:
        """Raise where the library says twice that the card is not sound: a link that is down is not the card.

        Raises:
            DeviceError: it does.
        """
        state = self._first(api.HEALTH, card)
        if state is not None and state.health == 0 and state.deviceState == 0:
            raise DeviceError("device-failed", UNSOUND)

    def _reading(self, card: int, is_slice: bool) -> Reading:
        """Return a card's present reading.

        Raises:
            DeviceError: the library says that the card is in problem.
        """
        self._check_health(card)
        power = None if is_slice else self._first(api.POWER, card)
        temperature = self._filled("cndevGetTemperatureInfo", api.CndevTemperatureInfo, card)
        clock = self._filled("cndevGetFrequencyInfo", api.CndevFrequencyInfo, card)
        usage = None if is_slice else self._filled("cndevGetDeviceUtilizationInfo", api.CndevUtilizationInfo, card)
        throttle = self._filled("cndevGetPerformanceThrottleReason", api.CndevThrottle, card)
        errors = self._filled("cndevGetECCInfo", api.CndevECCInfo, card)
        return Reading(
            power_mw=None if power is None else answers.power_mw(power.usage * 1000),
            temperature_c=None if temperature is None else answers.temperature_c(temperature.chip),
            clock_mhz=None if clock is None else answers.clock_mhz(clock.boardFreq),
            utilisation_ppm=None if usage is None else answers.utilisation_ppm(usage.averageCoreUtilization),
            throttled=None if throttle is None else throttle_reasons(throttle),
            ecc_uncorrected=None if errors is None else answers.count(errors.uncorrectedError),
            processes=self._processes(card),
        )

    def _processes(self, card: int) -> int | None:
        for version in VERSIONS:
            room = c_uint32(MOST_PROCESSES)
            infos = (api.CndevProcessInfo * MOST_PROCESSES)()
            for info in infos:
                info.version = version
            code = self._call("cndevGetProcessInfo", byref(room), byref(infos), card)
            if code in (SUCCESS, TOO_MANY):  # of too many the library says how many there are
                return answers.bounded(room.value, 0, 2**20)
            if code != OTHER_VERSION:
                break
        return None


def chip_of_two(row: ListedDevice) -> ListedDevice:
    """Return a row as one of two chips of its card, where its memory says so: alone in a container it has no twin.

    Args:
        row: as CNDev or cnmon lists it, a card.
    """
    whole = TWO_CHIPS.get(row.model, 0)
    if row.memory_bytes is None or row.memory_bytes * 3 >= whole * 2:
        return row
    return row._replace(count_unit="die", parent=row.serial, serial=None)


def throttle_reasons(throttle: api.CndevThrottle) -> tuple[str, ...]:
    """Return the names of the reasons that are in force."""
    return tuple(name for name, on in zip(api.THROTTLE_REASONS, throttle.reasons, strict=True) if on == 1)


def _refused(name: str, code: int) -> InputError:
    said = ERRORS.get(code, "the answer is impossible" if code == SUCCESS else f"code {code}")
    return answers.refused(NAME, f"{name} fails: {said}", denied=code == NO_PERMISSION)
