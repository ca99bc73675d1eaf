"""AMD's management library as its header declares it: structures, functions and constants that petaseal uses. No calls.

The layout of the structures changes with the library's major version; these are of `MAJOR`.
Source: AMD SMI library, include/amd_smi/amdsmi.h of version 26 (ROCm 7).
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char, c_float, c_int64, c_ubyte, c_uint32, c_uint64, c_void_p
from typing import Any, ClassVar

from bench.devices.libraries.loading import alike

MAJOR = 26
SUCCESS, NO_PERMISSION = 0, 10
AMD_GPUS = 2  # amdsmi_init_flags_t
VRAM, GFX_CLOCK, EDGE, HOTSPOT, CURRENT = 0, 0, 0, 1, 0
NOT_AVAILABLE = frozenset({0xFFFF, 2**32 - 1, 2**64 - 1})
TEXT = c_char * 256
PER_XCC = c_uint64 * 64  # [partition][compute die]
ACTIVE_PER_XCC = c_ubyte * 64


class AmdSmiVersion(Structure):
    """``amdsmi_version_t``."""

    _fields_: ClassVar = [("major", c_uint32), ("minor", c_uint32), ("release", c_uint32), ("build", c_void_p)]


class AmdSmiAsic(Structure):
    """``amdsmi_asic_info_t``."""

    _fields_: ClassVar = [
        ("market_name", TEXT),
        ("vendor_id", c_uint32),
        ("vendor_name", TEXT),
        ("subvendor_id", c_uint32),
        ("device_id", c_uint64),
        ("rev_id", c_uint32),
        ("asic_serial", TEXT),
        ("oam_id", c_uint32),
        ("num_of_compute_units", c_uint32),
        ("target_graphics_version", c_uint64),
        ("subsystem_id", c_uint32),
        ("reserved", c_uint32 * 21),
    ]


class AmdSmiBoard(Structure):
    """``amdsmi_board_info_t``."""

    _fields_: ClassVar = [
        *alike(TEXT, "model_number product_serial fru_id product_name manufacturer_name"),
        ("reserved", c_uint64 * 64),
    ]


class AmdSmiKfd(Structure):
    """``amdsmi_kfd_info_t``."""

    _fields_: ClassVar = [
        ("kfd_id", c_uint64),
        ("node_id", c_uint32),
        ("current_partition_id", c_uint32),
        ("reserved", c_uint32 * 12),
    ]


class AmdSmiVbios(Structure):
    """``amdsmi_vbios_info_t``."""

    _fields_: ClassVar = [*alike(TEXT, "name build_date part_number version"), ("reserved", c_uint64 * 68)]


class AmdSmiDriver(Structure):
    """``amdsmi_driver_info_t``."""

    _fields_: ClassVar = [("driver_version", TEXT), ("driver_date", TEXT), ("driver_name", TEXT)]


class AmdSmiPower(Structure):
    """``amdsmi_power_info_t``; the socket's power is in watts."""

    _fields_: ClassVar = [
        ("socket_power", c_uint64),
        ("current_socket_power", c_uint32),
        ("average_socket_power", c_uint32),
        *alike(c_uint64, "gfx_voltage soc_voltage mem_voltage"),
        ("power_limit", c_uint32),
        ("reserved", c_uint64 * 18),
    ]


class AmdSmiPowerCap(Structure):
    """``amdsmi_power_cap_info_t``, in microwatts."""

    _fields_: ClassVar = [
        *alike(c_uint64, "power_cap default_power_cap dpm_cap min_power_cap max_power_cap"),
        ("reserved", c_uint64 * 3),
    ]


class AmdSmiClock(Structure):
    """``amdsmi_clk_info_t``, in MHz."""

    _fields_: ClassVar = [
        *alike(c_uint32, "clk min_clk max_clk"),
        ("clk_locked", c_ubyte),
        ("clk_deep_sleep", c_ubyte),
        ("reserved", c_uint32 * 4),
    ]


