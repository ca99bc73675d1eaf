"""The functions of Huawei's libdcmi that petaseal calls, and their structures.

A driver serves one of two generations of the API. To the first (`dcmi_*`) a chip is a card and a place on that card,
to the second (`dcmiv2_*`, from Ascend 950 on) it is its logic id. Both generations have a function for one question,
and the first often two, of which an older driver has the older alone.

Source: Huawei, DCMI API reference; dcmi_interface_api.h and dcmi_interface_api_v2.h of CANN's open driver.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.devices.libraries.loading import Library, alike

SUCCESS, MISSING = 0, -99998  # the latter is what bindings say of a function that the library does not have
DENIED = frozenset({-8002, -8005, -8020})
NOT_THERE, UNSUPPORTED = -8008, frozenset({-8255, MISSING})
MEANINGS = {
    -8001: "invalid parameter",
    -8002: "not permitted to this user",
    -8003: "no memory",
    -8004: "a string function failed",
    -8005: "inner error",
    -8006: "no answer in time",
    -8007: "invalid device id",
    NOT_THERE: "the device does not exist",
    -8009: "the driver refused",
    -8010: "nothing could be sent to the device",
    -8011: "nothing was received from the device",
    -8012: "the device is not ready",
    -8013: "not supported in a container",
    -8015: "the reset failed",
    -8016: "aborted",
    -8017: "the device is being upgraded",
    -8020: "the resource is occupied",
    -8023: "no such configuration",
    -8255: "not supported",
    MISSING: "this release has no such function",
}
CARDS, PROCESSES, NAME, LABEL, DIE_WORDS, VIRTUAL = 64, 256, 32, 256, 5, 32  # sizes of arrays
NPU = 0  # of `unit`: neither a card's management chip nor its control processor
CLOCK_NOW, CLOCK_RATED = 7, 9  # of `clock`: the AI cores', MHz
DDR, HBM = 0, 2  # of `ecc`
AI_CORE = 2  # of `use`
VDIE, DDIE = 1, 2  # of `die`: of the compute die, and what a 950 has in its place
VIRTUAL_DEVICES, TOTALS = 52, 1  # main and sub command of dcmi_get_device_info


class DcmiChip(ctypes.Structure):
    """Struct dcmi_chip_info."""

    _fields_ = (*alike(ctypes.c_char * NAME, "chip_type chip_name chip_ver"), ("aicore_cnt", ctypes.c_uint))


class DcmiChipV2(ctypes.Structure):
    """Struct dcmi_chip_info_v2."""

    _fields_ = (*DcmiChip._fields_, ("npu_name", ctypes.c_char * NAME))


class DcmiPcie(ctypes.Structure):
    """Struct dcmi_pcie_info: without a domain, and in another order than the later one."""

    _fields_ = alike(ctypes.c_uint, "deviceid venderid subvenderid subdeviceid bdf_deviceid bdf_busid bdf_funcid")


class DcmiPcieAll(ctypes.Structure):
    """Struct dcmi_pcie_info_all."""

    _fields_ = (
        *alike(ctypes.c_uint, "venderid subvenderid deviceid subdeviceid"),
        ("domain", ctypes.c_int),
        *alike(ctypes.c_uint, "bdf_busid bdf_deviceid bdf_funcid"),
        ("reserve", ctypes.c_char * 32),
    )


class DcmiDie(ctypes.Structure):
    """Struct dcmi_die_id."""

    _fields_ = (("soc_die", ctypes.c_uint * DIE_WORDS),)


class DcmiEcc(ctypes.Structure):
    """Struct dcmi_ecc_info; older drivers write it without the last two."""

    _fields_ = (
        ("enable_flag", ctypes.c_int),
        *alike(ctypes.c_uint, "single_bit_error_cnt double_bit_error_cnt"),
        *alike(ctypes.c_uint, "total_single_bit_error_cnt total_double_bit_error_cnt"),
        *alike(ctypes.c_uint, "single_bit_isolated_pages_cnt double_bit_isolated_pages_cnt"),
        *alike(ctypes.c_uint, "single_bit_next_isolated_pages_cnt double_bit_next_isolated_pages_cnt"),
    )


class DcmiHbm(ctypes.Structure):
    """Struct dcmi_hbm_info; sizes in MiB."""

    _fields_ = (
        ("memory_size", ctypes.c_ulonglong),
        ("freq", ctypes.c_uint),
        ("memory_usage", ctypes.c_ulonglong),
        ("temp", ctypes.c_int),
        ("bandwith_util_rate", ctypes.c_uint),
    )


class DcmiMemory(ctypes.Structure):
    """Struct dcmi_memory_info; the size in MiB."""

    _fields_ = (("memory_size", ctypes.c_ulonglong), ("freq", ctypes.c_uint), ("utiliza", ctypes.c_uint))


class DcmiMemoryV3(ctypes.Structure):
    """Struct dcmi_get_memory_info_stru; sizes in MiB."""

    _fields_ = (
        ("memory_size", ctypes.c_ulonglong),
        ("memory_available", ctypes.c_ulonglong),
        ("freq", ctypes.c_uint),
        *alike(ctypes.c_ulong, "hugepagesize hugepages_total hugepages_free"),
        ("utiliza", ctypes.c_uint),
        ("reserve", ctypes.c_char * 60),
    )


class DcmiLabel(ctypes.Structure):
    """Struct dcmi_elabel_info."""

    _fields_ = alike(ctypes.c_char * LABEL, "product_name model manufacturer manufacturer_date serial_number")


class DcmiProcess(ctypes.Structure):
    """Struct dcmi_proc_mem_info."""

    _fields_ = (("proc_id", ctypes.c_int), ("proc_mem_usage", ctypes.c_ulonglong))


class DcmiTotals(ctypes.Structure):
    """Struct dcmi_soc_total_resource; its latter part, of which nothing is read, as one."""

    _fields_ = (
        ("vdev_num", ctypes.c_uint),
        ("vdev_id", ctypes.c_uint * VIRTUAL),
        ("vfg_num", ctypes.c_uint),
        ("vfg_bitmap", ctypes.c_uint),
        ("resources", ctypes.c_ulonglong * 27),
    )


class DcmiCall(NamedTuple):
    """One function, which writes one answer behind its last argument.

    Args:
        name: of the function.
        answer: the type of the answer.
    """

    name: str
    answer: Any


def _both(name: str, answer: Any) -> tuple[DcmiCall, DcmiCall]:
    """Return a function that both generations have under one name."""
    return DcmiCall(f"dcmiv2_{name}", answer), DcmiCall(f"dcmi_{name}", answer)


# question -> functions, newest first. Their arguments: the device, what `ask` is given besides, the answer.
QUESTIONS: dict[str, tuple[DcmiCall, ...]] = {
    "unit": _both("get_device_type", ctypes.c_uint),
    "chip": (
        DcmiCall("dcmiv2_get_device_chip_info", DcmiChipV2),
        DcmiCall("dcmi_get_device_chip_info_v2", DcmiChipV2),
        DcmiCall("dcmi_get_device_chip_info", DcmiChip),
    ),
    "pcie": (
        DcmiCall("dcmiv2_get_device_pcie_info", DcmiPcieAll),
        DcmiCall("dcmi_get_device_pcie_info_v2", DcmiPcieAll),
        DcmiCall("dcmi_get_device_pcie_info", DcmiPcie),
    ),
    "die": (DcmiCall("dcmiv2_get_device_die_id", DcmiDie), DcmiCall("dcmi_get_device_die_v2", DcmiDie)),
    "old die": (DcmiCall("dcmi_get_device_die", DcmiDie),),
    "label": _both("get_device_elabel_info", DcmiLabel),
    "label of card": (DcmiCall("dcmi_get_card_elabel_v2", DcmiLabel),),
    "hbm": _both("get_device_hbm_info", DcmiHbm),
    "memory": (
        DcmiCall("dcmi_get_device_memory_info_v3", DcmiMemoryV3),
        DcmiCall("dcmi_get_device_memory_info_v2", DcmiMemory),
    ),
    "power": _both("get_device_power_info", ctypes.c_int),
    "temperature": _both("get_device_temperature", ctypes.c_int),
    "clock": _both("get_device_frequency", ctypes.c_uint),
    "use": _both("get_device_utilization_rate", ctypes.c_uint),
    "ecc": _both("get_device_ecc_info", DcmiEcc),
}
# Functions of both generations with arguments of another form.
PROCESS_LIST = {"dcmi_": "dcmi_get_device_resource_info", "dcmiv2_": "dcmiv2_get_device_proc_mem_info"}


class DcmiError(Exception):
    """A function of libdcmi refused; `code` is what it answered."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{MEANINGS.get(code, 'an error that is not documented')} ({code})")
        self.code = code


