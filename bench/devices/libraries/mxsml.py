"""MetaX: GPUs listed and read through the driver's management library (`bench.devices.libraries.mxsml_api`).

What a slice (sGPU) or a virtual function does not have of its own, power and use, is unknown of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import byref, c_int, c_uint
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from bench.devices.libraries import answers
from bench.devices.libraries import mxsml_api as api
from bench.devices.libraries.loading import Library, load_library
from bench.devices.libraries.mxsml_api import SUCCESS, Mxsml, MxsmlDeviceIds, MxsmlDeviceInfo, MxsmlMemoryInfo, text_of
from bench.devices.source import DeviceSource, Fault, ListedDevice, usable
from bench.devices.tools.texts import address, reported_text
from bench.errors import DeviceError, InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

NAMES = ("libmxsml.so",)
FOLDERS = ("opt/mxdriver/lib", "opt/maca/lib", "opt/mxn100/lib")
NEEDED = ("mxSmlInit", "mxSmlGetDeviceCount", "mxSmlGetDeviceInfo", "mxSmlGetBoardPowerInfo", "mxSmlGetClocks")
DENIED = frozenset({api.PERMISSION_DENIED, api.OPEN_DEVICE_FILE_FAILURE})
GONE = frozenset({api.NO_DEVICE, api.INVALID_DEVICE_ID})
BRAND_N, MODE_VF = 1, 2
FIRST_PF = 100  # index of the first physical function of a virtualised GPU: nothing can be computed on it
VERSION_BIOS, VERSION_DRIVER = 0, 1
HOTSPOT = 0  # the chip's highest temperature
SWITCH: dict[int | None, str] = {0: "off", 1: "on"}
VERSION_SIZE, SERIAL_SIZE = 64, 32
MOST_BYTES = 2**45


class Domain(NamedTuple):
    """Where the cores of one series of chips are found: their clock, its levels, their use."""

    clock: int
    levels: int
    usage: int


N_SERIES, C_SERIES = Domain(clock=1, levels=0, usage=0), Domain(clock=11, levels=1, usage=4)


class MxsmlSource(DeviceSource):
    """MetaX's GPUs through the driver's management library; what a slice does not have of its own is unknown of it.

    The library has no function that ends what `open` began.
    """

    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature", "processes")

    def __init__(self, root: Path, library: Library) -> None:
        self._library = Mxsml(library)
        super().__init__(root, "mxsml", library.path, library.sha256)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Load and initialise the library.

        Raises:
            InputError: it is missing, too old or of another architecture, finds no device, or refuses.
        """
        source = cls(root, load_library("MetaX", NAMES, [str(root / folder) for folder in FOLDERS], needed=NEEDED))
        code = source._library.status("mxSmlInit")
        if code != SUCCESS:
            raise source._refused("mxSmlInit", code)
        maca = source._library.text("mxSmlGetMacaVersion", VERSION_SIZE)
        source.version = None if maca is None else f"MACA {maca}"
        return source

    def devices(self) -> list[ListedDevice]:
        """Return all devices that can compute: whole GPUs, and the virtual functions of those that are virtualised.

        Raises:
            InputError: the library fails for every device.
        """
        parents = self._parents()
        return usable([self._listed(number, parents) for number in range(self._count())])

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all devices at once."""
        looks = {row.number: self._reading(row) for row in rows if row.fault is None}
        return {number: look for number, look in looks.items() if look != Reading()}

    def _count(self) -> int:
        count = self._library.count("mxSmlGetDeviceCount")
        return count if count <= FIRST_PF else 0

    def _refused(self, function: str, code: int) -> InputError:
        """Return why the library does not answer, with its own words."""
        return answers.refused(NAMES[0], f"{function} fails: {self._library.why(code)}", denied=code in DENIED)

    def _parents(self) -> dict[int, str]:
        """Return the uuid of the GPU that each virtual function is of, where this node has the GPU too."""
        parents: dict[int, str] = {}
        for physical in range(FIRST_PF, FIRST_PF + min(self._library.count("mxSmlGetPfDeviceCount"), FIRST_PF)):
            info = self._library.struct("mxSmlGetDeviceInfo", MxsmlDeviceInfo, physical)
            ids = self._library.struct("mxSmlGetVirtualDevicesByPhysicalId", MxsmlDeviceIds, physical)
            uuid = None if info is None else readable_identifier(text_of(info.uuid))
            if ids is not None and uuid is not None:
                parents |= dict.fromkeys(ids.device_id[: max(0, min(ids.number, len(ids.device_id)))], uuid)
        return parents

    def _listed(self, number: int, parents: Mapping[int, str]) -> ListedDevice:
        info = MxsmlDeviceInfo()
        code = self._library.status("mxSmlGetDeviceInfo", number, byref(info))
        if code != SUCCESS:
            limited = self._library.struct("mxSmlGetLimitedDeviceInfo", MxsmlDeviceInfo, number)
            place = None if limited is None else address(text_of(limited.bdf))
            fault = Fault.of(self._refused("mxSmlGetDeviceInfo", code))
            return ListedDevice(number, "unknown", pci_address=place, fault=fault)
        model, uuid = reported_text(text_of(info.name)), readable_identifier(text_of(info.uuid))
        why = self._library.unavailable(number)
        if model is None:
            why = "MetaX's management library reports no name of the GPU"
        memory = self._library.struct("mxSmlGetMemoryInfo", MxsmlMemoryInfo, number)
        domain = N_SERIES if info.brand == BRAND_N else C_SERIES
        limit_mw = self._library.number("mxSmlGetBoardPowerLimit", c_uint, number)
        row = ListedDevice(
            number,
            model or "unknown",
            keys=() if uuid is None else (uuid,),
            uuid=uuid,
            serial=readable_identifier(self._library.text("mxSmlGetBoardSerial", SERIAL_SIZE, number)),
            die_id=readable_identifier(self._library.text("mxSmlGetChipSerial", SERIAL_SIZE, number)),
            pci_address=address(text_of(info.bdf)),
            firmware=self._library.text("mxSmlGetDeviceVersion", VERSION_SIZE, number, VERSION_BIOS),
            driver=self._library.text("mxSmlGetDeviceVersion", VERSION_SIZE, number, VERSION_DRIVER),
            memory_bytes=None if memory is None else bytes_of(memory.total, 2**10),
            max_clock_mhz=self._library.highest_clock_mhz(number, domain.levels),
            power_limit_mw=answers.power_mw(limit_mw),
            modes=self._modes(number),
            place=(str(domain.clock), str(domain.usage)),
            fault=None if why is None else Fault("device-library-unusable", why, NAMES[0]),
        )
        return self._with_exposed(self._share(row, info, parents))

    def _share(self, row: ListedDevice, info: MxsmlDeviceInfo, parents: Mapping[int, str]) -> ListedDevice:
        """Return a device as the share of a GPU that it is: a virtual function, or one that is cut into slices."""
        if info.mode == MODE_VF:  # its serial is the board's, and no identity of the function
            parent = parents.get(row.number) or row.serial
            return row._replace(count_unit="slice", parent=parent, serial=None, die_id=None, power_limit_mw=None)
        slices = self._library.slices(row.number)
        if not slices:
            return row
        only = slices[0] if len(slices) == 1 else None
        return row._replace(
            count_unit="slice",
            parent=row.uuid or row.serial or row.pci_address,
            uuid=None if only is None else readable_identifier(text_of(only.uuid)),
            serial=None,
            die_id=None,
            memory_bytes=None if only is None else bytes_of(only.memory_quota, 2**20),
            power_limit_mw=None,
        )

    def _with_exposed(self, row: ListedDevice) -> ListedDevice:
        """Return a device with the quantities that it has beyond, or not of, those of every release."""
        slice_less = ("power",) if row.count_unit == "slice" else ()
        more = {"throttle": self._library.throttled(row.number), "ecc": self._library.ecc_uncorrected(row.number)}
        exposed = [name for name in self.exposes if name not in slice_less]
        exposed += [name for name, value in more.items() if value is not None]
        return row._replace(exposes=None if tuple(exposed) == self.exposes else tuple(exposed))

    def _modes(self, number: int) -> tuple[tuple[str, str], ...]:
        asked = {"ecc": "mxSmlGetEccState", "sgpu": "mxSmlGetSgpuToggle"}
        states = {name: SWITCH.get(self._library.number(function, c_uint, number)) for name, function in asked.items()}
        return tuple((name, state) for name, state in states.items() if state is not None)

    def _reading(self, row: ListedDevice) -> Reading | DeviceError:
        number, library = row.number, self._library
        info = MxsmlDeviceInfo()
        code = library.status("mxSmlGetDeviceInfo", number, byref(info))
        if code in GONE:
            return DeviceError("device-lost", f"MetaX's management library no longer has the GPU: {library.why(code)}")
        if code == SUCCESS and row.pci_address is not None and address(text_of(info.bdf)) != row.pci_address:
            return DeviceError("device-lost", f"the GPU at {row.pci_address} is no longer at its index {number}")
        why = library.unavailable(number)
        if why is not None:
            return DeviceError("device-failed", why)
        clock, usage = map(int, row.place)
        hundredths = library.number("mxSmlGetTemperatureInfo", c_int, number, HOTSPOT)
        percent = library.number("mxSmlGetDeviceIpUsage", c_int, number, usage)
        is_slice = row.count_unit == "slice"
        return Reading(
            power_mw=None if is_slice else library.power_mw(number),
            temperature_c=None if hundredths is None else answers.temperature_c(hundredths / 100),
            clock_mhz=library.clock_mhz(number, clock),
            utilisation_ppm=None if is_slice else answers.utilisation_ppm(percent),
            throttled=library.throttled(number),
            ecc_uncorrected=library.ecc_uncorrected(number),
            processes=library.processes(number),
        )


def bytes_of(value: int, unit: int) -> int | None:
    """Return an amount of memory in bytes; None for 0, a sentinel and what no accelerator has."""
    return answers.bounded(value * unit, 1, MOST_BYTES)