class AmdSmiUsage(Structure):
    """``amdsmi_engine_usage_t``, in percent."""

    _fields_: ClassVar = [*alike(c_uint32, "gfx_activity umc_activity mm_activity"), ("reserved", c_uint32 * 13)]


class AmdSmiErrors(Structure):
    """``amdsmi_error_count_t``."""

    _fields_: ClassVar = [
        *alike(c_uint64, "correctable_count uncorrectable_count deferred_count"),
        ("reserved", c_uint64 * 5),
    ]


class AmdSmiViolations(Structure):
    """``amdsmi_violation_status_t``; the library watches for a tenth of a second to fill it."""

    _fields_: ClassVar = [
        ("reference_timestamp", c_uint64),
        ("violation_timestamp", c_uint64),
        ("acc", c_uint64 * 7),
        ("per", c_uint64 * 6),
        *alike(c_ubyte, "active_prochot_thrm active_ppt_pwr active_socket_thrm active_vr_thrm active_hbm_thrm"),
        ("active_gfx_clk_below_host_limit", c_ubyte),
        ("acc_per_xcc", PER_XCC * 4),
        ("per_per_xcc", PER_XCC * 4),
        ("active_per_xcc", ACTIVE_PER_XCC * 4),
        ("reserved", PER_XCC * 3),
    ]


REASONS = {  # the names of `bench.devices.libraries.amd.gpu_metrics`
    "active_prochot_thrm": "prochot",
    "active_ppt_pwr": "ppt",
    "active_socket_thrm": "socket_thermal",
    "active_vr_thrm": "vr_thermal",
    "active_hbm_thrm": "hbm_thermal",
}
HANDLE = c_void_p
FUNCTIONS: dict[str, tuple[Any, ...]] = {  # types of the arguments; each returns an amdsmi_status_t
    "amdsmi_init": (c_uint64,),
    "amdsmi_shut_down": (),
    "amdsmi_get_lib_version": (POINTER(AmdSmiVersion),),
    "amdsmi_get_socket_handles": (POINTER(c_uint32), POINTER(HANDLE)),
    "amdsmi_get_processor_handles": (HANDLE, POINTER(c_uint32), POINTER(HANDLE)),
    "amdsmi_get_gpu_device_bdf": (HANDLE, POINTER(c_uint64)),
    "amdsmi_get_gpu_asic_info": (HANDLE, POINTER(AmdSmiAsic)),
    "amdsmi_get_gpu_board_info": (HANDLE, POINTER(AmdSmiBoard)),
    "amdsmi_get_gpu_kfd_info": (HANDLE, POINTER(AmdSmiKfd)),
    "amdsmi_get_gpu_vbios_info": (HANDLE, POINTER(AmdSmiVbios)),
    "amdsmi_get_gpu_driver_info": (HANDLE, POINTER(AmdSmiDriver)),
    "amdsmi_get_gpu_compute_partition": (HANDLE, POINTER(c_char), c_uint32),
    "amdsmi_get_gpu_memory_total": (HANDLE, c_uint32, POINTER(c_uint64)),
    "amdsmi_get_power_cap_info": (HANDLE, c_uint32, POINTER(AmdSmiPowerCap)),
    "amdsmi_get_power_info": (HANDLE, POINTER(AmdSmiPower)),
    "amdsmi_get_temp_metric": (HANDLE, c_uint32, c_uint32, POINTER(c_int64)),
    "amdsmi_get_clock_info": (HANDLE, c_uint32, POINTER(AmdSmiClock)),
    "amdsmi_get_gpu_activity": (HANDLE, POINTER(AmdSmiUsage)),
    "amdsmi_get_violation_status": (HANDLE, POINTER(AmdSmiViolations)),
    "amdsmi_get_gpu_total_ecc_count": (HANDLE, POINTER(AmdSmiErrors)),
    "amdsmi_get_gpu_process_list": (HANDLE, POINTER(c_uint32), c_void_p),
    "amdsmi_get_energy_count": (HANDLE, POINTER(c_uint64), POINTER(c_float), POINTER(c_uint64)),
}
NEEDED = tuple(FUNCTIONS)[:7]  # without which the library is of no use
