"""What a client asks about single nodes: their feed, to be followed, and what a centre's own scheduler calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from bench.errors import PetasealError
from certify.registry.api.nodes import AliasAsk, Aliases, AliasesAsk, NodeFeed, NodeLine, NodeName
from certify.registry.client.calls import ClientCalls
from certify.registry.client.feed import FeedTransport, asked_since, following
from certify.registry.client.transport import feed_filters, path_part

NodeKey = tuple[str, str | None, str, str]  # centre, project, pool, node


class NodeChanges(NamedTuple):
    """A step of the feed of nodes. Who has applied it goes on with `since` = `cursor`."""

    at: str
    cursor: str
    centres: tuple[str, ...] | None  # whose lines `items` replaces, all of them; None: those of all centres
    nodes: tuple[NodeName, ...]  # of further centres, whose lines `items` replaces
    items: tuple[NodeLine, ...]
    gone: tuple[NodeKey, ...]  # that this follower knew, and that is not there any more


class NodeFollower:
    """The feed of nodes as one follower knows it."""

    def __init__(self, ask: FeedTransport[NodeFeed], since: str | None = None) -> None:
        self._ask = ask
        self.cursor = since
        self.lines: dict[NodeKey, NodeLine] = {}  # since it began

    def poll(self) -> NodeChanges | None:
        """Return what changed; None where nothing did.

        Raises:
            RefusedError, InputError: the registry says no, or cannot be reached.
        """
        answer = asked_since(self._ask, self.cursor)
        self.cursor = answer.next
        centres = None if answer.changed is None else frozenset(answer.changed)
        nodes = {(one.centre_id, one.node_id) for one in answer.changed_nodes}
        replaced = [key for key in self.lines if centres is None or key[0] in centres or (key[0], key[3]) in nodes]
        for key in replaced:
            del self.lines[key]
        self.lines |= {_key(one): one for one in answer.items}
        if centres is not None and not centres and not nodes:
            return None
        gone = tuple(key for key in replaced if key not in self.lines)
        return NodeChanges(answer.at, answer.next, answer.changed, answer.changed_nodes, answer.items, gone)


def _key(line: NodeLine) -> NodeKey:
    return line.centre_id, line.project_id, line.pool, line.node_id


class NodeCalls(ClientCalls):
    """The part of the client that asks about single nodes: for the platform, and for a centre's operator."""

    def nodes_now(self, since: str | None = None, **filters: str | None) -> NodeFeed:
        """Return the feed of nodes.

        Args:
            since: `next` of an earlier answer: only what changed after it, in writing or by time.
            filters: centre, district, pool_class, precision, state, jurisdiction, vendor, model.
        """
        return self._get("/nodes", NodeFeed, {"since": since, **feed_filters(filters)})

    def nodes_csv(self, since: str | None = None, **filters: str | None) -> str:
        """Return the feed of nodes as CSV (see `nodes_now`)."""
        return self._bytes("/nodes", {"since": since, "format": "csv", **feed_filters(filters)}).decode()

    def follow_nodes(
        self,
        since: str | None = None,
        every_s: float = 10.0,
        report: Callable[[PetasealError], None] = lambda error: None,
        **filters: str | None,
    ) -> Iterator[NodeChanges]:
        """Yield which nodes change, for ever; without `since` it begins with all of them.

        Args:
            since: cursor that an earlier change bore.
            every_s: how often it asks.
            report: called with each failure that it outlives.
            filters: those of `nodes_now`.
        """
        follower = NodeFollower(partial(self.nodes_now, **filters), since)
        return following(follower.poll, every_s, report, self._sleep)

    def aliases(self, centre_id: str) -> Aliases:
        """Return what a centre's own scheduler calls its nodes."""
        return self._get(f"/centres/{path_part(centre_id)}/aliases", Aliases)

    def replace_aliases(self, centre_id: str, names: dict[str, str]) -> Aliases:
        """Give the nodes of a centre these names, and no others."""
        return self._set_aliases("PUT", centre_id, dict(names))

    def change_aliases(self, centre_id: str, names: dict[str, str | None]) -> Aliases:
        """Give some nodes of a centre other names, or none; the others stay as they are."""
        return self._set_aliases("PATCH", centre_id, names)

    def _set_aliases(self, method: str, centre_id: str, names: dict[str, str | None]) -> Aliases:
        ask = AliasesAsk(aliases=tuple(AliasAsk(node_id=node_id, alias=alias) for node_id, alias in names.items()))
        return self._send(method, f"/centres/{path_part(centre_id)}/aliases", ask, Aliases)
