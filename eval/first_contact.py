"""The first run on a machine with a GPU: is decoding right there, and how fast is it?

    python eval/first_contact.py                               # all steps, ten minutes at most; also: make gpu
    python eval/first_contact.py --original ../VAR             # and the original code beside ours
    python eval/first_contact.py --size tiny                   # the bundled pair alone

Exit status: 0 if every step passes, 1 if one fails, 2 without a GPU or for a wrong option.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from eval.contact.options import parse
from sdvar.system.interrupts import well_behaved

PROG = "eval/first_contact.py"


@well_behaved(PROG, "the steps so far are printed above, give the command again")
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; see `python eval/first_contact.py --help`."""
    options = parse(arguments)

    from eval.contact.job import STEPS, prepare, run

    place, record = prepare(options)
    return run(STEPS, place, record)


if __name__ == "__main__":
    sys.exit(main())
