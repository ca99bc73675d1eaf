"""A campaign of four nodes whose network is known: the loss is what follows from the relay's delay and rate.

The devices are simulated: a product is a timed wait, so that the host's load changes nothing but what little the
harness itself computes. All three cases are runs of one campaign, each at another number of tokens: the relay is given
the numbers of the next one between their windows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import pytest
import yaml

from bench.record import Campaign
from bench.record.network import NetworkMeasurement, NetworkPlan, RankFigure
from bench.units import SECOND_NS, utc_ns
from tests.network.relay import MTU, Carried, Shape
from tests.network.ring import reduction_s
from tests.network.switch import FABRIC
from tests.network.wired import WiredCluster, wired_slurm
from tests.slurm.cluster import until
from tests.slurm.trial import BRIEF, NODES, SCENARIO, Stated, Trial, only, opened

pytestmark = pytest.mark.long
HEADERS = 52  # of a packet of TCP: 20 of IP, 20 of TCP, 12 of its time stamps
RATE_FLOP_S: float = SCENARIO["default"]["rate_gflop_s"]["fp16"] * 1e9
# By tokens, what the relay does in runs B and C. Gradients of few tokens are many bytes, so that the rate decides.
SHAPES: Mapping[int, Shape] = {
    32_768: Shape(rate_bytes_s=5e6, delay_s=0.0005),
    131_072: Shape(rate_bytes_s=100e6, delay_s=0.016),
    32_767: Shape(),  # as the first case; two runs of a campaign have no tokens in common
}
NOTES_OF_A_BUSY_HOST = {"network-run-differs", "network-rate-rises"}  # a burst of its load fell into one of the runs
PLAN = NetworkPlan(
    tokens=tuple(SHAPES),
    warmup_ns=2 * SECOND_NS // 5,
    window_ns=2 * SECOND_NS,
    block_ns=SECOND_NS // 10,
    join_ns=9 * SECOND_NS,
    reduction_ns=SECOND_NS,
    sweep_bytes=(65536,),
)


class Measured(NamedTuple):
    """The campaign, and what the relay carried in run C of each case."""

    stated: Stated
    carried: Mapping[int, Carried]

    def figures(self, run: str, tokens: int | None) -> list[tuple[NetworkMeasurement, RankFigure]]:
        """Return what all devices measured in a run."""
        rows = [
            (measurement, figure)
            for record in self.stated.records.values()
            for measurement in record.network
            if (measurement.run, measurement.tokens) == (run, tokens)
            for figure in measurement.figures()
        ]
        assert [(figure.trouble, figure.wrong_reductions) for _, figure in rows] == [(None, 0)] * len(NODES)
        return rows

    def loss(self, tokens: int) -> float:
        """Return 1 - C / B, from the records: the whole work of each device over its whole time."""
        inside, together = (
            sum(figure.launches / figure.elapsed_ns for _, figure in self.figures(run, tokens))
            for run in ("node", "fabric")
        )
        return 1 - together / inside


@pytest.fixture(scope="module")
def cluster() -> Iterator[WiredCluster]:
    """Return a cluster of four nodes in namespaces."""
    with wired_slurm(4, slurmd_timeout_s=3) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.env.items():
            patch.setenv(name, value)
        yield started


@pytest.fixture(scope="module")
def measured(cluster: WiredCluster, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Return a campaign with the network's runs, from nothing to a verified statement."""
    trial = Trial(cluster, tmp_path_factory.mktemp("wired"))
    profile = msgspec.structs.replace(BRIEF, network=PLAN)
    trial.profile.write_text(yaml.safe_dump(msgspec.to_builtins(profile)))
    for node in NODES:
        trial.set(node, PETASEAL_NETWORK_INTERFACE=FABRIC)
    trial.create("--network")
    campaign: Campaign = opened("campaign", trial.folder().campaign)
    launch = trial.launch()
    carried = {}
    try:
        for window in campaign.network:
            if window.run == "fabric":
                assert window.tokens is not None
                sleep_until(trial, window.load_ns - SECOND_NS // 4)
                cluster.relay.shape("fabric", SHAPES[window.tokens])
                sleep_until(trial, window.closes_ns + SECOND_NS // 4)
                carried[window.tokens] = cluster.relay.carried("fabric")
                cluster.relay.shape("fabric", Shape())
        answer = launch.end()
    finally:
        trial.end_launches()
    assert answer.status == 0, answer.out
    return Measured(trial.stated(), carried)


def sleep_until(trial: Trial, offset_ns: int) -> None:
    """Wait until a time after T0, which is agreed once all nodes are ready."""
    launch = trial.launches[-1]
    until(lambda: trial.folder().started() is not None or launch.process.poll() is not None, 60)
    started = trial.folder().started()
    assert started is not None, launch.said
    time.sleep(max(0.0, (utc_ns(started.starts_at) + offset_ns - time.time_ns()) / SECOND_NS))


def expected_loss(measurement: NetworkMeasurement, shape: Shape) -> float:
    """Return the loss that follows from the relay's numbers: what a block of products does not hide of a reduction."""
    assert shape.rate_bytes_s is not None
    payload_bytes_s = shape.rate_bytes_s * (MTU - HEADERS) / MTU
    reduces_s = reduction_s(measurement.reduction_bytes, len(NODES), payload_bytes_s, shape.delay_s)
    m = measurement
    computes_s = m.block_launches * 2 * m.m * m.n * m.k / RATE_FLOP_S
    return 1 - computes_s / max(computes_s, reduces_s)


@pytest.mark.parametrize("tokens", [tokens for tokens, shape in SHAPES.items() if shape.rate_bytes_s])
def test_the_loss_is_within_a_fifth_of_what_the_relays_numbers_give(measured: Measured, tokens: int) -> None:
    measurement, _ = measured.figures("fabric", tokens)[0]
    work_flop = measurement.block_launches * 2 * measurement.m * measurement.n * measurement.k
    assert measurement.reduction_bytes == pytest.approx(2 * work_flop / (6 * tokens), abs=4)
    expected = expected_loss(measurement, SHAPES[tokens])
    assert 0.4 < expected < 0.6
    assert measured.loss(tokens) == pytest.approx(expected, rel=0.2)
    assert measured.carried[tokens].dropped == 0


def test_without_limits_the_same_reduction_costs_at_most_a_thirtieth(measured: Measured) -> None:
    (freed,) = (tokens for tokens, shape in SHAPES.items() if shape.rate_bytes_s is None)
    assert measured.loss(freed) <= 0.03
    sizes = [measured.figures("fabric", tokens)[0][0].reduction_bytes for tokens in (freed, freed + 1)]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)


def test_the_statement_says_so_and_the_figures_are_what_they_were(measured: Measured) -> None:
    stated = measured.stated
    assert stated.not_counted == {}
    assert stated.counts_exactly(only(*NODES))
    fabric = stated.statement.fabric
    assert fabric is not None
    assert (fabric.state, fabric.devices, fabric.of_devices) == ("connected", 4, 4)
    assert set(fabric.codes) <= NOTES_OF_A_BUSY_HOST
    for line in fabric.losses:
        assert line.network_loss_ppm == pytest.approx(measured.loss(line.tokens) * 1e6, abs=100)
        assert line.retained_ppm == pytest.approx(line.fabric_mflop_s * 1e6 / line.compute_mflop_s, abs=1)
    assert [line.tokens for line in fabric.losses] == list(SHAPES)
    (bandwidth,) = fabric.bandwidths
    assert (bandwidth.size_bytes, bandwidth.ranks) == (65536, 4)
    assert bandwidth.bus_mb_s == pytest.approx(bandwidth.algorithm_mb_s * 1.5, abs=2)
