"""Routes of single nodes, for the platform and for each centre's own operator: their feed, and what they are called."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from certify.registry.api.nodes import Aliases, NodeFeed, NodeLine
from certify.registry.base.access import operator_of
from certify.registry.intake.aliases import aliases_of
from certify.registry.service import parameters
from certify.registry.service.openapi import answers, csv_too
from certify.registry.service.parameters import registry_of
from certify.registry.service.reading import csv_answer, next_link, wants_csv
from certify.registry.state.feeds.node_feed import node_feed
from certify.registry.state.feeds.sheets import csv_of

router = APIRouter()


@router.get("/nodes", responses=csv_too(answers(NodeFeed)), response_class=Response)
def list_nodes(
    request: Request,
    token: parameters.Holder,
    wanted: parameters.AskedPools,
    since: parameters.Cursor = None,
    format: parameters.Format = None,
) -> Response:
    """Get what each node gives now, of all centres to the platform; with `since`, of the nodes that changed."""
    registry = registry_of(request)
    if token.scope == "operator":
        # what is asked of another centre is refused, and not answered with nothing
        operator_of(token, wanted.centre or token.centre_id or "")
        wanted = wanted._replace(centre=token.centre_id)
    fed = node_feed(registry.store, registry.now, registry.settings.stale_after_s, wanted, since)
    headers = {"Vary": "Accept", "Link": next_link(request, since=fed.next)}
    if wants_csv(request, format):
        answer = csv_answer(csv_of(NodeLine, fed.items), "nodes.csv")
        answer.headers.update(headers)
        return answer
    return Response(msgspec.json.encode(fed), 200, headers, "application/json")


@router.get("/centres/{centre_id}/aliases", responses=answers(Aliases), response_class=Response)
def list_aliases(request: Request, centre_id: parameters.NamePart, token: parameters.Holder) -> Response:
    """Get what a centre's own scheduler calls its nodes."""
    operator_of(token, centre_id)
    with registry_of(request).store.reading() as connection:
        content = msgspec.json.encode(aliases_of(connection, centre_id))
    return Response(content, 200, None, "application/json")
