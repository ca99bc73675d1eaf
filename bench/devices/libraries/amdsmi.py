"""AMD's management library (libamd_smi.so) by ctypes, where the kernel's files cannot be read; nothing is ever set.

The layout of its structures changes with its major version: only the one that is known (`smi_api`) is used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import Structure, byref, c_float, c_int64, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from bench.devices.libraries import answers
from bench.devices.libraries.amd import smi_api as api
from bench.devices.libraries.amd.kfd import function_of
from bench.devices.libraries.amdgpu import WHOLE_GPU, count_unit, is_virtual, numeric_id, visible_uuid
from bench.devices.libraries.loading import Library, load_library
from bench.devices.source import DeviceSource, Fault, ListedDevice, usable
from bench.devices.tools.texts import reported_text
from bench.errors import DeviceError, InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading
from bench.units import MAX_INTEGER

NAMES = ("libamd_smi.so.26", "libamd_smi.so")
FOLDERS = ("opt/rocm/lib", "opt/rocm/lib64")
MOST_DEVICES = 256
Filled = TypeVar("Filled", bound=Structure)


class AmdSmiSource(DeviceSource):
    """All AMD GPUs that the library lists."""

    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")

    def __init__(self, root: Path, library: Library) -> None:
        super().__init__(root, "amdsmi", library.path, library.sha256)
        self._functions = {name: library.function(name, *kinds) for name, kinds in api.FUNCTIONS.items()}
        self._turn = 0  # whose throttling is asked next: each such question takes a tenth of a second

    @classmethod
    def open(cls, root: Path) -> Self:
        """Load the library, of the major version that is known here, and begin.

        Raises:
            InputError: `device-library-missing`, `device-library-unusable`, `device-permission`.
        """
        source = cls(root, load_library("AMD", NAMES, [str(root / folder) for folder in FOLDERS], needed=api.NEEDED))
        version = api.AmdSmiVersion()
        # A major version may change the layout of a structure, and the library would write past the end of ours.
        if source._ask("amdsmi_get_lib_version", byref(version)) != api.SUCCESS or version.major != api.MAJOR:
            raise InputError(
                "device-library-unusable",
                f"the management library of AMD is of version {version.major}, whose structures are not known here",
                where="amdsmi",
                fix=f"install the library of ROCm 7 (version {api.MAJOR})",
            )
        source.version = f"{version.major}.{version.minor}.{version.release}"
        # Only after the version is known: init of a library of another layout is a call into the unknown.
        code = source._ask("amdsmi_init", api.AMD_GPUS)
        if code != api.SUCCESS:
            raise _refused("amdsmi_init", code).error()
        return source

    def devices(self) -> list[ListedDevice]:
        """Return all GPUs in the order of KFD's nodes, which is the runtime's.

        Raises:
            InputError: the library fails for every one.
        """
        listed = [self._listed(handle) for handle in self._handles()]
        # ROCR_VISIBLE_DEVICES counts in the order of KFD; the handles come socket by socket.
        if all(node is not None for node, _ in listed):
            listed.sort(key=lambda one: one[0] or 0)
        return usable([row._replace(number=place) for place, (_, row) in enumerate(listed)])

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all devices; the throttling of one of them, in turn."""
        asked = [row for row in rows if row.place]
        self._turn += 1
        looks: dict[int, Reading | DeviceError] = {}
        for place, row in enumerate(asked):
            reading = self._reading(row, watched=self._turn % len(asked) == place)
            if reading != Reading():
                looks[row.number] = reading
        return looks

    def close(self) -> None:
        """End what `open` began."""
        self._ask("amdsmi_shut_down")

    def _ask(self, name: str, *arguments: Any) -> int | None:
        """Return the status with which a function answers; None where this release does not have it."""
        function = self._functions[name]
        return None if function is None else int(function(*arguments))

    def _filled(self, name: str, handle: Any, empty: Filled, *before: int) -> Filled | None:
        """Return a structure as a function fills it; None where it does not."""
        return empty if self._ask(name, handle, *before, byref(empty)) == api.SUCCESS else None

    def _number(self, name: str, handle: Any, empty: Any, *before: int) -> int | None:
        """Return the number that a function gives; None where it gives none."""
        return _set(empty.value) if self._ask(name, handle, *before, byref(empty)) == api.SUCCESS else None

    def _handles(self) -> list[int]:
        """Return the handles of all GPUs, socket by socket.

        Raises:
            InputError: the library does not tell them.
        """
        handles: list[int] = []
        for socket in self._counted("amdsmi_get_socket_handles"):
            handles += self._counted("amdsmi_get_processor_handles", socket)
        return handles

    def _counted(self, name: str, *of: int) -> list[int]:
        """Return the handles that a function writes, asked first how many there are."""
        count = c_uint32(0)
        code = self._ask(name, *of, byref(count), None)
        # Room for more than was announced: devices may come between the two calls.
        room = (c_void_p * MOST_DEVICES)()
        if code == api.SUCCESS and 0 < count.value <= MOST_DEVICES:
            code = self._ask(name, *of, byref(count), room)
        if code != api.SUCCESS:
            raise _refused(name, code).error()
        return [handle for handle in room[: min(count.value, MOST_DEVICES)] if handle]

    def _listed(self, handle: int) -> tuple[int | None, ListedDevice]:
        """Return a GPU, or a partition of one, with the number of its KFD node."""
        place = self._number("amdsmi_get_gpu_device_bdf", handle, c_uint64())
        pci_address = None if not place else function_of(_address(place), self.root)
        kfd = self._filled("amdsmi_get_gpu_kfd_info", handle, api.AmdSmiKfd())
        node = None if kfd is None else _set(kfd.node_id)
        asic = api.AmdSmiAsic()
        code = self._ask("amdsmi_get_gpu_asic_info", handle, byref(asic))
        if code != api.SUCCESS:
            fault = _refused("amdsmi_get_gpu_asic_info", code)
            return node, ListedDevice(0, "unknown", pci_address=pci_address, fault=fault)
        board = self._filled("amdsmi_get_gpu_board_info", handle, api.AmdSmiBoard()) or api.AmdSmiBoard()
        driver = self._filled("amdsmi_get_gpu_driver_info", handle, api.AmdSmiDriver())
        vbios = self._filled("amdsmi_get_gpu_vbios_info", handle, api.AmdSmiVbios())
        model = _text(board.product_name) or _text(asic.market_name) or f"AMD GPU 0x{asic.device_id:04x}"
        unique = numeric_id(_text(asic.asic_serial))
        is_slice = self._mode(handle) not in (None, WHOLE_GPU) or is_virtual(model, asic.device_id)
        clock = self._filled("amdsmi_get_clock_info", handle, api.AmdSmiClock(), api.GFX_CLOCK)
        row = ListedDevice(
            number=0,
            model=model,
            keys=() if unique is None or is_slice else (visible_uuid(unique),),
            uuid=None if unique is None else f"0x{unique:x}",
            serial=readable_identifier(_text(board.product_serial)),
            pci_address=pci_address,
            board_part=_text(board.model_number),
            count_unit=count_unit(model, asic.device_id, asic.subsystem_id),
            firmware=None if vbios is None else _text(vbios.part_number),
            driver=None if driver is None else _text(driver.driver_version),
            memory_bytes=self._number("amdsmi_get_gpu_memory_total", handle, c_uint64(), api.VRAM) or None,
            units=_set(asic.num_of_compute_units) or None,
            max_clock_mhz=None if clock is None else answers.clock_mhz(clock.max_clk),
            place=(str(handle),),
        )
        if is_slice:
            slice_id = None if kfd is None or unique is None else f"{row.uuid}-{kfd.kfd_id}"
            exposes = tuple(name for name in self.exposes if name != "power")
            row = row._replace(uuid=slice_id, serial=None, parent=row.uuid, count_unit="slice", exposes=exposes)
            return node, row
        return node, self._with_limits(handle, row)

    def _mode(self, handle: int) -> str | None:
        """Return how a GPU is partitioned; None where it cannot be."""
        mode = ctypes.create_string_buffer(32)
        code = self._ask("amdsmi_get_gpu_compute_partition", handle, mode, len(mode))
        return (_text(mode.value) or "").upper() or None if code == api.SUCCESS else None

    def _with_limits(self, handle: int, row: ListedDevice) -> ListedDevice:
        cap = self._filled("amdsmi_get_power_cap_info", handle, api.AmdSmiPowerCap(), 0)
        if cap is None:
            return row
        return row._replace(
            power_limit_mw=answers.power_mw(cap.power_cap // 1000),
            power_limit_default_mw=answers.power_mw(cap.default_power_cap // 1000),
            power_limit_max_mw=answers.power_mw(cap.max_power_cap // 1000),
        )

    def _reading(self, row: ListedDevice, *, watched: bool) -> Reading:
        handle, whole = int(row.place[0]), row.count_unit != "slice"
        clock = self._filled("amdsmi_get_clock_info", handle, api.AmdSmiClock(), api.GFX_CLOCK)
        errors = self._filled("amdsmi_get_gpu_total_ecc_count", handle, api.AmdSmiErrors())
        processes = c_uint32(0)
        listed = self._ask("amdsmi_get_gpu_process_list", handle, byref(processes), None) == api.SUCCESS
        reading = Reading(
            temperature_c=self._temperature_c(handle),
            clock_mhz=None if clock is None else answers.clock_mhz(clock.clk),
            throttled=self._throttled(handle) if watched else None,
            ecc_uncorrected=None if errors is None else answers.count(errors.uncorrectable_count),
            processes=_set(processes.value) if listed else None,
        )
        if not whole:
            return reading
        usage = self._filled("amdsmi_get_gpu_activity", handle, api.AmdSmiUsage())
        return reading._replace(
            power_mw=self._power_mw(handle),
            utilisation_ppm=None if usage is None else answers.utilisation_ppm(usage.gfx_activity),
            energy_mj=self._energy_mj(handle),
        )

    def _power_mw(self, handle: int) -> int | None:
        """Return the socket's power: the present one where the chip tells it, else the average; 0 is no power."""
        power = self._filled("amdsmi_get_power_info", handle, api.AmdSmiPower()) or api.AmdSmiPower()
        watts = (power.current_socket_power, power.average_socket_power)
        return next((known for value in watts if (known := answers.power_mw(value * 1000)) is not None), None)

    def _temperature_c(self, handle: int) -> int | None:
        """Return the temperature of the hottest spot, else of the edge; what is below 0 is 0."""
        for sensor in (api.HOTSPOT, api.EDGE):
            value = self._number("amdsmi_get_temp_metric", handle, c_int64(), sensor, api.CURRENT)
            if (known := answers.temperature_c(value)) is not None:
                return known
        return None

    def _energy_mj(self, handle: int) -> int | None:
        count, unit_uj, at = c_uint64(), c_float(), c_uint64()
        if self._ask("amdsmi_get_energy_count", handle, byref(count), byref(unit_uj), byref(at)) != api.SUCCESS:
            return None
        if _set(count.value) is None or not 0 < unit_uj.value < 10**6:  # NaN among them
            return None
        energy_mj = int(count.value * unit_uj.value) // 1000
        return energy_mj if 0 < energy_mj <= MAX_INTEGER else None

    def _throttled(self, handle: int) -> tuple[str, ...] | None:
        seen = self._filled("amdsmi_get_violation_status", handle, api.AmdSmiViolations())
        states = {} if seen is None else {name: getattr(seen, field) for field, name in api.REASONS.items()}
        known = {name: state for name, state in states.items() if state in (0, 1)}
        return tuple(sorted(name for name, state in known.items() if state)) if known else None


def _refused(function: str, code: int | None) -> Fault:
    """Return why the library does not answer."""
    denied = code == api.NO_PERMISSION
    return Fault(
        "device-permission" if denied else "device-library-unusable",
        f"{function} of AMD's management library fails with status {code}",
        "amdsmi",
        "give this user access to /dev/kfd and /dev/dri (groups render and video)" if denied else "is amdgpu loaded?",
    )


def _set(value: int) -> int | None:
    return None if value in api.NOT_AVAILABLE else value


def _text(value: bytes) -> str | None:
    """Return a text without what stands behind a NUL byte and without blanks around it; None for a placeholder."""
    return reported_text(" ".join(value.split(b"\0")[0].decode("utf-8", "replace").split()))


def _address(bdf: int) -> str:
    """Return the PCI address of an ``amdsmi_bdf_t``: from the lowest bit 3 of function, 5 of device, 8 of bus."""
    return f"{bdf >> 16 & 0xFFFF:04x}:{bdf >> 8 & 0xFF:02x}:{bdf >> 3 & 0x1F:02x}.{bdf & 7}"
