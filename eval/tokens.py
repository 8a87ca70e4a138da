"""Store images as token shards, for the training of a draft: those that a target samples, or a user's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from lightning_modules.distilling.options import Seed
from lightning_modules.distilling.shared_options import add_machine, add_teacher, read
from lightning_modules.options.command_line import ArgumentParser, Count
from lightning_modules.pair_source import PRECISIONS
from lightning_modules.processes.devices import accelerator_of
from lightning_modules.processes.launcher import let_the_first_speak
from sdvar.system.command_line import check_folder
from sdvar.system.interrupts import well_behaved
from sdvar.system.memory import out_of_memory_says

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from lightning.pytorch import LightningModule
    from torch import Tensor

    from lightning_modules.distilling.tokens.shards import Origin
    from sdvar import VAR, VQVAE

COMMAND = "eval/tokens.py"
DESCRIPTION = """Sample images with a target, or encode images of your own, and store them as tokens, in Parquet files,
for `python -m lightning_modules distil --tokens`. The same command again makes what is missing, and with more --images
the further ones."""
EXAMPLES = """examples:
  python eval/tokens.py --images 4096 --out runs/tokens                             # the bundled target's
  python eval/tokens.py --images 4096 --distributions --out runs/tokens             # and what it made of them
  python eval/tokens.py --target var_d30.pth --tokenizer vae_ch160v4096z32.pth --images 1000000 \\
      --precision bf16-true --devices 8 --out tokens/d30
  python eval/tokens.py --encode photos --out runs/photo_tokens                     # photos/0/a.png, photos/1/…"""
SAMPLED = 10_000  # images, where their number is not given


