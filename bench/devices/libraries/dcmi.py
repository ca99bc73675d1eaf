"""Huawei Ascend through its management library, libdcmi: what identifies a chip, and its telemetry.

Who may call what differs: by user, in a container, by product. A function that refuses costs its quantity, for that
device only. Nothing is ever set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from bench.devices.libraries import answers
from bench.devices.libraries import dcmi_calls as calls
from bench.devices.libraries.dcmi_calls import Dcmi, DcmiDie, DcmiError, DcmiLabel, DcmiPcieAll
from bench.devices.libraries.loading import load_library
from bench.devices.source import DeviceSource, Fault, ListedDevice
from bench.devices.vendors.ascend_chips import is_share, name_of, on_its_card
from bench.errors import DeviceError, InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

LIBRARY = "libdcmi.so"
UNNUMBERED = -1
FOLDERS = ("usr/local/Ascend/driver/lib64/driver", "usr/local/dcmi")
NEEDED = ("dcmi_init", "dcmi_get_card_list", "dcmi_get_device_num_in_card")
NO_ACCESS = "the device belongs to another container, or this process is not in the group of its device files"
MIB = 2**20
# The highest that is believed: above it are sentinels, such as 0x7ffd to 0x7fff, 0xffff and the limits of the types.
MOST_POWER_DW, MOST_CORES, MOST_MIB, MOST_ERRORS = 30_000, 4096, 2**24, 2**31 - 2


class DcmiSource(DeviceSource):
    """All Ascend chips of a node through libdcmi."""

    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature", "ecc", "processes")

    def __init__(self, root: Path, dcmi: Dcmi) -> None:
        library = dcmi.library
        super().__init__(root, "dcmi", library.path, library.sha256, dcmi.version("get_dcmi_version", 32))
        self._dcmi = dcmi
        self._units: dict[int, list[tuple[int, ...]]] = {}  # the chips that compute, by card
        self._management: dict[int, int | None] = {}  # the chip that manages a card

    @classmethod
    def open(cls, root: Path) -> Self:
        """Load and initialise the library, in the generation of its API that the driver serves."""
        library = load_library("Huawei", (LIBRARY,), [str(root / folder) for folder in FOLDERS], needed=NEEDED)
        refusals = []
        for prefix in ("dcmi_", "dcmiv2_"):
            dcmi = Dcmi(library, prefix)
            try:
                dcmi.call(f"{prefix}init")
            except DcmiError as error:
                refusals.append(error)
                continue
            return cls(root, dcmi)
        raise _failed("it cannot be initialised", max(refusals, key=lambda error: error.code not in calls.UNSUPPORTED))

    def devices(self) -> list[ListedDevice]:
        """Return all chips that compute, in the order of their logic ids; one that refuses with its fault."""
        try:
            listed = self._dcmi.devices()
        except DcmiError as error:
            raise _failed("it lists no device", error) from None
        self._units, self._management = {}, {}
        there = [device for device in listed if self._computes(device)]
        for device in there:
            self._units.setdefault(device[0], []).append(device)
        driver = self._dcmi.version("get_driver_version", 64)
        rows = [self._listed(device, order, driver) for order, device in enumerate(there)]
        numbers = {row.number for row in rows}
        if len(numbers) != len(rows):
            raise InputError("device-library-unusable", "it gives two devices one logic id", where=LIBRARY)
        free = iter(
            sorted(set(range(len(rows))) - numbers)
        )  # a chip that refuses its own is one of those that are left
        rows = [row if row.number >= 0 else row._replace(number=next(free)) for row in rows]
        return sorted(rows, key=lambda row: row.number)

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all chips. A card of several has its power once, with the first of them that is read."""
        answers_of: dict[int, Reading | DeviceError] = {}
        cards: set[int] = set()
        for row in rows:
            if row.fault is not None:
                continue
            device = tuple(map(int, row.place))
            together = len(self._units.get(device[0], ())) > 1
            power = row.count_unit != "slice" and not (together and device[0] in cards)
            try:
                answers_of[row.number] = self._reading(device, with_power=power, together=together)
            except DcmiError as error:
                if error.code == calls.NOT_THERE:
                    answers_of[row.number] = DeviceError("device-lost", f"libdcmi says: {error}", where=LIBRARY)
                continue
            cards.add(device[0])
        return answers_of

    def _computes(self, device: tuple[int, ...]) -> bool:
        """Return whether a unit is no chip that manages its card; what an older driver does not tell of each."""
        unit = self._value("unit", device)
        return unit == calls.NPU if unit is not None else device[-1] != self._managing(device)

    def _managing(self, device: tuple[int, ...]) -> int | None:
        """Return the place of the chip that manages a device's card; None where it has none."""
        if len(device) == 1:
            return None
        card = device[0]
        if card not in self._management:
            self._management[card] = self._dcmi.management_chip(card)
        return self._management[card]

    def _listed(self, device: tuple[int, ...], order: int, driver: str | None) -> ListedDevice:
        """Return a chip with all that is known of it; with its fault, where the library refuses what it must know."""
        place = tuple(map(str, device))
        try:
            number = self._number(device, order)
            chip = self._dcmi.ask("chip", device)
        except DcmiError as error:
            fault = Fault.of(_failed("it refuses", error))
            return ListedDevice(UNNUMBERED - order, "Ascend", place=place, driver=driver, fault=fault)
        model = name_of(_text(chip.chip_name), _text(getattr(chip, "npu_name", b"")))
        label = self._label(device)
        row = ListedDevice(
            number=number,
            model=model,
            pci_address=self._address(device),
            board_part=None if label is None else readable_identifier(_text(label.product_name)),
            driver=driver,
            memory_bytes=self._memory(device),
            units=answers.bounded(chip.aicore_cnt, 1, MOST_CORES),
            max_clock_mhz=answers.clock_mhz(self._value("clock", device, calls.CLOCK_RATED)),
            place=place,
        )
        split = 0 if is_share(model) else self._dcmi.virtual_devices(device)
        if split:
            what = f"it is split into {split} virtual NPU(s), and cannot be measured as a whole"
            row = row._replace(fault=Fault("device-failed", what, fix="measure in what one was given to"))
        serial = None if label is None else _text(label.serial_number)
        together = len(self._units[device[0]]) > 1
        return on_its_card(row, serial, self._die(device), together=together, exposes=self.exposes)

    def _number(self, device: tuple[int, ...], order: int) -> int:
        """Return a chip's logic id; its place in the list, where this release does not tell logic ids.

        Raises:
            DcmiError: the library refuses it.
        """
        try:
            number = self._dcmi.logic_id(device)
        except DcmiError as error:
            if error.code != calls.MISSING:
                raise
            return order
        if number < 0:
            raise DcmiError(calls.NOT_THERE)
        return number

    def _value(self, question: str, device: Sequence[int], *which: int) -> int | None:
        """Return a number that a question answers; None where the library refuses."""
        try:
            return int(self._dcmi.ask(question, device, *which).value)
        except DcmiError:
            return None

    def _first(self, questions: Iterable[tuple[Any, ...]]) -> Any:
        """Return the answer of the first of some questions that is answered; None where none is."""
        for question, device, *which in questions:
            try:
                return self._dcmi.ask(question, device, *which)
            except DcmiError:
                continue
        return None

    def _label(self, device: tuple[int, ...]) -> DcmiLabel | None:
        label: DcmiLabel | None = self._first((("label of card", device[:1]), ("label", device)))
        return label

    def _die(self, device: tuple[int, ...]) -> str | None:
        """Return the die id, as npu-smi prints it; None where there is none, or all zero."""
        for question, *which in (("die", calls.VDIE), ("die", calls.DDIE), ("old die",)):
            die: DcmiDie | None = self._first(((question, device, *which),))
            words = [] if die is None else list(die.soc_die)
            if any(words) and set(words) != {2**32 - 1}:
                return " ".join(f"{word:X}" for word in words)
        return None

    def _address(self, device: tuple[int, ...]) -> str | None:
        pcie = self._first((("pcie", device),))
        if pcie is None:
            return None
        domain = pcie.domain if isinstance(pcie, DcmiPcieAll) else 0
        bus, place, function = pcie.bdf_busid, pcie.bdf_deviceid, pcie.bdf_funcid
        if not (0 <= domain <= 0xFFFF and bus <= 0xFF and place <= 0x1F and function <= 7) or not (
            domain or bus or place or function
        ):
            return None
        return f"{domain:04x}:{bus:02x}:{place:02x}.{function}"

    def _memory(self, device: tuple[int, ...]) -> int | None:
        """Return the size of the chip's memory, bytes: of its HBM, else of its DDR."""
        for question in ("hbm", "memory"):
            memory_info = self._first(((question, device),))
            size = None if memory_info is None else answers.bounded(memory_info.memory_size, 1, MOST_MIB)
            if size is not None:
                return size * MIB
        return None

    def _reading(self, device: tuple[int, ...], *, with_power: bool, together: bool) -> Reading:
        """Return one look at a chip.

        Raises:
            DcmiError: it answers nothing at all; with what it says of its temperature.
        """
        celsius, refusal = None, None
        try:
            celsius = int(self._dcmi.ask("temperature", device).value)
        except DcmiError as error:
            refusal = error
        reading = Reading(
            power_mw=self._power_mw(device, together) if with_power else None,
            temperature_c=answers.temperature_c(celsius),
            clock_mhz=answers.clock_mhz(self._value("clock", device, calls.CLOCK_NOW)),
            utilisation_ppm=answers.utilisation_ppm(self._value("use", device, calls.AI_CORE)),
            ecc_uncorrected=self._errors(device),
            processes=self._processes(device),
        )
        if refusal is not None and reading == Reading():
            raise refusal
        return reading

    def _power_mw(self, device: tuple[int, ...], together: bool) -> int | None:
        """Return the power of a chip, or of its card where it has several chips; some report it of the managing chip.

        Args:
            device: the chip.
            together: whether its card has other chips that compute.
        """
        unsupported = True
        for one in dict.fromkeys([device, *(self._units[device[0]] if together else ())]):
            try:
                power = answers.bounded(self._dcmi.ask("power", one).value, 1, MOST_POWER_DW)
            except DcmiError as error:
                unsupported = unsupported and error.code in calls.UNSUPPORTED
                continue
            if power is not None:
                return power * 100
            unsupported = False
        managing = self._managing(device)
        if not unsupported or managing is None:  # where chips have a power, that of the managing chip is its own
            return None
        power = answers.bounded(self._value("power", (device[0], managing)), 1, MOST_POWER_DW)
        return None if power is None else power * 100

    def _errors(self, device: tuple[int, ...]) -> int | None:
        """Return how many errors of the chip's memories were not corrected; None where none of them counts."""
        known = []
        for memory in (calls.HBM, calls.DDR):
            counts = self._first((("ecc", device, memory),))
            count = None if counts is None else answers.bounded(counts.double_bit_error_cnt, 0, MOST_ERRORS)
            if count is not None and counts.enable_flag:
                known.append(count)
        return sum(known) if known else None

    def _processes(self, device: tuple[int, ...]) -> int | None:
        try:
            return answers.bounded(self._dcmi.processes(device), 0, calls.PROCESSES)
        except DcmiError:
            return None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip()


def _failed(what: str, error: DcmiError) -> InputError:
    """Return a refusal as what is said of it."""
    if error.code in calls.DENIED:
        text = f"{what}: {error} ({NO_ACCESS})"
        return InputError("device-permission", text, where=LIBRARY, fix="give this user access to the devices")
    if error.code == calls.MISSING:
        text, fix = f"{what}: {error}", "install a newer driver"
    else:
        text, fix = f"{what}: {error}", "run npu-smi info by hand; is the driver loaded?"
    return InputError("device-library-unusable", text, where=LIBRARY, fix=fix)
