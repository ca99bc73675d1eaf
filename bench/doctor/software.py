"""The packages and the environment of this process: which petaseal runs, what computes, and what emulates.

No library is imported to be looked at: torch takes seconds, and opens devices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse

from bench.doctor.view import SoftwareView
from bench.environment import VARIABLES, loaded_emulation
from bench.host.files import line
from bench.record import emulation_libraries
from bench.record.sources import PACKAGES

PATHS = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE")
# What torch must be built for, by kind of device; of the others a plug-in says so (`VendorBackend.plugin`).
BUILT_FOR = {"cuda": "cuda", "rocm": "hip", "dcu": "hip"}
Find = Callable[[str], ModuleSpec | None]


def read_software(
    kinds: Iterable[str], environ: Mapping[str, str], root: Path = Path("/"), find: Find = find_spec
) -> SoftwareView:
    """Return what stands in the environment of this process.

    Args:
        kinds: of the devices that are to be measured.
        environ: environment variables.
        root: the file system's root (tests).
        find: where a module would be imported from.
    """
    return SoftwareView(
        enabling=tuple(_enabling(environ)),
        emulation=tuple(_emulation(environ, root)),
        elsewhere=tuple(_elsewhere(find)),
        python_path=tuple(name for name in PATHS if environ.get(name)),
        lacking={kind: what for kind in kinds if (what := lacking(kind, find)) is not None},
    )


def _enabling(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables that `run` refuses (R1); one that it takes away from the workers is none."""
    for variable in VARIABLES:
        value = environ.get(variable.name, "").strip().lower()
        if value not in ("", *variable.harmless) and not variable.taken_away:
            yield variable.name, variable.effect


def _emulation(environ: Mapping[str, str], root: Path) -> list[str]:
    """Return the libraries that emulate products and are loaded, or are put into each process by the loader."""
    preloaded = f"{environ.get('LD_PRELOAD', '')} {line(root / 'etc/ld.so.preload')}".casefold()
    loaded = loaded_emulation(root / "proc/self/maps")
    return sorted({*loaded, *(name for name in emulation_libraries() if name in preloaded)})


def _elsewhere(find: Find) -> list[str]:
    """Return the folders of petaseal's modules that are not those of the distribution that is installed."""
    folders = {str(Path(spec.origin).parent.parent) for name in PACKAGES if (spec := find(name)) and spec.origin}
    try:
        installed = distribution_folder(distribution("petaseal"))
    except PackageNotFoundError:
        return sorted(folders) if len(folders) > 1 else []
    return sorted(folders - {str(installed)})


def distribution_folder(installed: Distribution) -> Path:
    """Return the folder that a distribution's packages lie in: of an editable one that of its sources."""
    with suppress(ValueError, AttributeError):
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            return Path(unquote(urlparse(origin["url"]).path)).resolve()
    return Path(str(installed.locate_file(""))).resolve()


def lacking(kind: str, find: Find = find_spec) -> str | None:
    """Return what of the stack that computes on a kind of device is not installed here; None where nothing is."""
    from bench.devices import load_backend

    if kind in ("cpu", "fake"):
        return None
    torch = find("torch")
    if torch is None or torch.origin is None:
        return "torch is not installed"
    wanted, plug_in = BUILT_FOR.get(kind), getattr(load_backend(kind), "plugin", None)
    built_for = torch_built_for(line(Path(torch.origin).parent / "version.py"))
    if wanted is not None and wanted not in built_for:
        return f"torch is built for {', '.join(sorted(built_for)) or 'processors alone'}"
    return f"{plug_in} is not installed" if plug_in is not None and find(plug_in) is None else None


def torch_built_for(text: str) -> Collection[str]:
    """Return what torch is built for, by its version.py: "cuda", "hip" ... with a version.

    Args:
        text: of the file: lines like ``cuda: Optional[str] = '12.6'`` or ``hip = None``.
    """
    return {match[1] for match in re.finditer(r"^(cuda|hip|xpu)\b[^=\n]*=\s*['\"]\d", text, re.MULTILINE)}
