"""ROCm's older management library ``librocm_smi64.so``, which Hygon's stack ships for its cards.

Nothing is set. The library takes a mutex for each device in /dev/shm: one process a node reads, which never waits for
another. Processes and reasons of throttling are not exposed.
Source: ROCm, rocm_smi.h of 5.0 and 6.2.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from bench.devices.libraries import answers
from bench.devices.libraries.amd.kfd import KfdNode, topology
from bench.devices.libraries.loading import Library, load_library
from bench.devices.source import DeviceSource, Fault, ListedDevice, usable
from bench.devices.tools.rocm_smi import visible_uuid
from bench.devices.tools.texts import reported_text
from bench.errors import DeviceError, InputError
from bench.record import readable_identifier
from bench.telemetry import Reading
from bench.units import MAX_INTEGER

U32, U64, I64, FLOAT, POINTER = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
TEXT_BYTES = 256
NEEDED = ("rsmi_init", "rsmi_num_monitor_devices", "rsmi_dev_name_get", "rsmi_dev_temp_metric_get")
PERMISSION = 4  # rsmi_status_t
DRIVER, VRAM, SYSTEM_CLOCK, CURRENT, MEMORY_BLOCK = 0, 0, 0, 0, 1
JUNCTION, EDGE = 1, 0  # rsmi_temperature_type_t
MOST_FREQUENCIES = 33
FEWEST_HZ = 10**6  # no clock is slower
DRIVER_FILES = ("sys/module/hycu/version", "sys/module/hydcu/version")  # where the library does not say
UNKNOWN = {2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1}


class ErrorCount(ctypes.Structure):
    """rsmi_error_count_t; what newer releases may add behind it has room."""

    _fields_ = (("correctable_err", U64), ("uncorrectable_err", U64), ("_room", U64 * 6))


class Frequencies(ctypes.Structure):
    """rsmi_frequencies_t as of 6.0, frequencies in Hz."""

    _fields_ = (
        ("has_deep_sleep", ctypes.c_uint8),  # a bool
        ("num_supported", U32),
        ("current", U32),
        ("frequency", U64 * MOST_FREQUENCIES),
    )


class OlderFrequencies(ctypes.Structure):
    """rsmi_frequencies_t before 6.0."""

    _fields_ = (("num_supported", U32), ("current", U32), ("frequency", U64 * (MOST_FREQUENCIES - 1)))


class RsmiVersion(ctypes.Structure):
    """rsmi_version_t."""

    _fields_ = (("major", U32), ("minor", U32), ("patch", U32), ("build", ctypes.c_char_p))


class RsmiSource(DeviceSource):
    """``librocm_smi64.so`` as a source.

    Args:
        root: the file system's root.
        library: loaded.
    """

    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")
    vendor: ClassVar[str] = "Hygon"
    libraries: ClassVar[tuple[str, ...]] = ("librocm_smi64.so",)
    folders: ClassVar[tuple[str, ...]] = ("opt/hyhal/lib", "opt/dtk/lib", "opt/dtk/.hyhal/rocm_smi/lib", "opt/rocm/lib")

    def __init__(self, root: Path, library: Library) -> None:
        super().__init__(root, "rsmi", library.path, library.sha256)
        self._library = library
        code = library.function("rsmi_init", U64)(0)
        if code:
            raise self.failed("does not start", code)
        version = RsmiVersion()
        if self._answered("rsmi_version_get", into=version) and (version.major or version.minor or version.patch):
            self.version = f"{version.major}.{version.minor}.{version.patch}"
        self._driver = self._text("rsmi_version_str_get", DRIVER) or self._driver_of_files()

    @classmethod
    def open(cls, root: Path) -> Self:
        """Load and initialise the library.

        Raises:
            InputError: `device-library-missing`, `device-library-unusable`, `device-permission`.
        """
        folders = [str(root / folder) for folder in cls.folders]
        return cls(root, load_library(cls.vendor, cls.libraries, folders, needed=NEEDED))

    def failed(self, what: str, code: int) -> InputError:
        """Return the error of a library that answers with a code.

        Args:
            what: it does, a clause.
            code: of rsmi_status_t.
        """
        return answers.refused(self.libraries[0], f"{what} (code {code})", denied=code == PERMISSION)

    def devices(self) -> list[ListedDevice]:
        """Return the devices in the library's order, with units and clocks that the kernel driver reports.

        Raises:
            InputError: the library does not say how many there are, or no device can be used.
        """
        count = U32()
        code = self._library.function("rsmi_num_monitor_devices", POINTER)(ctypes.byref(count))
        if code:
            raise self.failed("does not say how many devices there are", code)
        nodes = {node.pci_address: node for node in topology(self.root).nodes}
        return usable([self._row(number, nodes) for number in range(count.value)])

    def _row(self, number: int, nodes: dict[str, KfdNode]) -> ListedDevice:
        place, model = self._address(number), self._text("rsmi_dev_name_get", number)
        if model is None:
            fault = Fault("device-failed", "the library gives it no name", where=self.name)
            return ListedDevice(number=number, model="unknown", pci_address=place, fault=fault)
        unique = U64()  # of all 64 bits
        known = self._answered("rsmi_dev_unique_id_get", number, into=unique) and unique.value not in UNKNOWN
        uuid = readable_identifier(f"{unique.value:#x}") if known else None
        node = nodes.get(place or "")
        limits = self._numbers("rsmi_dev_power_cap_range_get", U64, U64, arguments=(number, 0))
        return ListedDevice(
            number=number,
            model=model,
            keys=() if uuid is None else (visible_uuid(uuid),),
            uuid=uuid,
            serial=readable_identifier(self._text("rsmi_dev_serial_number_get", number)),
            pci_address=place,
            firmware=self._text("rsmi_dev_vbios_version_get", number),
            driver=self._driver,
            memory_bytes=self._number("rsmi_dev_memory_total_get", number, VRAM) or None,
            units=None if node is None else node.units,
            max_clock_mhz=None if node is None else node.max_clock_mhz,
            power_limit_mw=_milli(self._number("rsmi_dev_power_cap_get", number, 0)),
            power_limit_default_mw=_milli(self._number("rsmi_dev_power_cap_default_get", number)),
            power_limit_max_mw=_milli(None if limits is None else limits[0]),
        )

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all devices, by their numbers."""
        looks = {row.number: answers.believed(self._reading(row.number)) for row in rows}
        return {number: reading for number, reading in looks.items() if reading != Reading()}

    def _reading(self, number: int) -> Reading:
        power = self._numbers("rsmi_dev_power_get", U64, U32, arguments=(number,))
        watts = self._number("rsmi_dev_power_ave_get", number, 0) if power is None else power[0]
        use = self._number("rsmi_dev_busy_percent_get", number, kind=U32)
        return Reading(
            power_mw=_milli(watts),
            temperature_c=self._temperature(number),
            clock_mhz=self._clock_mhz(number),
            utilisation_ppm=answers.utilisation_ppm(use),
            ecc_uncorrected=self._uncorrected(number),
            energy_mj=self._energy_mj(number),
        )

    def _temperature(self, number: int) -> int | None:
        """Return the temperature of the hottest spot, else of the edge, degrees Celsius."""
        for sensor in (JUNCTION, EDGE):
            milli = self._number("rsmi_dev_temp_metric_get", number, sensor, CURRENT, kind=I64)
            if milli is not None:
                return answers.temperature_c(milli // 1000)
        return None

    def _clock_mhz(self, number: int) -> int | None:
        """Return the frequency that is in use, in the layout that the answer itself shows (`Frequencies`)."""
        new = Frequencies()
        if not self._answered("rsmi_dev_gpu_clk_freq_get", number, SYSTEM_CLOCK, into=new):
            return None
        # The older layout begins with the number of frequencies, of which there are more than one.
        layouts = (*((new,) if new.has_deep_sleep <= 1 else ()), OlderFrequencies.from_buffer(new))
        for layout in layouts:
            if 0 < layout.num_supported <= len(layout.frequency) and layout.current < layout.num_supported:
                hz = int(layout.frequency[layout.current])
                if FEWEST_HZ <= hz <= MAX_INTEGER:
                    return answers.clock_mhz(hz // 10**6)
        return None

    def close(self) -> None:
        """Shut the library down."""
        function = self._library.function("rsmi_shut_down")
        if function is not None:
            function()

    def _uncorrected(self, number: int) -> int | None:
        count = ErrorCount()
        if not self._answered("rsmi_dev_ecc_count_get", number, MEMORY_BLOCK, into=count):
            return None
        return _known(count.uncorrectable_err)

    def _energy_mj(self, number: int) -> int | None:
        """Return the counter's energy, mJ: its steps are as many microjoules as it says."""
        counted = self._numbers("rsmi_dev_energy_count_get", U64, FLOAT, U64, arguments=(number,))
        if counted is None or not counted[0] or not math.isfinite(counted[1]):
            return None  # 0 is what a device without a counter shows
        return _known(int(counted[0] * counted[1]) // 1000)

    def _address(self, number: int) -> str | None:
        """Return the PCI address: domain << 32, bus << 8, device << 3, function."""
        at = self._number("rsmi_dev_pci_id_get", number)
        if not at or at >> 48:
            return None
        return f"{at >> 32:04x}:{at >> 8 & 0xFF:02x}:{at >> 3 & 0x1F:02x}.{at & 7}"

    def _driver_of_files(self) -> str | None:
        for file in DRIVER_FILES:
            try:
                return reported_text((self.root / file).read_text(encoding="utf-8", errors="replace"))
            except OSError:
                continue
        return None

    def _answered(self, name: str, *numbers: int, into: Any) -> bool:
        """Return whether a function of some numbers filled something in."""
        function = self._library.function(name, *[U32] * len(numbers), POINTER)
        return function is not None and not function(*numbers, ctypes.byref(into))

    def _number(self, name: str, *numbers: int, kind: Any = U64) -> int | None:
        """Return what a function of some numbers answers; None where the library or the device does not have it."""
        into = kind()
        return _known(into.value) if self._answered(name, *numbers, into=into) else None

    def _numbers(self, name: str, *kinds: Any, arguments: tuple[int, ...]) -> list[Any] | None:
        """Return the several numbers that a function answers."""
        function = self._library.function(name, *[U32] * len(arguments), *[POINTER] * len(kinds))
        into = [kind() for kind in kinds]
        if function is None or function(*arguments, *(ctypes.byref(one) for one in into)):
            return None
        return [one.value for one in into]

    def _text(self, name: str, number: int) -> str | None:
        """Return the text of a device, or of a component."""
        function = self._library.function(name, U32, POINTER, ctypes.c_size_t)
        into = ctypes.create_string_buffer(TEXT_BYTES)
        if function is None or function(number, into, TEXT_BYTES - 1):
            return None
        return reported_text(answers.text(into.value))


def _known(value: int) -> int | None:
    """Return a number; None for one at its type's limit, and for what no record holds."""
    return None if value in UNKNOWN or abs(value) > MAX_INTEGER else value


def _milli(micro: int | None) -> int | None:
    """Return a power or a limit of power, mW, of microwatts."""
    known = None if micro is None else _known(micro)
    return answers.power_mw(None if known is None else known // 1000)
