"""Moore Threads: ``mthreads-gmi -q --json``, which reports all GPUs in one run.

Peak clocks, memory errors, processes, throttling and shares of a GPU are unknown here: their form is not published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from bench.devices.libraries import answers
from bench.devices.source import Fault, ListedDevice, usable
from bench.devices.tools.texts import MIB, VERSION, address, quantity, reported_text, whole
from bench.devices.tools.tool import ToolSource
from bench.errors import DeviceError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

MOST_OBJECTS = 64  # in what the tool prints: warnings may stand before the report, with braces of their own
_VERSION = re.compile(rf":\s*{VERSION}\s*$", re.MULTILINE)


class MthreadsGmi(ToolSource):
    """The devices that ``mthreads-gmi`` lists, and their readings."""

    tools: ClassVar[tuple[str, ...]] = ("mthreads-gmi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")
    folder: ClassVar[str] = "/usr/bin"

    def devices(self) -> list[ListedDevice]:
        """Return the GPUs of the report."""
        report = self._report()
        driver = reported_text(report.get("driver version"))
        listed = usable([self._listed(index, gpu, driver) for index, gpu in self._gpus(report).items()])
        self.version = self.tool.version(_VERSION, "-v")
        return listed

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at the GPUs: one run of the tool."""
        gpus = self._gpus(self._report())
        read = {row.number: reading_of(gpus[row.number]) for row in rows if row.number in gpus}
        return {number: reading for number, reading in read.items() if reading != Reading()}

    def _report(self) -> dict[str, Any]:
        """Return what the tool reports.

        Raises:
            InputError: the tool fails, or prints no report.
        """
        # What is printed before the report may be an object too.
        for parsed in json_objects(self.tool.run("-q", "--json")):
            report = plain(parsed)
            if isinstance(report.get("gpu"), list):
                return report
        raise self.tool.unknown("JSON object with a list of GPUs")

    def _gpus(self, report: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """Return what is reported of each GPU, by index.

        Raises:
            InputError: there is no GPU, or one without an index.
        """
        entries = [plain(gpu) for gpu in report["gpu"]]
        indexes = [whole(quantity(gpu.get("index"), "")) for gpu in entries]
        if not entries or None in indexes:
            version = reported_text(report.get("driver version"))
            raise self.tool.unknown("list of GPUs with their indexes", version)
        return {index: gpu for index, gpu in zip(indexes, entries, strict=True) if index is not None}

    def _listed(self, index: int, gpu: Mapping[str, Any], driver: str | None) -> ListedDevice:
        model = reported_text(gpu.get("product name"))
        unnamed = Fault.of(self.tool.unknown("product name of a GPU", driver))
        return ListedDevice(
            number=index,
            model=model or "unknown",
            uuid=readable_identifier(gpu.get("gpu uuid")),
            serial=readable_identifier(gpu.get("serial number")),
            pci_address=address(section(gpu, "pci").get("bus id")),
            firmware=reported_text(gpu.get("mtbios version")),
            driver=driver,
            memory_bytes=memory_bytes(section(gpu, "fb memory usage").get("total")),
            power_limit_mw=milliwatts(section(gpu, "power readings").get("current power limit")),
            fault=unnamed if model is None else None,
        )


def reading_of(gpu: Mapping[str, Any]) -> Reading:
    """Return the reading of one GPU's report; what it does not say is None."""
    return Reading(
        power_mw=milliwatts(section(gpu, "power readings").get("power draw")),
        temperature_c=answers.temperature_c(quantity(section(gpu, "temperature").get("gpu current temp"), "C")),
        clock_mhz=answers.clock_mhz(quantity(section(gpu, "clocks").get("graphics"), "MHz")),
        utilisation_ppm=answers.utilisation_ppm(quantity(section(gpu, "utilization").get("gpu"), "%")),
    )


def milliwatts(text: object) -> int | None:
    """Return a power that is printed in W or mW, mW."""
    # Releases differ in the unit: it is read, never assumed.
    value = quantity(text, "W")
    return answers.power_mw(quantity(text, "mW") if value is None else value * 1000)


def memory_bytes(text: object) -> int | None:
    """Return a size that is printed in MiB or GiB, bytes."""
    mib: Decimal | None = quantity(text, "MiB")
    if mib is None and (gib := quantity(text, "GiB")) is not None:
        mib = gib * 1024
    return whole(mib, MIB) or None


def section(gpu: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section of what is reported of a GPU; empty where it is absent."""
    return plain(gpu.get(name))


def plain(parsed: object) -> dict[str, Any]:
    """Return a mapping with plain names: releases write "Power Draw " with a space, and "Gpu" beside "GPU"."""
    named = parsed.items() if isinstance(parsed, Mapping) else ()
    return {" ".join(str(name).lower().split()): value for name, value in named}


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text, one after another; text between them does not count."""
    decoder, at = json.JSONDecoder(), 0
    # Bounded: a text of nothing but braces would else cost a failed parse for each of them.
    for _ in range(MOST_OBJECTS):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            parsed, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            if isinstance(parsed, dict):
                yield parsed
