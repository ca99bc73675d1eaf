"""A scripted accelerator that fails in the ways real ones do. Marked `simulated` in everything that it enters.

Its products are real, of small operands, so that the check of R5 is real too; its time, clocks, power and temperature
are what the script says (``bench.scenario``).
"""

from __future__ import annotations

import hashlib
import os

from bench.clock import Clock
from bench.devices.base import LocalDevice, described_device, described_model, index_of
from bench.devices.opened_fake import OpenedFake
from bench.errors import InputError
from bench.record import Device, DeviceModel, NodeClock, readable_identifier
from bench.scenario import NODE_VARIABLE, Scenario, read_scenario

EXPOSES = ("power", "clock", "temperature", "throttle", "ecc", "processes")
MOST_DEVICES = 1024


class Fake:
    """Back end of scripted devices.

    Args:
        scenario: None to read the one that the environment names.
    """

    def __init__(self, scenario: Scenario | None = None) -> None:
        self.scenario = read_scenario() if scenario is None else scenario

    def find(self, argument: str | None) -> list[LocalDevice]:
        """Return as many fakes as `argument` says, one by default."""
        count = argument or "1"
        if not (count.isascii() and count.isdigit()) or len(count) > 4 or not 1 <= int(count) <= MOST_DEVICES:
            raise InputError("no-device", f"fake:N stands for 1 to {MOST_DEVICES} fakes", where=f"fake:{argument}")
        return [LocalDevice(self._model(), self._device(index)) for index in range(int(count))]

    def open(self, local: LocalDevice, clock: Clock) -> OpenedFake:
        """Return a fake for measuring."""
        return OpenedFake(self.scenario, index_of(local), clock)

    def node_clock(self) -> NodeClock | None:
        """Return the clock that the scenario scripts."""
        return NodeClock(source="fake", uncertainty_ns=self.scenario.clock_uncertainty_ns)

    def _model(self) -> DeviceModel:
        s, telemetry = self.scenario, self.scenario.default.telemetry
        return described_model(
            kind="gpu",
            vendor=s.vendor,
            model=s.model,
            simulated=True,
            plays=s.plays,
            count_unit=s.count_unit,
            obtained=dict.fromkeys(("vendor", "model", "uuid", "serial", "pci_address", "firmware"), "asserted"),
            firmware="1.0",
            driver="fake",
            memory_bytes=s.memory_bytes,
            cache_bytes=s.cache_bytes,
            units=s.units,
            max_clock_mhz=s.max_clock_mhz,
            source="fake" if telemetry else None,
            exposes=EXPOSES if telemetry else (),
        )

    def _device(self, index: int) -> Device:
        parts = ("petaseal/fake", os.environ.get(NODE_VARIABLE), str(index))  # each node of a campaign has its own
        made_up = hashlib.sha256("/".join(filter(None, parts)).encode()).hexdigest()
        identity: dict[str, str | None] = {
            "uuid": f"fake-{made_up[:32]}",
            "serial": f"f{int(made_up[32:44], 16):015d}",
            "die_id": None,
            "pci_address": f"0000:{index // 32 + 1:02x}:{index % 32:02x}.0",
            "parent": None,
        }
        identity |= self.scenario.script(index).identity
        fields = {name: readable_identifier(value) for name, value in identity.items()}
        return described_device(device=f"fake:{index}", **fields)
