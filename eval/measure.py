"""Measure a finished run again, from its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from eval.cli import options as fid_options
from eval.cli.measuring import MEASURING, add_measuring
from eval.metrics import registry, run_config
from eval.metrics.images import formats
from lightning_modules.options.command_line import ArgumentParser
from sdvar.system import steps
from sdvar.system.interrupts import well_behaved

if TYPE_CHECKING:
    from jsonargparse import Namespace

COMMAND = "eval/measure.py"
DESCRIPTION = """Measure a finished run again, from its images, tokens and tables: nothing is decoded. The target is
loaded for the metric nll alone, from the files that the run names if they are here and have not changed.

What is not given is taken from the run's config.yaml. Rewrites metrics.json, claim.json, report.html and, in
config.yaml, the options given here."""
EXAMPLES = """examples:
  python eval/measure.py --out runs/fid --metrics is,fid,kid,prc,pairs,nll
  python eval/measure.py --out runs/imagenet --reference VIRTUAL_imagenet256_labeled.npz"""


def build_parser() -> ArgumentParser:
    """The command line of `eval/measure.py`."""
    parser = ArgumentParser(prog=COMMAND, description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("--out", type=str, required=True, help="the run's folder")
    add_measuring(parser, again=True)
    add("--target", type=str | None, help="the run's target, for nll, where its file lies elsewhere now")
    add("--tokenizer", type=str | None, help="the same of its tokenizer")
    return parser


@well_behaved(COMMAND, "no image is changed, give the command again")
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/measure.py --help`."""
    given = build_parser().parse_args(arguments)
    metrics = measure_again(given)

    from eval.report.terminal import print_table

    print_table(metrics, Path(given.out, "report.html"))


def measure_again(given: Namespace) -> dict[str, Any]:
    """Measures a run and rewrites its metrics.json, claim.json and report.html.

    Args:
        given: `out`, the options of `MEASURING`, None where the run's own apply, and `target` and `tokenizer`.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: the run is incomplete, or an option or a file is invalid.
    """
    from eval.claims.write import write_claim
    from eval.estimates.memory import measuring
    from eval.metrics.decoding.target import target_or_reason
    from eval.metrics.measurement import Measurement, prepare_measuring
    from eval.metrics.measuring import measure_run
    from eval.report.page import write_report
    from lightning_modules.run.finished import read_run

    asked = None if given.metrics is None else registry.parse_metrics(given.metrics)
    record = read_run(given.out)
    file = record.folder.path / "config.yaml"
    config = run_config.read_config(file)
    of_fid = "model" not in config  # lightning_modules predict writes another kind of config
    config = config if of_fid else {}
    bundled = isinstance(record.source, str)
    defaults = (fid_options.BUNDLED_DEFAULTS if bundled else fid_options.OTHER_DEFAULTS) | run_config.DEFAULTS | config
    options = {name: defaults.get(name) if given[name] is None else given[name] for name in MEASURING}
    # a run that was made without any metrics is measured with the usual ones
    names = (options["metrics"] or registry.DEFAULTS) if asked is None else asked
    asks_lpips = given.lpips_weights is not None or asked is None or "lpips" in names
    options["metrics"] = fid_options.parse_metrics(names, options["lpips_weights"] if asks_lpips else None)
    repeats = options["repeats"] = int(options["repeats"])
    options["likelihood_images"] = int(options["likelihood_images"])
    if record.images % repeats:
        raise ValueError(f"repeats: {record.images} images per arm cannot be split into {repeats} equal parts")
    options["reference"] = formats.given(options["reference"])
    measurement = Measurement(**options, no_cache=given.no_cache)
    steps.log.info("loading what to measure with")
    with record.folder.lock.held(), measuring():
        height, width = formats.open_images(record.folder.path / record.arms[0].name).shape[1:]
        references = prepare_measuring(measurement, max(height, width))
        chosen = {name: value for name, value in options.items() if value is not None}
        config |= chosen | {"reference": measurement.reference or "none"}
        scored = bool(registry.metrics_that_need("scores", measurement.metrics))
        target = target_or_reason(record, given.target, given.tokenizer) if scored else ""
        steps.log.info("measuring %s", ", ".join(measurement.metrics))
        metrics = measure_run(measurement, config, record, references, target)
        write_claim(record, metrics)
        steps.log.info("writing the report")
        write_report(record.folder.path)
        if of_fid and file.is_file():
            record.folder.write("config.yaml", config)
    return metrics


if __name__ == "__main__":
    main()
