"""What `distil` and the command that stores tokens share: options of the teacher, of its sampling, of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentError, Namespace

from lightning_modules.options.command_line import ArgumentParser, Nodes, Threads
from lightning_modules.options.sampling import (
    BUNDLED_SAMPLING,
    RELEASED_SAMPLING,
    add_sampling,
    complete_sampling,
    in_long_form,
)
from lightning_modules.processes.devices import count, read_devices
from lightning_modules.processes.launcher import check_launcher
from sdvar import checkpoints


def add_teacher(parser: ArgumentParser) -> None:
    """Adds the models and the sampling."""
    add = parser.add_argument
    add("--pair", type=str | None, help="a bundled pair whose target is the teacher (tiny)")
    add("--target", type=str | None, help="the teacher: a checkpoint of your own (file or hf://OWNER/REPO/FILE)")
    add("--tokenizer", type=str | None, help="its VQVAE")
    add_sampling(parser)


def add_machine(parser: ArgumentParser) -> None:
    """Adds where the models run, and in how many processes."""
    add = parser.add_argument
    add("--accelerator", type=Literal["auto", "cpu", "cuda", "gpu"], default="auto", help="where it runs")
    add("--devices", type=int | list[int] | str, default=1, help="processes on this node, or auto, or GPUs 0,1")
    add("--num_nodes", type=Nodes, default=1, help="nodes")
    add("--threads", type=Threads | None, help="CPU threads per process (torch's own choice)")


def read(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Options from a command line, with machine, teacher and sampling complete.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    try:
        given = parser.parse_args([in_long_form(word) for word in arguments])
    except ArgumentError as error:
        raise ValueError(str(error)) from None
    given.devices = read_devices(given.devices, given.accelerator)
    check_launcher(count(given.devices), given.num_nodes)
    _complete_teacher(given)
    return given


def _complete_teacher(given: Namespace) -> None:
    """Fills in pair and sampling where they are not given."""
    files = [name for name in ("target", "tokenizer") if given[name] is not None]
    if len(files) == 1 or (files and given.pair is not None):
        got = ", ".join(f"--{name}" for name in ("pair", "target", "tokenizer") if given[name] is not None)
        raise ValueError(f"expected --pair, or --target and --tokenizer together; got {got}")
    given.pair = given.pair if files else given.pair or "tiny"
    defaults = RELEASED_SAMPLING if files else BUNDLED_SAMPLING
    given.sampling = Namespace(**complete_sampling(given.sampling, defaults))


def teacher_files(options: Namespace) -> dict[str, str]:
    """The files of target and tokenizer."""
    if options.pair is None:
        return {"target": options.target, "tokenizer": options.tokenizer}
    files = checkpoints.bundled_files(options.pair)
    return {name: str(files[name]) for name in ("target", "tokenizer")}
