"""How many images per second the writer of a run takes, and whether decoding waits for it.

    python eval/benchmark_writer.py                      # 256 px, one thread, at 50 %, 80 % and 120 % of what it takes
    python eval/benchmark_writer.py --workers 4 --folder /shared/scratch --rates 100 200

Lightning predicts with the real writer and with a decoder that, instead of decoding, sleeps as long as a batch takes at
the given rate and hands out made-up pictures of about 120 KB each, as photographs of 256 px have. Below the rate of the
writer, decoding should not wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sdvar.system import steps
from sdvar.system.command_line import ArgumentParser, count
from sdvar.system.interrupts import well_behaved

COMMAND = "eval/benchmark_writer.py"
SHARES = (0.5, 0.8, 1.2)  # of the writer's own rate, where no rates are given
PICTURES = 64  # different ones


@well_behaved(COMMAND, "its files are removed, give the command again")
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see its --help."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if any(rate <= 0 for rate in options.rates or ()):
        parser.error(f"--rates: expected numbers above 0, got {options.rates}")
    if options.folder and not options.folder.is_dir():
        parser.error(f"--folder: expected a folder, got {options.folder}")

    from eval.benchmarking.writing import make_pictures, measure

    steps.log.info("writing %d images, once at most speed and once at each rate", options.images)
    images = make_pictures(PICTURES, options.side)
    sizes = (options.images, options.batch_size, options.workers, options.folder)
    free = measure(images, None, *sizes)
    own = options.images / free.seconds
    side, batch = options.side, options.batch_size
    print(f"pictures  {side} x {side}, {free.size / 1e3:.0f} KB each as PNG, in batches of {batch}")
    print(f"writer    {own:.1f} images/s by {options.workers} threads, {options.images / free.cpu:.1f} per core")
    print("decoder hands out   decoding waited")
    for rate in options.rates or [share * own for share in SHARES]:
        found = measure(images, rate, *sizes)
        print(f"{rate:8.1f} images/s   {found.waited:8.2f} s of {found.seconds:.1f} s")


def build_parser() -> ArgumentParser:
    """The command line of `eval/benchmark_writer.py`."""
    parser = ArgumentParser(COMMAND, description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", help="images per second that the decoder hands out")
    parser.add_argument("--workers", type=count, default=1, help="threads of the writer. Default 1")
    parser.add_argument("--images", type=count, default=1000, help="of each run. Default 1000")
    parser.add_argument("--batch_size", type=count, default=50, help="default 50")
    parser.add_argument("--side", type=count, default=256, help="of an image. Default 256")
    parser.add_argument("--folder", type=Path, help="where the files lie for a while; default: the temporary folder")
    return parser


if __name__ == "__main__":
    main()
