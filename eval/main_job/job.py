"""From the options of `eval/fid.py` to everything that decoding and measuring need, checked before any model runs."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer

import sdvar
from eval.cli.arms import default_arms
from eval.cli.groups import engine_of
from eval.cli.options import as_config
from eval.estimates.memory import decode_bytes, free_bytes, smaller_batch
from eval.main_job.batch_one import speculation_at_batch_one
from eval.main_job.progress import ProgressBar
from eval.metrics.measurement import Measurement, References, prepare_measuring
from lightning_modules import pair_source
from lightning_modules.arms.arm import Arm, build_arms
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.pair_source import source_of
from lightning_modules.predictor import SDVARPredictor
from lightning_modules.processes.devices import accelerator_of
from lightning_modules.processes.launcher import cluster_environment
from lightning_modules.processes.quiet import quieten_libraries
from lightning_modules.processes.stopping import StopOnSignal
from lightning_modules.run.environment import describe_environment, describe_numerics
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.missing import other_arms, unfinished
from lightning_modules.run.sessions import earlier_at_batch_one, start_session
from lightning_modules.writer import ImageWriter
from sdvar.drafts import of_target
from sdvar.engine import tf32_allowed
from sdvar.system.memory import out_of_memory_says


@dataclass(frozen=True)
class Job:
    """Everything a run needs, checked.

    Attributes:
        trainer, predictor, data: decode it.
        folder: what it leaves.
        config: what its config.yaml holds; on rank 0 alone.
        references: features of the reference by network; on rank 0 alone, and if there is one.
    """

    trainer: Trainer
    predictor: SDVARPredictor
    data: ClassLabelDataModule
    folder: RunFolder
    config: dict[str, Any] = field(default_factory=dict)
    references: References = field(default_factory=dict)


def prepare(options: Namespace, started: float, extend: bool = False) -> Job:
    """Checks the options against the models and the files; opens the folder.

    Args:
        options: of the command; not changed.
        started: time (`time.perf_counter`) when the command began.
        extend: add arms to the run that the folder holds; the config then has its earlier arms too.

    Raises:
        ValueError, TypeError, OSError: with one line that says what is wrong.
    """
    quieten_libraries()
    accelerator = accelerator_of(options.accelerator, options.devices)
    sampling = sdvar.Sampling(**options.sampling.as_dict())
    arms = (
        build_arms(options.strategy, sampling)
        if options.strategy is not None
        else partial(_default_arms, sampling, options.pair)
    )
    data = _data(options, options.labels) if options.labels is not None else None  # before the models are loaded
    source = source_of(options.pair, options.draft, options.target, options.tokenizer)
    predictor = SDVARPredictor(source, arms, sampling, options.precision, engine_of(options))
    writer = ImageWriter(options.out, options.overwrite, extend=extend)
    trainer = _trainer(options, accelerator, writer)
    for pair in predictor.pairs.values():
        predictor.engine.check(pair, trainer.strategy.root_device)  # of this process: none makes a context elsewhere
    labels = f"0-{predictor.pair.num_classes - 1}" if options.labels is None else options.labels
    data = data or _data(options, labels)
    data.check_classes(predictor.pair.num_classes)
    if not trainer.is_global_zero:
        return Job(trainer, predictor, data, writer.folder)

    writer.check(trainer, predictor, data)
    others = other_arms(writer.folder, [arm.name for arm in predictor.arms]) if extend and not options.overwrite else {}
    references = prepare_measuring(Measurement.of(options), predictor.pair.tokenizer.image_size)
    try:
        at_one = _open(writer, trainer, predictor, data)
        configs = others | {arm.name: arm.config() for arm in predictor.arms}
        config = as_config(options, strategy=configs, accelerator=accelerator, labels=labels)
        writer.folder.write("config.yaml", config)
        environment = _environment(options, accelerator, predictor)
        start_session(writer.folder, environment, time.perf_counter() - started, options.overwrite, at_one)
    except BaseException:  # a caller in Python goes on
        writer.folder.lock.release()
        raise
    return Job(trainer, predictor, data, writer.folder, config, references)


def _open(
    writer: ImageWriter, trainer: Trainer, predictor: SDVARPredictor, data: ClassLabelDataModule
) -> dict[str, Any] | None:
    """Opens the folder and measures what gamma "auto" leaves open; returns what batch size 1 gave, if it was asked."""
    with out_of_memory_says(lambda: out_of_memory(predictor, data.batch_size)):
        writer.open(trainer, predictor, data)
        at_one = earlier_at_batch_one(writer.folder)
        if at_one is None and unfinished(writer.folder):
            at_one = speculation_at_batch_one(predictor, data)
        return at_one


def _default_arms(sampling: sdvar.Sampling, pair: str | None, scales: int) -> list[Arm]:
    return build_arms(default_arms(scales, pair), sampling)


def out_of_memory(predictor: SDVARPredictor, batch: int) -> str:
    """What to do about it, in one line."""
    pair, strategies = predictor.pair, [arm.decoding for arm in predictor.arms]
    return smaller_batch(
        batch, lambda size: max(decode_bytes(pair, one, size) for one in strategies), free_bytes(pair.device)
    )


def _data(options: Namespace, labels: Any) -> ClassLabelDataModule:
    images_per_class = options.images_per_class  # of each repeat, one after the other; None: the labels give the images
    if images_per_class is not None:
        images_per_class *= options.repeats
    return ClassLabelDataModule(labels, images_per_class, options.batch_size, options.seed)


def _trainer(options: Namespace, accelerator: str, writer: ImageWriter) -> Trainer:
    progress = [ProgressBar()] if sys.stderr and sys.stderr.isatty() and not options.quiet else []
    return Trainer(
        accelerator=accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        benchmark=False,  # timing the convolutions at hand would choose among them by chance
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        plugins=cluster_environment(),
        enable_progress_bar=bool(progress),
        callbacks=[*progress, writer, StopOnSignal()],
    )


def _environment(options: Namespace, accelerator: str, predictor: SDVARPredictor) -> dict[str, Any]:
    drafts = {
        f"draft {arm.draft}": pair_source.digest(arm.draft)
        for arm in predictor.arms
        if arm.draft and not of_target(arm.draft)
    }
    digests = pair_source.digests(predictor.source) | drafts
    with tf32_allowed(options.tf32):
        numerics = describe_numerics(predictor.pair, predictor.engine, accelerator)
    return describe_environment(accelerator, options.threads, digests) | numerics
