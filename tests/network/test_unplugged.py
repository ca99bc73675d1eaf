"""A node whose cable is pulled: no process ends and no connection is closed, and the others name it all the same."""

from __future__ import annotations

import pytest

from tests.bench.collective.ranks import Player, Scene
from tests.bench.collective.test_ranks import LOST_WITHIN_NS, REDUCTION_NS, C, played
from tests.network.relay import joined
from tests.network.switch import FABRIC

RANKS = 3
# By which of the nodes is cut off, what the others say.
TROUBLES = {
    2: "lost node-2 fake:0, which did not answer in time",
    0: "lost node-0 fake:0: it hosts the store at which ranks meet, which does not answer",
}


@pytest.mark.long
def test_a_node_whose_cable_is_pulled_is_named_within_a_bounded_time() -> None:
    with joined(RANKS * len(TROUBLES)) as (_, spaces):
        scenes = []
        for number, cut in enumerate(TROUBLES):
            own = spaces[RANKS * number : RANKS * (number + 1)]
            players = (
                Player(node, 0, "unplug" if node == cut else None, FABRIC, address, space.pid)
                for node, (space, address) in enumerate(own)
            )
            scenes.append(Scene(str(cut), tuple(players), reduction_ns=REDUCTION_NS))
        told = played(tuple(scenes))
    for cut, trouble in TROUBLES.items():
        for node, one in enumerate(told(str(cut))):
            assert one is not None
            assert one.took_ns[C] < LOST_WITHIN_NS
            *before, row = one.figures
            assert [figure.trouble for figure in before] == [None, None]
            assert row.reduced_sha256 is None
            assert row.trouble is not None
            if node != cut:
                assert row.trouble == trouble
            else:  # to itself all others are gone
                assert row.trouble.startswith("lost node-")
