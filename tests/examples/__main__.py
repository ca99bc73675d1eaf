"""Make the examples under results/: ``make examples``.

    python -m tests.examples [--draw] [--measure] [--pictures]

Everything of the simulated centre is made anew; of the processor only what was measured is kept. With ``--draw``
nothing is signed: pages, paper, reports and READMEs are drawn anew from what is committed.
"""

from __future__ import annotations

import argparse

from tests.examples import city, cpu


def main() -> None:
    """Make the examples."""
    parser = argparse.ArgumentParser(prog="python -m tests.examples", description=__doc__)
    parser.add_argument("--draw", action="store_true", help="sign nothing: draw anew from what is committed")
    parser.add_argument("--measure", action="store_true", help="measure the processor of this machine anew")
    parser.add_argument("--pictures", action="store_true", help="the screenshots of docs/images alone")
    given = parser.parse_args()
    if given.pictures:
        from tests.examples import pictures

        pictures.make()
        return
    if given.measure:
        cpu.measure()
    for example in (cpu, city):
        if given.draw:
            example.draw()
        else:
            example.make()


if __name__ == "__main__":
    main()
