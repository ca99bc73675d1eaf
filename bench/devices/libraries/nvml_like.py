"""Management libraries that copy NVML under another file name, as sources: a vendor's own is a few names.

A function that a library does not have, or that refuses, costs its quantity: it is None, and no error. What a library
of a release gives beyond power, clock and temperature is found out by asking it once (`NvmlLikeSource.complete`).
Source: NVML API reference; Iluvatar, go-ixml (pkg/ixml/api.h).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from bench.devices.libraries import answers
from bench.devices.libraries.loading import Library, load_library
from bench.devices.libraries.nvidia.api import FUNCTIONS, NEEDED, POINTER, UINT, NvmlApi, NvmlFunction, NvmlLikeError
from bench.devices.libraries.nvidia.telemetry import NvmlSource
from bench.devices.libraries.nvml import FAULTS, FAULTS_OF_HANDLE, SM_CLOCK, Nvml, normal_address
from bench.devices.source import DeviceSource, Fault, ListedDevice, usable
from bench.errors import DeviceError, InputError
from bench.record.node import CountUnit
from bench.telemetry import Reading
from bench.units import MAX_INTEGER

INVALID_ARGUMENT, NOT_FOUND = 2, 6  # nvmlReturn_t
REFUSALS = {4, 17}  # no permission; the device is blocked by the operating system, as by a control group
TWO_CHIPS = {"iluvatarbi-v150": 64 * 10**9, "iluvatarbi-v150s": 64 * 10**9}  # with the memory of the whole card


class NvmlLikeSource(DeviceSource):
    """A library that copies NVML, as a source (`bench.devices.source.DeviceSource`). A vendor's own gives these names.

    Args:
        root: the file system's root.
        library: loaded.
    """

    source: ClassVar[str]  # as in configs/sources.yaml
    vendor: ClassVar[str]
    prefix: ClassVar[str] = "nvml"
    libraries: ClassVar[tuple[str, ...]]  # file names, newest first
    folders: ClassVar[tuple[str, ...]] = ()  # where the vendor's packages put them, below the root
    functions: ClassVar[Mapping[str, NvmlFunction]] = FUNCTIONS
    pci_vendors: ClassVar[frozenset[int]] = frozenset()  # whose devices count; empty where the library has no others
    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")

    def __init__(self, root: Path, library: Library) -> None:
        super().__init__(root, self.source, library.path, library.sha256)
        try:
            self._nvml = Nvml(NvmlApi(library, self.prefix, self.functions))
        except NvmlLikeError as error:
            raise self.failed(f"does not start (code {error.value})", error.value) from None
        self.version = self._nvml.text("nvmlSystemGetNVMLVersion")
        self._driver = self._nvml.driver()
        self._watched: dict[int, NvmlSource] = {}

    @classmethod
    def label(cls) -> str:
        """Return the name of the source."""
        return cls.source

    @classmethod
    def open(cls, root: Path) -> Self:
        """Load and initialise the library.

        Raises:
            InputError: `device-library-missing`, `device-library-unusable`, `device-permission`.
        """
        folders = [str(root / folder.lstrip("/")) for folder in cls.folders]
        needed = [f"{cls.prefix}{name}" for name in NEEDED]
        return cls(root, load_library(cls.vendor, cls.libraries, folders, needed=needed))

    def failed(self, what: str, code: int) -> InputError:
        """Return the error of a library that answers with a code.

        Args:
            what: it does, a clause.
            code: of nvmlReturn_t.
        """
        return answers.refused(self.libraries[0], what, denied=code in REFUSALS)

    def devices(self) -> list[ListedDevice]:
        """Return the devices in the library's order; one that refuses or is lost bears its fault.

        Raises:
            InputError: the library does not say how many there are, or no device can be used.
        """
        api = self._nvml.api
        try:
            count = api.nvmlDeviceGetCount()
        except NvmlLikeError as error:
            raise self.failed(f"does not say how many devices there are (code {error.value})", error.value) from None
        return usable([row for number in range(count) if (row := self._row(number)) is not None])

    def _row(self, number: int) -> ListedDevice | None:
        """Return a device; None where there is none by now, or it is another vendor's."""
        try:
            handle = self._nvml.api.nvmlDeviceGetHandleByIndex(number)
            model = self._nvml.api.nvmlDeviceGetName(handle)
            return self._described(number, handle, " ".join(model.split()) or "unknown")
        except NvmlLikeError as error:
            if error.value in (INVALID_ARGUMENT, NOT_FOUND):  # their number has changed since
                return None
            fault = (FAULTS | FAULTS_OF_HANDLE).get(error.value)
            refused = self.failed(f"refuses device {number} (code {error.value})", error.value)
            return _faulty(number, Fault.of(refused) if fault is None else Fault(*fault, where=self.name))
        except UnicodeDecodeError:
            return _faulty(number, Fault.of(self.failed(f"gives device {number} a name that is no text", 0)))
        except DeviceError as error:
            return _faulty(number, Fault(error.code, error.what, where=self.name))

    def _described(self, number: int, handle: Any, model: str) -> ListedDevice | None:
        nvml = self._nvml
        pci, memory = nvml.ask("nvmlDeviceGetPciInfo", handle), nvml.ask("nvmlDeviceGetMemoryInfo", handle)
        if (
            pci is not None
            and pci.pciDeviceId
            and self.pci_vendors
            and pci.pciDeviceId & 0xFFFF not in self.pci_vendors
        ):
            return None
        uuid, total = nvml.text("nvmlDeviceGetUUID", handle), 0 if memory is None else int(memory.total)
        place = "" if pci is None else normal_address((pci.busId or pci.busIdLegacy).decode("ascii", "replace"))
        row = ListedDevice(
            number=number,
            model=model,
            keys=() if uuid is None else (uuid,),
            uuid=uuid,
            serial=nvml.text("nvmlDeviceGetSerial", handle),
            pci_address=place if place.strip("0:.") else None,
            board_part=nvml.text("nvmlDeviceGetBoardPartNumber", handle),
            count_unit="slice" if nvml.is_share(handle) else self.count_unit(model, total),
            firmware=nvml.text("nvmlDeviceGetVbiosVersion", handle),
            driver=self._driver,
            memory_bytes=total if 0 < total <= MAX_INTEGER else None,
            max_clock_mhz=answers.clock_mhz(nvml.ask("nvmlDeviceGetMaxClockInfo", handle, SM_CLOCK)),
            **nvml.settings(handle)._asdict(),
        )
        self._watched[number] = NvmlSource(nvml, uuid or "", handle)
        return row

    def count_unit(self, model: str, memory_bytes: int) -> CountUnit:
        """Return how a device counts that is no share; parts of one board are also known by its serial number.

        Args:
            model: its name.
            memory_bytes: 0 where it is not reported.
        """
        return "card"

    def complete(self, row: ListedDevice) -> ListedDevice:
        """Return a device with the quantities that its readings have: the functions differ from release to release."""
        reading = self.readings([row]).get(row.number)
        if not isinstance(reading, Reading):
            return row
        promised = [name for name in self.exposes if name != "power" or row.count_unit != "slice"]
        return row._replace(exposes=answers.exposed(promised, reading))

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all devices, by their numbers."""
        read: dict[int, Reading | DeviceError] = {}
        for number in (row.number for row in rows if row.number in self._watched):
            try:
                reading = self._watched[number].read()
            except DeviceError as error:
                read[number] = error
                continue
            reading = reading._replace(
                power_mw=answers.power_mw(reading.power_mw),
                temperature_c=answers.temperature_c(reading.temperature_c),
                clock_mhz=answers.clock_mhz(reading.clock_mhz),
            )
            if not reading.processes and reading.utilisation_ppm:  # who keeps it busy is hidden, as in a container
                reading = reading._replace(processes=None)
            if reading != Reading():
                read[number] = reading
        return read

    def close(self) -> None:
        """Shut the library down."""
        self._nvml.ask("nvmlShutdown")


def _faulty(number: int, fault: Fault) -> ListedDevice:
    return ListedDevice(number=number, model="unknown", fault=fault)


class IxmlSource(NvmlLikeSource):
    """Iluvatar's ``libixml.so``; UPnP's library for XML has the same file name, and none of NVML's functions."""

    source: ClassVar[str] = "ixml"
    vendor: ClassVar[str] = "Iluvatar CoreX"
    libraries: ClassVar[tuple[str, ...]] = ("libixml.so",)
    folders: ClassVar[tuple[str, ...]] = ("usr/local/corex/lib64", "usr/local/corex/lib")
    functions: ClassVar[Mapping[str, NvmlFunction]] = FUNCTIONS | {  # single-bit and double-bit errors
        "nvmlDeviceGetTotalEccErrors": NvmlFunction(("ixmlDeviceGetEccErros",), (POINTER,), (UINT, UINT), pick=1)
    }

    def count_unit(self, model: str, memory_bytes: int) -> CountUnit:
        """Return "die" for one chip of a card of two."""
        return chip_or_card(model, memory_bytes)


class HgmlSource(NvmlLikeSource):
    """``libhgml.so``, where it lists Hygon's devices; T-Head's library has the same name and lists its own."""

    source: ClassVar[str] = "hgml"
    vendor: ClassVar[str] = "Hygon"
    prefix: ClassVar[str] = "hgml"
    libraries: ClassVar[tuple[str, ...]] = ("libhgml.so",)
    folders: ClassVar[tuple[str, ...]] = ("opt/hyhal/lib", "opt/dtk/lib")
    pci_vendors: ClassVar[frozenset[int]] = frozenset({0x1D94})


def chip_or_card(model: str, memory_bytes: int) -> CountUnit:
    """Return whether an Iluvatar device is one chip of a card of two, by its memory.

    Args:
        model: its name.
        memory_bytes: 0 where it is not reported.
    """
    whole = TWO_CHIPS.get("".join(model.lower().split()), 0)
    return "die" if 0 < memory_bytes * 3 < whole * 2 else "card"
