"""Check a claim: decode a random sample of its images again and compare."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from lightning_modules.options.command_line import ArgumentParser, Count, number
from sdvar.system import steps
from sdvar.system.command_line import did_you_mean, listed
from sdvar.system.interrupts import well_behaved
from sdvar.system.memory import out_of_memory_says

if TYPE_CHECKING:
    from jsonargparse import Namespace

COMMAND = "eval/verify.py"
DESCRIPTION = """Check the claim.json of a run: decode a random sample of each arm's images again, compare tokens, PNG
files and calls with what the claim says of them, and check the figures that follow without features. Where the run lies
around the claim, its tables and files are checked too; else the claim and the weights are enough.

Exit status: 0 if all is as claimed, 1 if something differs, 2 if the claim or a file cannot be used."""
EXAMPLES = """examples:
  python eval/verify.py runs/fid/claim.json
  python eval/verify.py claim.json --draft var_d16.pth --target var_d30.pth --tokenizer vae_ch160v4096z32.pth
  python eval/verify.py claim.json --images 256 --seed 7 --arms baseline,speculative"""
Seed = number("int from 0 to 2^63 - 1", int, (">=", 0), ("<", 2**63))
Texts = str | list[str] | None


def build_parser() -> ArgumentParser:
    """The command line of `eval/verify.py`."""
    parser = ArgumentParser(prog=COMMAND, description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("claim", type=str, help="the claim.json")
    add("--images", type=Count, default=64, help="images of each arm to decode again")
    add("--seed", type=Seed, default=0, help="chooses them")
    add("--batch_size", type=Count | None, help="images decoded together, which changes none of them (the claim's)")
    add("--arms", type=Texts, help="a list of arms (all)")
    add("--draft", type=Texts, help="files with its draft, and with those of arms that have their own (bundled)")
    add("--target", type=str | None, help="a file with its target (bundled)")
    add("--tokenizer", type=str | None, help="a file with its tokenizer (bundled)")
    add("--allow", type=Texts, help="classes of your own that its strategies may use, my_rules.Typical (none)")
    add("--run", type=str | None, help="folder of the run, or none (the claim's folder, if a run is there)")
    return parser


@well_behaved(COMMAND, "nothing was written, give the command again")
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, see `python eval/verify.py --help`; returns the exit status."""
    options = build_parser().parse_args(arguments)
    with out_of_memory_says("batch_size: the images do not fit into memory together; give a smaller --batch_size"):
        return 0 if verify(options) else 1


def verify(options: Namespace) -> bool:
    """Checks a claim, and prints what is as claimed and what is not.

    Args:
        options: of the command.

    Returns:
        Whether all is as claimed.

    Raises:
        ValueError: an option, the claim or a file cannot be used, in one line, before any model runs.
    """
    from eval.claims.checking import Check
    from eval.claims.finished import run_of
    from eval.claims.models import prepare
    from eval.claims.read import read_claim

    steps.log.info("reading the claim and loading its models")
    claim = read_claim(options.claim)
    names = listed(options.arms) or list(claim.arms)
    for name in names:
        if name not in claim.arms:
            expected = f"expected arms of the claim, {', '.join(claim.arms)}"
            raise ValueError(f"arms: {expected}; got {name!r}{did_you_mean(name, claim.arms)}")
    arms = [claim.arms[name] for name in dict.fromkeys(names)]
    files = {name: listed(options[name]) for name in ("draft", "target", "tokenizer")}
    run = run_of(claim, options.run)
    decoders = prepare(claim, arms, files, listed(options.allow))
    check = Check(claim, run, int(options.images), int(options.seed), int(options.batch_size or claim.batch_size))
    print(check.title(), flush=True)
    for arm in arms:
        print(f"{arm.name}: {check.arm(arm, decoders[arm.name])}", flush=True)
    for line in check.figures():
        print(line)
    return not check.failed


if __name__ == "__main__":
    sys.exit(main())
