from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from bench.engine.assemble import samples_gz, with_made_up_identities
from bench.engine.compute import failure_of
from bench.engine.measure import SampleRow
from bench.errors import DeviceError
from bench.profile import load_profile
from bench.record import NodeRecord, encode
from bench.scenario import Scenario, Script
from tests.bench.fleet import CACHE_BYTES, simulate

CANONICAL_LIMIT = 13_300  # so that the envelope, base64 and signature included, stays within 18 KiB


@pytest.mark.long
def test_a_record_of_eight_devices_and_two_precisions_is_small() -> None:
    noisy = Script(noise_ppm=3_000, temperature_rise_c=1, telemetry_interval_s=0.7)
    fixed = replace(load_profile("certification"), tuned_shapes={})
    for profile, windows in ((fixed, 2), (load_profile("certification"), 4)):
        record = simulate(Scenario(default=noisy, cache_bytes=CACHE_BYTES), 8, profile)
        payload = encode(replace(record, campaign=None))  # a centre's campaign is a file of its own
        assert record.failures == ()
        assert len(record.measurements) == windows
        assert len(payload) <= CANONICAL_LIMIT * windows // 2, f"{len(payload)} bytes"
        assert msgspec.json.decode(encode(record), type=NodeRecord) == record


def test_devices_with_other_shapes_are_measurements_of_their_own() -> None:
    mixed = Scenario(devices={"1": {"rate_gflop_s": {"fp16": 1_000}}})
    record = simulate(mixed, 3, "smoke", ("fp16",))
    assert [(m.m, m.device) for m in record.measurements] == [
        (8192, ("fake:0", "fake:2")),
        (1024, ("fake:1",)),
    ]
    assert len(record.models) == 1


def test_samples_do_not_depend_on_the_order_of_the_readings() -> None:
    rows = [SampleRow("fake:0", "fp16", phase, at, "clock_mhz", at) for phase in ("window", "warmup") for at in (5, -3)]
    assert samples_gz(rows) == samples_gz(rows[::-1])
    assert samples_gz(rows) != samples_gz(rows[:-1])


def test_identities_that_are_made_up_keep_what_is_null_and_what_is_equal() -> None:
    devices = simulate(Scenario(), 3, "smoke", ("fp16",)).devices
    part = replace(devices[1], parent=devices[0].uuid, serial=devices[0].serial, pci_address=None)
    whole, published, other = with_made_up_identities([devices[0], part, devices[2]])
    assert (published.parent, published.serial, published.pci_address) == (whole.uuid, whole.serial, None)
    assert len({whole.uuid, published.uuid, other.uuid}) == 3
    told = {value for d in devices for value in (d.uuid, d.serial, d.pci_address)}
    assert told.isdisjoint(value for d in (whole, published, other) for value in (d.uuid, d.serial, d.pci_address))
    (again,) = with_made_up_identities([devices[0]])  # made up anew: trying all that there are finds none of them
    assert {again.uuid, again.serial, again.pci_address}.isdisjoint((whole.uuid, whole.serial, whole.pci_address))


class OutOfMemoryError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (DeviceError("no-shape", "none fits"), "no-shape", "none fits"),
        (DeviceError("missing-library", "torch is not installed"), "device-failed", "torch is not installed"),
        (MemoryError(), "out-of-memory", "MemoryError"),
        (OutOfMemoryError("CUDA out of memory"), "out-of-memory", "OutOfMemoryError: CUDA out of memory"),
        (OSError("cannot open /home/someone/lib.so now"), "device-failed", "OSError: cannot open <path> now"),
        (ValueError("two\nlines"), "device-failed", "ValueError: two"),
    ],
)
def test_errors_become_a_code_and_a_short_text_without_places(error: BaseException, code: str, detail: str) -> None:
    assert failure_of(error) == (code, detail)
    assert len(failure_of(ValueError("x" * 1000))[1]) <= 200
