"""Which pools, centres, statements and nodes are asked for: by place, and by the models of their devices. Pure.

Names of vendors and models are compared whole and as `petaseal` compares a driver's names, without differences of case,
width and spaces; one that ends with ``*`` names everything that begins so.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from certify.policy.rating import plain
from certify.registry.api.nodes import ModelLine, NodeModelLine


class ModelNames(NamedTuple):
    """Names of vendors and models that are asked for. None: all."""

    vendor: str | None = None
    model: str | None = None


@lru_cache(maxsize=4096)  # askers choose the names, and a city has few models
def is_named(asked: str | None, name: str) -> bool:
    """Return whether a name of a vendor or model is what is asked for; None asks for all."""
    if asked is None:
        return True
    if asked.endswith("*"):
        return plain(name).startswith(plain(asked[:-1]))
    return plain(name) == plain(asked)


def has_model(models: Iterable[ModelLine | NodeModelLine], vendor: str | None, model: str | None) -> bool:
    """Return whether any of the models is one of a vendor and of a name; both must hold of the same one."""
    if vendor is None and model is None:
        return True
    return any(is_named(vendor, one.vendor) and is_named(model, one.model) for one in models)
