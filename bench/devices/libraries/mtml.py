"""Moore Threads' management library libmtml: what identifies a GPU, and its telemetry. Nothing is ever set.

A device has sub-devices, GPU and memory, that are initialised before they are asked. A GPU that is divided (MPC) is
listed as its instances, each a slice; their parent is a point of management, on which nothing computes.
Source: MTML API reference, mtml.h 2.2 (library, device, GPU and memory functions; Multiple Primary Core).
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char,
    c_char_p,
    c_float,
    c_int,
    c_uint,
    c_uint64,
    c_void_p,
    create_string_buffer,
)
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from bench.devices.libraries import answers
from bench.devices.libraries.loading import Library, alike, load_library
from bench.devices.source import DeviceSource, Fault, ListedDevice, usable
from bench.devices.tools.texts import address
from bench.errors import DeviceError, InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

NAMES = ("libmtml.so.2", "libmtml.so")
FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib", "usr/local/musa/lib")
SUCCESS, MISSING, NO_PERMISSION = 0, -1, 5  # MISSING: this release lacks the function
ERRORS = {
    MISSING: "this release does not have it",
    1: "the driver is not loaded",
    2: "the driver cannot be accessed",
    NO_PERMISSION: "this user has no permission",
    7: "there is no such device",
    9: "the driver is too old for the library",
    10: "the driver is newer than the library knows",
    11: "the driver does not answer in time",
}
MPC_PARENT, MPC_INSTANCE = 1, 2  # MtmlMpcType
HOST_VIRTUAL, GUEST_VIRTUAL = 1, 2  # MtmlVirtRole
UNCORRECTED, VOLATILE, DRAM = 1, 0, 1  # MtmlMemoryErrorType, MtmlEccCounterType, MtmlMemoryLocation
MOST_DEVICES = 256
SBDF_SIZE = 32

Handle = c_void_p
Out = POINTER(c_void_p)
Number = POINTER(c_uint)
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "mtmlLibraryInit": (Out,),
    "mtmlLibraryShutDown": (Handle,),
    "mtmlLibraryGetVersion": (Handle, c_char_p, c_uint),
    "mtmlLibraryInitSystem": (Handle, Out),
    "mtmlLibraryFreeSystem": (Handle,),
    "mtmlSystemGetDriverVersion": (Handle, c_char_p, c_uint),
    "mtmlLibraryCountDevice": (Handle, Number),
    "mtmlLibraryInitDeviceByIndex": (Handle, c_uint, Out),
    "mtmlLibraryFreeDevice": (Handle,),
    "mtmlDeviceInitGpu": (Handle, Out),
    "mtmlDeviceFreeGpu": (Handle,),
    "mtmlDeviceInitMemory": (Handle, Out),
    "mtmlDeviceFreeMemory": (Handle,),
    "mtmlDeviceGetName": (Handle, c_char_p, c_uint),
    "mtmlDeviceGetUUID": (Handle, c_char_p, c_uint),
    "mtmlDeviceGetSerialNumber": (Handle, c_uint, c_char_p),
    "mtmlDeviceGetMtBiosVersion": (Handle, c_char_p, c_uint),
    "mtmlDeviceGetVbiosVersion": (Handle, c_char_p, c_uint),
    "mtmlDeviceGetPhyDeviceUuid": (Handle, c_char_p, c_uint),
    "mtmlDeviceGetMpcParentDevice": (Handle, Out),
    "mtmlDeviceGetPciInfo": (Handle, c_void_p),
    "mtmlDeviceGetProperty": (Handle, c_void_p),
    "mtmlDeviceCountGpuCores": (Handle, Number),
    "mtmlDeviceGetPowerUsage": (Handle, Number),
    "mtmlGpuGetTemperature": (Handle, POINTER(c_int)),
    "mtmlGpuGetClock": (Handle, Number),
    "mtmlGpuGetMaxClock": (Handle, Number),
    "mtmlGpuGetUtilization": (Handle, Number),
    "mtmlMemoryGetTotal": (Handle, POINTER(c_uint64)),
    "mtmlMemoryGetEccMode": (Handle, Number, Number),
    "mtmlMemoryGetEccErrorCounter": (Handle, c_uint, c_uint, c_uint, POINTER(c_uint64)),
}
NEEDED = ("mtmlLibraryInit", "mtmlLibraryCountDevice", "mtmlLibraryInitDeviceByIndex", "mtmlDeviceGetName")


class MtmlPciInfo(Structure):
    """Where a device is on the PCI bus."""

    _fields_ = (
        ("sbdf", c_char * SBDF_SIZE),
        *alike(c_uint, "segment bus device pciDeviceId pciSubsystemId busWidth"),
        ("pciMaxSpeed", c_float),
        ("pciCurSpeed", c_float),
        *alike(c_uint, "pciMaxWidth pciCurWidth pciMaxGen pciCurGen"),
        ("rsvd", c_int * 6),
    )


class MtmlDeviceProperty(Structure):
    """What a device is: whole, virtual, or an instance of one that is divided."""

    _fields_ = (
        ("virtCap", c_uint, 1),
        ("virtRole", c_uint, 3),
        ("mpcCap", c_uint, 1),
        ("mpcType", c_uint, 3),
        ("mtLinkCap", c_uint, 1),
        ("rsvd", c_uint, 23),
        ("rsvd2", c_uint, 32),
    )


class MtmlHandles(NamedTuple):
    """A device and its initialised sub-devices; None for one that the library refuses."""

    device: Handle
    gpu: Handle | None
    memory: Handle | None
    is_slice: bool = False


class MtmlSource(DeviceSource):
    """All GPUs of Moore Threads on a node, through libmtml.

    Memory errors are read where the memory's ECC mode is on. A slice has no power and no utilisation of its own.
    """

    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")

    def __init__(self, root: Path, library: Library) -> None:
        super().__init__(root, "mtml", library.path, library.sha256)
        self._functions = {name: library.function(name, *types) for name, types in FUNCTIONS.items()}
        self._handles: dict[int, MtmlHandles] = {}
        self._library = self._initialised("mtmlLibraryInit", None)
        self.version = self._text("mtmlLibraryGetVersion", self._library, 32)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Load and initialise the library.

        Raises:
            InputError: as `DeviceSource.open`.
        """
        folders = [str(root / folder) for folder in FOLDERS]
        return cls(root, load_library("Moore Threads", NAMES, folders, needed=NEEDED))

    def devices(self) -> list[ListedDevice]:
        """Return all GPUs that compute, in the library's order.

        Raises:
            InputError: the library does not count them, or none of them answers.
        """
        self._free_devices()
        driver, count = self._driver(), c_uint()
        code = self._call("mtmlLibraryCountDevice", self._library, byref(count))
        if code != SUCCESS or count.value > MOST_DEVICES:
            raise self._refused("mtmlLibraryCountDevice", code)
        rows: list[ListedDevice] = []
        for index in range(count.value):
            if (row := self._listed(index, len(rows), driver)) is not None:
                rows.append(row)
        return usable(rows)

    def complete(self, row: ListedDevice) -> ListedDevice:
        """Return a GPU with what it exposes beyond what every one does: counts of memory errors, where ECC is on."""
        handles = self._handles.get(row.number)
        if handles is None:
            return row
        return row._replace(exposes=answers.exposed(row.exposes or self.exposes, self._reading(handles)))

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at the GPUs.

        Raises:
            InputError: none of them has a reading.
        """
        read = {row.number: self._reading(self._handles[row.number]) for row in rows if row.number in self._handles}
        look: dict[int, Reading | DeviceError] = {number: one for number, one in read.items() if one != Reading()}
        if rows and not look:
            raise answers.refused(NAMES[-1], "no GPU has a reading")
        return look

    def close(self) -> None:
        """Free all devices and shut the library down."""
        self._free_devices()
        self._call("mtmlLibraryShutDown", self._library)

    def _call(self, name: str, *arguments: Any) -> int:
        """Return a function's code."""
        function = self._functions[name]
        return MISSING if function is None else int(function(*arguments))

    def _refused(self, name: str, code: int) -> InputError:
        said = ERRORS.get(code, "the answer is impossible" if code == SUCCESS else f"code {code}")
        return answers.refused(NAMES[-1], f"{name} fails: {said}", denied=code == NO_PERMISSION)

    def _initialised(self, name: str, of: Handle | None, *arguments: Any) -> Handle:
        """Return what an initialising function makes.

        Raises:
            InputError: it refuses.
        """
        made = Handle()
        code = self._call(name, *([] if of is None else [of]), *arguments, byref(made))
        if code != SUCCESS or not made:
            raise self._refused(name, code)
        return made

    def _sub_device(self, name: str, device: Handle) -> Handle | None:
        try:
            return self._initialised(name, device)
        except InputError:
            return None

    def _number(self, name: str, handle: Handle | None, *arguments: Any, kind: Any = c_uint) -> int | None:
        answer = kind()
        asked = handle is not None and self._call(name, handle, *arguments, byref(answer)) == SUCCESS
        return int(answer.value) if asked and answer.value != kind(-1).value else None

    def _text(self, name: str, handle: Handle, size: int) -> str | None:
        buffer = create_string_buffer(size)
        size_first = FUNCTIONS[name][1] is c_uint
        code = self._call(name, handle, *((size, buffer) if size_first else (buffer, size)))
        return answers.text(buffer.raw) if code == SUCCESS else None

    def _driver(self) -> str | None:
        try:
            system = self._initialised("mtmlLibraryInitSystem", self._library)
        except InputError:
            return None
        driver = self._text("mtmlSystemGetDriverVersion", system, 80)
        self._call("mtmlLibraryFreeSystem", system)
        return driver

    def _listed(self, index: int, number: int, driver: str | None) -> ListedDevice | None:
        """Return a device; None for the parent of instances."""
        try:
            device = self._initialised("mtmlLibraryInitDeviceByIndex", self._library, index)
        except InputError as error:
            return ListedDevice(number=number, model="unknown", driver=driver, fault=Fault.of(error))
        kind = MtmlDeviceProperty()
        if self._call("mtmlDeviceGetProperty", device, byref(kind)) != SUCCESS:
            kind = MtmlDeviceProperty()
        if kind.mpcType == MPC_PARENT:
            self._call("mtmlLibraryFreeDevice", device)
            return None
        is_slice = kind.mpcType == MPC_INSTANCE or kind.virtRole in (HOST_VIRTUAL, GUEST_VIRTUAL)
        gpu, memory = (self._sub_device(f"mtmlDeviceInit{part}", device) for part in ("Gpu", "Memory"))
        handles = self._handles[number] = MtmlHandles(device, gpu, memory, is_slice)
        row = self._described(number, handles, driver)
        return self._as_slice(row, handles, kind) if is_slice else row

    def _described(self, number: int, handles: MtmlHandles, driver: str | None) -> ListedDevice:
        device = handles.device
        model = self._text("mtmlDeviceGetName", device, 32)
        unnamed = answers.refused(NAMES[-1], "the GPU has no name")
        return ListedDevice(
            number=number,
            model=model or "unknown",
            uuid=readable_identifier(self._text("mtmlDeviceGetUUID", device, 48)),
            serial=readable_identifier(self._text("mtmlDeviceGetSerialNumber", device, 64)),
            pci_address=self._address(device),
            firmware=self._text("mtmlDeviceGetMtBiosVersion", device, 64)
            or self._text("mtmlDeviceGetVbiosVersion", device, 64),
            driver=driver,
            memory_bytes=answers.count(self._number("mtmlMemoryGetTotal", handles.memory, kind=c_uint64)) or None,
            units=answers.count(self._number("mtmlDeviceCountGpuCores", device)) or None,
            max_clock_mhz=answers.clock_mhz(self._number("mtmlGpuGetMaxClock", handles.gpu)),
            modes=self._modes(handles.memory),
            fault=Fault.of(unnamed) if model is None else None,
        )

    def _as_slice(self, row: ListedDevice, handles: MtmlHandles, kind: MtmlDeviceProperty) -> ListedDevice:
        """Return an instance or a virtual GPU: its serial is the card's, which is its parent."""
        whole: str | None = None
        if kind.mpcType == MPC_INSTANCE:
            parent = self._sub_device("mtmlDeviceGetMpcParentDevice", handles.device)  # the library's own: never freed
            whole = None if parent is None else self._text("mtmlDeviceGetUUID", parent, 48)
        else:
            whole = self._text("mtmlDeviceGetPhyDeviceUuid", handles.device, 48)
        return row._replace(
            serial=None,
            parent=readable_identifier(whole) or row.serial,
            count_unit="slice",
            exposes=tuple(name for name in self.exposes if name != "power"),
        )

    def _address(self, device: Handle) -> str | None:
        pci = MtmlPciInfo()
        if self._call("mtmlDeviceGetPciInfo", device, byref(pci)) != SUCCESS:
            return None
        return address(answers.text(pci.sbdf)) or address(f"{pci.segment:04x}:{pci.bus:02x}:{pci.device:02x}.0")

    def _modes(self, memory: Handle | None) -> tuple[tuple[str, str], ...]:
        now, pending = c_uint(), c_uint()
        if memory is None or self._call("mtmlMemoryGetEccMode", memory, byref(now), byref(pending)) != SUCCESS:
            return ()
        return answers.ecc_modes(now.value, pending.value)

    def _reading(self, handles: MtmlHandles) -> Reading:
        device, gpu, memory, is_slice = handles
        errors = None
        if ("ecc", "on") in self._modes(memory):
            errors = self._number("mtmlMemoryGetEccErrorCounter", memory, UNCORRECTED, VOLATILE, DRAM, kind=c_uint64)
        return Reading(
            power_mw=None if is_slice else answers.power_mw(self._number("mtmlDeviceGetPowerUsage", device)),
            temperature_c=answers.temperature_c(self._number("mtmlGpuGetTemperature", gpu, kind=c_int)),
            clock_mhz=answers.clock_mhz(self._number("mtmlGpuGetClock", gpu)),
            utilisation_ppm=None if is_slice else answers.utilisation_ppm(self._number("mtmlGpuGetUtilization", gpu)),
            ecc_uncorrected=answers.count(errors),
        )

    def _free_devices(self) -> None:
        """Free all devices with their sub-devices; a release that needs that no more may lack the functions."""
        for handles in self._handles.values():
            for name, handle in (("mtmlDeviceFreeGpu", handles.gpu), ("mtmlDeviceFreeMemory", handles.memory)):
                if handle is not None:
                    self._call(name, handle)
            self._call("mtmlLibraryFreeDevice", handles.device)
        self._handles = {}
