"""What all plots of a report share: the canvas and its style, colours, ranges of axes and their titles.

Labels are ASCII and short, so that they show on any machine; what is said in Chinese stands in the page around them.
Colours are Okabe and Ito's, which people with any colour vision tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.errors import MissingLibraryError
from bench.units import MFLOP_PER_UNIT
from certify.report.svg import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c")
SOFT = "#5b6878"
WIDTH_PX = 400  # of a plot; text of 10 px is legible where a page of 390 px shows it


class AxisRange(NamedTuple):
    """What an axis shows, in the unit of its values."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float], least: float = 0.04) -> AxisRange:
        """Return a range with room around values, and at least a share of the highest wide: noise is not blown up."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        pad = max((high - low) * 0.08, (least * abs(high) - (high - low)) / 2, abs(high) * 1e-3, 1e-9)
        return cls(low - pad, high + pad)


def check_library() -> None:
    """Refuse to begin where matplotlib is not installed.

    Raises:
        MissingLibraryError: `missing-library`.
    """
    try:
        # All of it, before worker processes are forked from this one: each would import it anew.
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingLibraryError("matplotlib", "for the plots of a report", "report") from None


def unit_of(rate_mflop_s: int) -> str:
    """Return the largest unit of which a rate is at least one."""
    return next((unit for unit in ("PFLOPS", "TFLOPS", "GFLOPS") if rate_mflop_s >= MFLOP_PER_UNIT[unit]), "MFLOPS")


def titled(axes: Axes, text: str) -> None:
    """Write what a plot shows, with its unit, above it."""
    # Where it stands is given: matplotlib would measure every label of the plot to find out.
    axes.set_title(text, loc="left", fontsize=10, y=1.0, pad=3, fontweight="bold")


def scaled(axes: Axes, limits: AxisRange) -> None:
    """Give a plot's upright axis its range and a few round ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]


class Style:
    """The report's style for as long as something is drawn, whatever the user's own settings are."""

    def __enter__(self) -> Callable[[int, int], Canvas]:
        import matplotlib

        matplotlib.use("svg")
        self._context = matplotlib.rc_context()
        self._context.__enter__()
        matplotlib.rcParams.update(_style_of())
        return self.canvas

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)

    @staticmethod
    def canvas(width: int, height: int) -> Canvas:
        """Return an empty canvas of some size in px."""
        from matplotlib.figure import Figure

        return Figure(figsize=(width / 72, height / 72), dpi=144)


@cache
def _style_of() -> Any:
    """Return matplotlib's defaults under the report's style: what a user's matplotlibrc says does not reach a page."""
    import matplotlib

    return {**{k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}, **STYLE}
