"""Time and memory of strategies side by side, beside the least that the machine can take."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.benchmarking.options import parse
from sdvar.command_line import check_output


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/benchmark.py --help`."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        check_output(options.out)

        from eval.benchmarking import job
        from eval.benchmarking.printing import print_tables

        prepared = job.prepare(options)
        _log_to_stderr()
        report = job.run(options, prepared)
    except (ValueError, TypeError, OSError) as error:
        print(f"eval/benchmark.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    if options.out:
        Path(options.out).write_text(json.dumps(report, indent=2) + "\n")
    print_tables(report)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("eval.benchmark", "sdvar.attention", "sdvar.graphs"):
        logging.getLogger(name).addHandler(handler)
    logging.getLogger("eval.benchmark").setLevel(logging.INFO)


if __name__ == "__main__":
    main()