class Dcmi:
    """The library, initialised.

    Args:
        library: loaded.
        prefix: of the functions of the generation that its driver serves: "dcmi_" or "dcmiv2_".
    """

    def __init__(self, library: Library, prefix: str) -> None:
        self.library = library
        self.prefix = prefix

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            DcmiError: it refuses, or this release does not have it.
        """
        function = self.library.function(name)
        code = MISSING if function is None else int(function(*arguments))
        if code != SUCCESS:
            raise DcmiError(code)

    def ask(self, question: str, device: Sequence[int], *which: int) -> Any:
        """Return what the first function of a question that answers does answer.

        Args:
            question: of `QUESTIONS`.
            device: card and chip; or logic id.
            which: clock, memory or die is meant, where the question has several.

        Raises:
            DcmiError: none answers; with what the newest that exists says.
        """
        refusal = DcmiError(MISSING)
        for name, answer in QUESTIONS[question]:
            if not name.startswith(self.prefix):
                continue
            filled = answer()
            try:
                self.call(name, *device, *which, ctypes.byref(filled))
            except DcmiError as error:
                refusal = error if refusal.code == MISSING else refusal
                continue
            return filled
        raise refusal

    def devices(self) -> list[tuple[int, ...]]:
        """Return all devices: of cards and the units on them, or by logic id.

        A card that does not say how many units it has is listed with one, whose own questions will say why.

        Raises:
            DcmiError: they cannot be listed.
        """
        count, ids = ctypes.c_int(), (ctypes.c_int * CARDS)()
        if self.prefix == "dcmiv2_":
            self.call("dcmiv2_get_device_list", ids, ctypes.byref(count), CARDS)
            return [(number,) for number in ids[: max(0, count.value)]]
        self.call("dcmi_get_card_list", ctypes.byref(count), ids, CARDS)
        places: list[tuple[int, ...]] = []
        for card in ids[: max(0, count.value)]:
            on_card = ctypes.c_int(1)
            with contextlib.suppress(DcmiError):
                self.call("dcmi_get_device_num_in_card", card, ctypes.byref(on_card))
            places += [(card, place) for place in range(min(on_card.value, CARDS))]
        return places

    def logic_id(self, device: Sequence[int]) -> int:
        """Return the number by which frameworks mean a device.

        Raises:
            DcmiError: it is not known.
        """
        if len(device) == 1:
            return device[0]
        number = ctypes.c_int(-1)
        self.call("dcmi_get_device_logic_id", ctypes.byref(number), *device)
        return number.value

    def management_chip(self, card: int) -> int | None:
        """Return the place of the chip that manages a card; None where it has none, or none is known."""
        most, management, control = ctypes.c_int(), ctypes.c_int(-1), ctypes.c_int(-1)
        try:
            pointers = map(ctypes.byref, (most, management, control))
            self.call("dcmi_get_device_id_in_card", card, *pointers)
        except DcmiError:
            return None
        return management.value if management.value >= 0 else None

    def processes(self, device: Sequence[int]) -> int:
        """Return how many processes have memory on a device.

        Raises:
            DcmiError: they are not known.
        """
        count, entries = ctypes.c_int(-1), (DcmiProcess * PROCESSES)()
        self.call(PROCESS_LIST[self.prefix], *device, entries, ctypes.byref(count))
        return count.value

    def virtual_devices(self, device: Sequence[int]) -> int:
        """Return into how many virtual devices a device is split; 0 for none, and where it is not known."""
        totals = DcmiTotals()
        size = ctypes.c_uint(ctypes.sizeof(totals))
        try:
            more = (VIRTUAL_DEVICES, TOTALS, ctypes.byref(totals), ctypes.byref(size))
            self.call(f"{self.prefix}get_device_info", *device, *more)
        except DcmiError:
            return 0
        return int(totals.vdev_num) if totals.vdev_num <= VIRTUAL else 0

    def version(self, name: str, most: int) -> str | None:
        """Return what a function of a version answers; None where it refuses.

        Args:
            name: of the function, without the generation's prefix.
            most: bytes of its answer.
        """
        text = ctypes.create_string_buffer(most)
        try:
            self.call(f"{self.prefix}{name}", text, most)
        except DcmiError:
            return None
        return text.value.decode("utf-8", "replace").strip() or None
