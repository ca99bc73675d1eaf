"""The network's part of one worker: it joins the ranks of its group, and measures each run on its device.

Nothing in here raises: whatever fails is a text in what the worker answers, for its figures have been handed over.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.clock import Clock, sleep_until_utc
from bench.collective import orders
from bench.collective.meeting import Meeting, hosted_store
from bench.collective.members import Member, agreed_launches, backend_for, common_backend, reduced_bytes, together
from bench.collective.process_group import ReductionError, World, set_environment
from bench.collective.roll_call import RollCall, bounded_quietly, clipped
from bench.collective.runs import Products, Reducing, RunSpan, RunTally, compute_alone, compute_reducing, sweep_size
from bench.collective.sums import Buffer, integers
from bench.errors import PetasealError, RefusedError, explained, public_text
from bench.record.campaign import SWEEP_NS
from bench.record.network import NetworkRunName, NetworkWindow, RankFigure
from bench.record.network.vector import ELEMENTS, contribution, reduced_sha256
from bench.units import shortened_list

if TYPE_CHECKING:
    from bench.collective.orders import Timing
    from bench.record import Precision
    from kernels.base import Prepared


class DeviceOperands(NamedTuple):
    """The products that the device computed for its figure, which are still in its memory."""

    prepared: Prepared
    launch_ns: int  # that one took
    target: str  # torch's name of the device
    precision: Precision
    is_wrong: Callable[[], bool]  # whether it is scripted to contribute wrong numbers


class Joined(NamedTuple):
    """A rank among those of its group."""

    meeting: Meeting
    members: tuple[Member, ...]
    rank: int
    world: World
    order: orders.JoinGroup

    @property
    def timing(self) -> Timing:
        """How it keeps time."""
        return self.order.timing

    def together(self, run: NetworkRunName) -> tuple[int, ...]:
        """Return the ranks that this one reduces with in a run."""
        return together(self.members, self.rank, run, self.order.rails)


class NetworkPart:
    """One device's part in the runs of the network.

    Args:
        order: which device, in which campaign.
        operands: of the device.
        clock: this machine's clocks.
    """

    def __init__(self, order: orders.OpenNetwork, operands: DeviceOperands, clock: Clock) -> None:
        self._order = order
        self._operands = operands
        self._clock = clock
        self._launches = max(1, round(order.block_ns / max(1, operands.launch_ns)))
        self._store: Any = None  # that this process hosts
        self._joined: Joined | None = None
        self._trouble: str | None = None  # why it can reduce no more

    def answer(self, order: orders.NetworkOrder) -> orders.NetworkAnswer:
        """Carry out an order of the node."""
        if isinstance(order, orders.OpenNetwork):
            return self.open()
        if isinstance(order, orders.HostStore):
            return self.host(order)
        if isinstance(order, orders.JoinGroup):
            return self.join(order)
        return self.run(order) if isinstance(order, orders.MeasureRun) else self.sweep(order)

    def open(self) -> orders.NetworkOpened:
        """Load what reduces."""
        problem = self._operands.prepared.problem
        set_environment(self._order.interface)
        try:
            import torch.distributed

            if not torch.distributed.is_available():
                self._trouble = "this build of torch has no torch.distributed"
        except ImportError:
            self._trouble = "torch is not installed on the node, and nothing else reduces: pip install petaseal[torch]"
        except Exception as error:
            self._trouble = text_of(error)
        return orders.NetworkOpened(
            kernel=problem.kernel,
            precision=self._operands.precision,
            m=problem.m,
            n=problem.n,
            k=problem.k,
            block_launches=self._launches,
            trouble=self._trouble,
        )

    def host(self, order: orders.HostStore) -> orders.StoreHosted:
        """Host the store of the group."""
        try:
            self._store = hosted_store(order.address)
            return orders.StoreHosted(int(self._store.port))
        except Exception as error:
            return orders.StoreHosted(None, text_of(error))

    def join(self, order: orders.JoinGroup) -> orders.GroupJoined:
        """Take this device's place among the ranks of its group, wait for the others, and join them."""
        if self._trouble is None:
            try:
                self._joined = self._join(order)
            except Exception as error:
                self._trouble = f"could not join the others: {text_of(error)}"
        if self._joined is None:
            return orders.GroupJoined(None, None, None, self._launches, self._trouble)
        joined = self._joined
        self._launches = agreed_launches(joined.members, joined.rank)
        return orders.GroupJoined(joined.rank, len(joined.members), joined.world.backend, self._launches)

    def _join(self, joining: orders.JoinGroup) -> Joined:
        order, operands, timing, rendezvous = self._order, self._operands, joining.timing, joining.rendezvous
        if (rendezvous.campaign_sha256, rendezvous.starts_at) != (order.campaign_sha256, order.starts_at):
            what = "the place where ranks meet is that of another campaign or start"
            raise RefusedError("rendezvous-differs", what, where=rendezvous.node_id)
        hosts = self._store if rendezvous.node_id == order.node_id else None
        meeting = Meeting(rendezvous, hosts)
        backend = backend_for(operands.target)
        flop = operands.prepared.problem.flop
        member = Member(order.node, order.place, order.node_id, order.device.device, backend, flop, self._launches)
        try:
            meeting.claim(member)
        finally:
            if hosts is not None:  # the others wait for the list, whatever becomes of this device
                sleep_until_utc(self._clock, timing.joins_until_ns)
                meeting.close()
        sleep_until_utc(self._clock, timing.joins_until_ns)  # thousands that ask all the while are a load on its host
        left_ns = timing.joins_until_ns - self._clock.utc_ns() + timing.reduction_ns
        members = meeting.ranks(self._clock.monotonic_ns() + left_ns)
        if member not in members:
            raise TimeoutError("came after the list of ranks was closed")
        return self._connected(joining, meeting, members, members.index(member))

    def _connected(self, joining: orders.JoinGroup, meeting: Meeting, members: tuple[Member, ...], rank: int) -> Joined:
        """Join all ranks of the list, and those that reduce together."""
        begun_ns = self._clock.monotonic_ns()
        try:
            backend, target = common_backend(members), self._operands.target
            world = World(meeting.store, backend, rank, len(members), target, joining.timing)
            joined = Joined(meeting, members, rank, world, joining)
            world.part(joined.together("node"))
            world.part(joined.together("fabric"))
            return joined
        except Exception as error:
            call = RollCall(meeting, members, joining, begun_ns)
            raise ReductionError(call.lost("join", tuple(range(len(members))), rank, text_of(error))) from error

    def run(self, order: orders.MeasureRun) -> orders.RunMeasured:
        """Measure one run in its window."""
        window, clock = order.window, self._clock
        nonce, digest, reduced = None, None, 0
        trouble = None if window.run == "compute" else self._trouble
        if trouble is None:
            sleep_until_utc(clock, order.starts_ns + window.load_ns)
        monotonic, utc = clock.pair_ns()
        apart = monotonic - utc + order.starts_ns
        span = RunSpan(window.opens_ns + apart, window.closes_ns + apart)
        counted = RunTally(span, self._launches)
        products = Products(self._operands.prepared, self._launches)
        try:
            if trouble is not None:
                self._absent(window, trouble)
            elif window.run == "compute":
                compute_alone(products, span, clock, counted)
                trouble = None if counted.launches else NOTHING_WHOLE
            else:
                nonce = secrets.token_hex(32)
                reduced, digest = self._reduce(window, products, span, counted, nonce)
                trouble = self._ended_early(window, counted)
        except Exception as error:
            trouble = self._failed(window, error)
        rank, ranks = self._place_in(window)
        figure = RankFigure(
            device=self._order.device.device,
            rank=rank,
            ranks=ranks,
            launches=counted.launches,
            opened_ns=None if counted.opened_ns is None else counted.opened_ns - span.opens_ns,
            elapsed_ns=counted.elapsed_ns,
            reductions=counted.reductions,
            wrong_reductions=counted.wrong_reductions,
            nonce=nonce,
            reduced_sha256=digest,
            trouble=trouble,
        )
        return orders.RunMeasured(figure, reduced)

    def _place_in(self, window: NetworkWindow) -> tuple[int | None, int]:
        """Return this device's rank among those that reduce together in a run, and how many they are."""
        joined = self._joined
        if joined is None:
            return None, 1
        ranks = joined.together("fabric" if window.run == "compute" else window.run)
        return ranks.index(joined.rank), len(ranks)

    def _reduce(
        self, window: NetworkWindow, products: Products, span: RunSpan, counted: RunTally, nonce: str
    ) -> tuple[int, str | None]:
        """Measure a run that reduces; return the bytes of a reduction and the digest of the reduced vector."""
        joined = self._joined
        assert joined is not None
        assert window.tokens is not None
        reducing = self._reducing(window, reduced_bytes(joined.members, window.tokens))
        compute_reducing(products, span, self._clock, counted, reducing)
        size_bytes = reducing.buffers[0].size_bytes
        if counted.was_alarmed:  # as all ranks know alike
            return size_bytes, None
        return size_bytes, self._reduced_vector(window, reducing, nonce)

    def _reducing(self, window: NetworkWindow, size_bytes: int) -> Reducing:
        joined = self._joined
        assert joined is not None
        ranks = joined.together(window.run)
        seed = f"{self._order.campaign_sha256}/{self._order.starts_at}/{key_of(window)}"
        place, device = ranks.index(joined.rank), joined.world.device
        buffers = (
            Buffer(size_bytes, place, len(ranks), seed, device),
            Buffer(size_bytes, place, len(ranks), seed, device),
        )
        return Reducing(joined.world, joined.world.part(ranks), buffers, self._operands.is_wrong)

    def _reduced_vector(self, window: NetworkWindow, reducing: Reducing, nonce: str) -> str:
        """Add up what only this device can contribute, and return the digest of all devices' sum."""
        import torch

        order = self._order
        place = (order.node_id, order.device)
        given = contribution(order.campaign_sha256, order.starts_at, window.opens_ns, place, nonce)
        vector = torch.tensor(list(given), dtype=torch.float32).to(reducing.world.device)
        assert vector.numel() == ELEMENTS
        reducing.world.wait(reducing.world.begin(vector, reducing.group))
        return reduced_sha256(integers(vector))

    def _ended_early(self, window: NetworkWindow, counted: RunTally) -> str | None:
        """Return what ended a run, or makes it worth nothing; None for one that went to its end."""
        joined = self._joined
        assert joined is not None
        if counted.wrong_reductions:
            ranks = joined.together(window.run)
            names = [joined.members[ranks[place]].name for place in counted.wrong_places]
            by = f"{shortened_list(names)} contributed other numbers than were due" if names else "by whom is open"
            return clipped(f"sums are wrong: {by}")
        if counted.was_alarmed:
            return "ended early: another rank saw wrong sums"
        return None if counted.launches else NOTHING_WHOLE

    def _absent(self, window: NetworkWindow, trouble: str) -> None:
        """Say at the roll call of a run that this rank is there and cannot take part, so that it is not called lost."""
        joined = self._joined
        if joined is not None:
            bounded_quietly(lambda: joined.meeting.report(key_of(window), joined.rank, trouble), joined.timing.grace_ns)

    def _failed(self, window: NetworkWindow, error: Exception) -> str:
        """Return why a run failed, with the ranks that are lost; what has failed once reduces no more."""
        joined, text = self._joined, text_of(error)
        if joined is None:
            return text
        if not isinstance(error, ReductionError):  # this device's own trouble, which the others are to hear of
            self._trouble = clipped(f"failed in an earlier run: {text}")
            self._absent(window, text)
            return text
        call = RollCall(joined.meeting, joined.members, joined.order, joined.world.begun_ns)
        lost = call.lost(key_of(window), joined.together(window.run), joined.rank, text)
        self._trouble = clipped(f"after an earlier run: {lost}")
        return lost

    def sweep(self, order: orders.MeasureSweep) -> orders.SweepMeasured:
        """Measure all-reduces by size, without products."""
        joined, figures, trouble = self._joined, [], self._trouble
        if joined is not None and trouble is None:
            whole = NetworkWindow(run="fabric", tokens=None, load_ns=0, opens_ns=1, closes_ns=2)
            try:
                for size in order.sizes:
                    reducing, spent = self._reducing(whole, size), list[int]()
                    buffer = reducing.buffers[0]
                    wrong = sweep_size(buffer, reducing, self._clock, SWEEP_NS * 2 // 3, spent)
                    ranks = len(joined.together("fabric"))
                    figures.append(orders.SizeFigure(buffer.size_bytes, ranks, len(spent), sum(spent), wrong))
            except Exception as error:
                trouble = self._failed(whole, error)
        if joined is not None:
            # Who has seen a rank lost waits for the others' roll call, and never for that rank.
            most_ns = (joined.timing.reduction_ns if trouble is None else 0) + 2 * joined.timing.grace_ns
            bounded_quietly(lambda: joined.meeting.leave(joined.rank, len(joined.members), most_ns), most_ns)
        return orders.SweepMeasured(tuple(figures), trouble)


NOTHING_WHOLE = "no whole block of products lay in the window"


def key_of(window: NetworkWindow) -> str:
    """Return the name of a run in the store, such as fabric-16384."""
    return window.run if window.tokens is None else f"{window.run}-{window.tokens}"


def text_of(error: BaseException) -> str:
    """Return what an error says, as a record may hold it: one line, without paths of this node."""
    text = str(error) if isinstance(error, PetasealError | ReductionError | TimeoutError) else explained(error)
    return clipped(public_text(text) or type(error).__name__)
