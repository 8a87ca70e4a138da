"""The options that name a teacher and how it samples: of `distil`, and of the command that stores tokens."""

from __future__ import annotations

from jsonargparse import Namespace

from lightning_modules.command_line import ArgumentParser
from lightning_modules.sampling_options import (
    BUNDLED_SAMPLING,
    RELEASED_SAMPLING,
    add_sampling,
    complete_sampling,
)
from sdvar import checkpoints


def add_teacher(parser: ArgumentParser) -> None:
    """Adds the models and the sampling."""
    add = parser.add_argument
    add("--pair", type=str | None, help="a bundled pair whose target is the teacher (tiny)")
    add("--target", type=str | None, help="the teacher: a checkpoint of your own (file or hf://OWNER/REPO/FILE)")
    add("--tokenizer", type=str | None, help="its VQVAE")
    add_sampling(parser)


def complete_teacher(given: Namespace) -> None:
    """Fills in pair and sampling where they are not given.

    Raises:
        ValueError: with one line that says what is wrong.
    """
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
