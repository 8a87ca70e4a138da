"""Finds the fastest schedule for a pair, a batch size and this machine, and writes a config for the main job.

    python eval/plan.py                                        # the bundled pair at batch 50, lossless
    python eval/plan.py --batch_size 1 --max_disagreement 0.3 --out lossy.yaml
    python eval/plan.py --draft var_d16.pth --target var_d30.pth --tokenizer vae_ch160v4096z32.pth \\
        --precision bf16-true --batch_size 1
    python eval/fid.py --config plan.yaml
"""

from __future__ import annotations

from collections.abc import Sequence

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from eval.cli.groups import parsed
from eval.planning.options import parse
from sdvar.system import steps
from sdvar.system.command_line import check_output
from sdvar.system.interrupts import well_behaved
from sdvar.system.log_lines import on_stderr


@well_behaved("eval/plan.py", "nothing was written, give the command again")
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/plan.py --help`."""
    options = parsed(arguments, parse)
    if options is None:
        return
    check_output(options.out)

    steps.log.info("loading the models")
    from eval.planning import planner

    pair, sampling = planner.prepare(options)
    with on_stderr("sdvar.planning"):
        planner.run(options, pair, sampling)


if __name__ == "__main__":
    main()
