"""Write an arm of a finished run as one .npz, as OpenAI's evaluator of guided diffusion reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from eval.cli.measuring import EXTRACTOR_HELP
from eval.metrics.features.networks import parse_networks
from eval.metrics.run_config import read_config
from lightning_modules.options.command_line import ArgumentParser
from sdvar.system import steps
from sdvar.system.interrupts import well_behaved

if TYPE_CHECKING:
    from jsonargparse import Namespace

COMMAND = "eval/export.py"
DESCRIPTION = """Write an arm of a finished run as .npz: arr_0, the images as uint8 (N, H, W, 3), arr_1, their labels,
and index, which image of the run each is. The order is random, since OpenAI's evaluator takes the parts for its
Inception Score as they come; the seed is stored too. With --statistics mean (mu) and covariance (sigma) of the images'
features instead: a --reference of eval/fid.py. OpenAI's evaluator cannot use such a file, since it also needs the
statistics of its spatial features (mu_s, sigma_s); give it the images."""
EXAMPLES = """examples:
  python eval/export.py --out runs/fid --arm speculative speculative.npz
  python eval/export.py --out runs/fid --arm baseline baseline_statistics.npz --statistics"""


def build_parser() -> ArgumentParser:
    """The command line of `eval/export.py`."""
    parser = ArgumentParser(prog=COMMAND, description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("file", type=str, help="the .npz to write; must not exist")
    add("--out", type=str, required=True, help="the run's folder")
    add("--arm", type=str, required=True, help="one of its arms")
    add("--seed", type=int, default=0, help="of the order of the images")
    add("--statistics", type=bool, default=False, help="write mu and sigma of the images' features, for FID alone")
    add("--feature_extractor", type=str | None, help=f"{EXTRACTOR_HELP} (that of the run)")
    add("--feature_extractor_weights", type=str | None, help="its weights file; or download, which fetches them")
    return parser


@well_behaved(COMMAND, "no file was written, give the command again")
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/export.py --help`."""
    options = build_parser().parse_args(arguments)
    print(f"{options.file}: {export(options)}")


def export(options: Namespace) -> str:
    """Writes the file.

    Returns:
        What was written, in words.

    Raises:
        ValueError: an option is invalid, the run is incomplete, or a file cannot be read.
        OSError: the file cannot be written.
    """
    from eval.metrics.images import openai_npz
    from lightning_modules.run.finished import read_run

    file = Path(options.file)
    openai_npz.check_target(file, options.seed)
    steps.log.info("reading the run")
    record = read_run(options.out)
    names = [arm.name for arm in record.arms]
    if options.arm not in names:
        raise ValueError(f"arm: expected one of {', '.join(names)}, got {options.arm!r}")
    steps.log.info("writing %s of %s images", file, f"{record.images:,}")
    if options.statistics:
        network = _network(options, record.folder.path / "config.yaml")
        return openai_npz.write_statistics(record.folder, options.arm, file, **network)
    return openai_npz.write_images(record.folder, options.arm, file, options.seed)


def _network(options: Namespace, config: Path) -> dict[str, str | None]:
    """The feature extractor that is given, else the run's own, of several its first."""
    own = read_config(config)
    if options.feature_extractor is None and not own.get("feature_extractor"):
        raise ValueError(f"feature_extractor: {config} has none; give --feature_extractor")
    source = own if options.feature_extractor is None else options
    return parse_networks(source.get("feature_extractor"), source.get("feature_extractor_weights"))[0]


if __name__ == "__main__":
    main()
