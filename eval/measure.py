"""Measure a finished run again, from its folder alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentError, Namespace

from eval.cli import options as fid_options
from eval.metrics import registry
from lightning_modules.command_line import ArgumentParser

DESCRIPTION = """Measure a finished run again, from its images and tables: no model is loaded and nothing is decoded.

What is not given is taken from the run's config.yaml. Rewrites metrics.json, report.html and, in config.yaml, the
options given here."""
EXAMPLES = """examples:
  python eval/measure.py --out runs/fid --metrics is,fid,kid,prc,pairs
  python eval/measure.py --out runs/imagenet --reference VIRTUAL_imagenet256_labeled.npz"""
MEASURING = ("metrics", "reference", "repeats", "feature_extractor", "feature_extractor_weights")


def build_parser() -> ArgumentParser:
    """The command line of `eval/measure.py`."""
    parser = ArgumentParser(prog="eval/measure.py", description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("--out", type=str, required=True, help="the run's folder")
    add("--metrics", type=str | None, help=registry.HELP)
    add("--reference", type=str | None, help=fid_options.REFERENCE_HELP)
    add("--repeats", type=int | None, help=fid_options.REPEATS_HELP)
    add("--feature_extractor", type=str | None, help=fid_options.EXTRACTOR_HELP)
    add("--feature_extractor_weights", type=str | None, help="its weights file, where they should not be downloaded")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/measure.py --help`."""
    try:
        given = build_parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    except ArgumentError as error:
        _stop(error)

    from eval.report.terminal import print_table

    try:
        metrics = measure_run(given)
    except (ValueError, OSError) as error:
        _stop(error)
    print_table(metrics, f"{given.out}/report.html")


def _stop(error: Exception) -> None:
    print(f"eval/measure.py: error: {error}", file=sys.stderr)
    sys.exit(2)


def measure_run(given: Namespace) -> dict[str, Any]:
    """Measures a run and rewrites its metrics.json and report.html.

    Args:
        given: `out` and the options of `MEASURING`, None where the run's own hold.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: the run is incomplete, or an option or a file is unfit.
    """
    import yaml

    from eval.cli.finished_run import load_record
    from eval.metrics.images import open_images
    from eval.metrics.measuring import prepare_measuring, write_results

    given.metrics = None if given.metrics is None else registry.parse_metrics(given.metrics)
    record = load_record(given.out)
    file = record.folder.path / "config.yaml"
    config = (yaml.safe_load(file.read_text()) if file.is_file() else None) or {}
    of_fid = "model" not in config  # the command that makes images only writes another kind there
    defaults = config if of_fid else {}
    bundled = isinstance(record.source, str)
    defaults = (fid_options.BUNDLED_DEFAULTS if bundled else fid_options.OTHER_DEFAULTS) | defaults
    options = Namespace()
    for name in MEASURING:
        options[name] = given[name] if given[name] is not None else defaults.get(name)
    if given.metrics is None and not options.metrics:  # a run that was made without any
        options.metrics = registry.DEFAULTS
    options.repeats = fid_options.parse_repeats(1 if options.repeats is None else options.repeats)
    if record.images % options.repeats:
        raise ValueError(f"repeats: {record.images} images an arm cannot be cut into {options.repeats} equal parts")
    options.reference = None if options.reference == "none" else options.reference
    height, width = open_images(record.folder.path / record.arms[0].name).shape[1:]
    reference = prepare_measuring(options, max(height, width))
    chosen = {name: options[name] for name in MEASURING if options[name] is not None}
    config = (config if of_fid else {}) | chosen | {"reference": options.reference or "none"}
    metrics = write_results(options, config, record, reference)
    if of_fid and file.is_file():
        record.folder.write("config.yaml", config)
    return metrics


if __name__ == "__main__":
    main()