def build_parser() -> ArgumentParser:
    """The command line of `eval/tokens.py`; every option is also a key of the config file."""
    parser = ArgumentParser(prog=COMMAND, description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("--config", action="config", help="YAML file of options; the command line overrides it")
    add_teacher(parser)
    add("--images", type=Count | None, help=f"how many the folder is to have ({SAMPLED:,}, or all of --encode)")
    add(
        "--encode",
        type=str | None,
        help="images of your own to encode, not to sample: a folder with a sub-folder per class, or a .parquet file "
        "with the columns image and label; they are brought to the tokenizer's size",
    )
    add(
        "--distributions",
        type=bool,
        default=False,
        help="keep the target's guided and filtered distributions too, with which a training does not run it again",
    )
    add("--seed", type=Seed, default=0, help="of the images; those of a training with this seed are the same")
    add("--batch_size", type=Count, default=64, help="images made together")
    add("--shard", type=Count, default=1024, help="images of a file")
    add("--precision", type=Literal[PRECISIONS], default="32-true", help="of the target")
    add_machine(parser)
    add("--out", type=str, default="runs/tokens", help="folder of the shards")
    return parser


def parse(arguments: Sequence[str]) -> Namespace:
    """Options from a command line, checked as far as they do not depend on the models.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    given = read(build_parser(), arguments)
    check_folder(given.out)
    return given


@well_behaved(COMMAND, "what is finished is kept, and the same command continues", let_the_first_speak)
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/tokens.py --help`."""
    with out_of_memory_says("batch_size: the images do not fit into memory together; give a smaller --batch_size"):
        make(parse(sys.argv[1:] if arguments is None else arguments))


def make(options: Namespace) -> None:
    """Makes what the folder lacks.

    Raises:
        ValueError: with one line that says what is wrong, before anything is made.
    """
    import torch
    from lightning.pytorch import Trainer

    from lightning_modules.distilling.tokens.writer import MissingImages, TokenWriter
    from lightning_modules.processes.launcher import cluster_environment
    from lightning_modules.processes.quiet import quieten_libraries
    from lightning_modules.processes.stopping import StopOnSignal, end_with_parent
    from lightning_modules.run.lock import RunLock
    from lightning_modules.run.room import check_writable

    end_with_parent()
    quieten_libraries()
    if options.threads:
        torch.set_num_threads(options.threads)
    accelerator, folder = accelerator_of(options.accelerator, options.devices), Path(options.out).expanduser()
    check_writable(folder)
    task = _encoding(options) if options.encode else _sampling(options)
    data = MissingImages(folder, task.origin, task.images, options.batch_size, task.load)
    missing = len(data.missing)
    if not missing:
        print(f"{folder}: has {task.images:,} images already; give it as --tokens")
        return
    trainer = Trainer(
        accelerator=accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        plugins=cluster_environment(),
        enable_progress_bar=sys.stderr.isatty(),
        callbacks=[TokenWriter(folder, task.origin, options.shard), StopOnSignal()],
    )
    lock = RunLock(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock.acquire(trainer.global_rank)
    try:
        trainer.predict(task.maker, datamodule=data, return_predictions=False)
    finally:
        lock.release()
    if trainer.is_global_zero:
        print(f"{folder}: {missing:,} image{'s' * (missing != 1)} more, {task.images:,} in all; give it as --tokens")


class Task(NamedTuple):
    """What is to be made.

    Attributes:
        maker: whose predict step makes the tokens.
        origin: of the images.
        images: how many.
        load: what a batch holds, from the numbers of its images.
    """

    maker: LightningModule
    origin: Origin
    images: int
    load: Callable[[Tensor], dict[str, Tensor]]


def _models(options: Namespace) -> tuple[VAR, VQVAE, dict[str, str]]:
    """Target, tokenizer, and their digests."""
    import sdvar
    from lightning_modules.distilling.shared_options import teacher_files
    from lightning_modules.pair_source import DTYPES
    from sdvar import checkpoints

    files = teacher_files(options)
    target = sdvar.load_var(files["target"], dtype=DTYPES[options.precision])
    tokenizer = sdvar.load_tokenizer(files["tokenizer"], target.pyramid)
    return target, tokenizer, {name: checkpoints.digest(file) for name, file in files.items()}


def _sampling(options: Namespace) -> Task:
    import sdvar
    from lightning_modules.distilling.teaching.images import Images
    from lightning_modules.distilling.teaching.teacher import Teacher
    from lightning_modules.distilling.tokens.makers import TokenSampler
    from lightning_modules.distilling.tokens.shards import Origin

    target, tokenizer, weights = _models(options)
    teacher = Teacher(target, tokenizer.drop_encoder(), sdvar.Sampling(**options.sampling.as_dict()))
    origin = Origin(
        source="target",
        tokenizer=weights["tokenizer"],
        patch_nums=list(target.pyramid.patch_nums),
        teacher=weights["target"],
        sampling=options.sampling.as_dict(),
        seed=options.seed,
        precision=options.precision,
        distributions=options.distributions,
    )
    images = Images(options.seed, target.num_classes, options.batch_size)
    count = SAMPLED if options.images is None else options.images
    maker = TokenSampler(teacher, options.distributions)
    return Task(maker, origin, count, lambda numbers: dict(zip(("label", "seed"), images.of(numbers))))


def _encoding(options: Namespace) -> Task:
    import torch

    import sdvar
    from eval.metrics.images.labelled import open_labelled
    from lightning_modules.distilling.teaching.teacher import Teacher
    from lightning_modules.distilling.tokens.makers import TokenEncoder
    from lightning_modules.distilling.tokens.shards import Origin

    target, tokenizer, weights = _models(options)
    teacher = Teacher(target, tokenizer, sdvar.Sampling(**options.sampling.as_dict()))  # or says why they do not fit
    given = open_labelled(Path(options.encode).expanduser(), tokenizer.image_size, target.num_classes)
    count = len(given.labels) if options.images is None else options.images
    if count > len(given.labels):
        raise ValueError(f"images: {options.encode} has {len(given.labels):,}, got {count:,}; leave it out for all")
    origin = Origin(f"images {given.digest[:16]}", weights["tokenizer"], list(target.pyramid.patch_nums))
    if options.distributions:
        origin = replace(
            origin,
            teacher=weights["target"],
            sampling=options.sampling.as_dict(),
            precision=options.precision,
            distributions=True,
        )

    def load(numbers: Tensor) -> dict[str, Tensor]:
        pixels = torch.stack(given.images.__getitems__(numbers.tolist()))
        return {"label": torch.from_numpy(given.labels)[numbers], "pixels": pixels}

    return Task(TokenEncoder(tokenizer, teacher if options.distributions else None), origin, count, load)


if __name__ == "__main__":
    main()
