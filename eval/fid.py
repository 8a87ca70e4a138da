"""The main job: decode images with every arm, measure them, write the report."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from jsonargparse import Namespace

from eval.cli.launcher import another_ended, cluster_environment, let_the_first_speak
from eval.cli.options import as_config, parse
from lightning_modules.orphans import end_with_parent

if TYPE_CHECKING:  # heavy: only imported once the options are known to be good
    from lightning.pytorch import Trainer

    from eval.metrics.features import Features
    from lightning_modules.data.labels import ClassLabelDataModule
    from lightning_modules.predictor import SDVARPredictor
    from lightning_modules.run.folder import RunFolder


@dataclass
class Job:
    """Everything a run needs, checked."""

    trainer: Trainer
    data: ClassLabelDataModule
    predictor: SDVARPredictor
    folder: RunFolder
    reference: Features | None = None  # on rank 0, if there is one


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/fid.py --help`."""
    run("eval/fid.py", parse, arguments)


def run(
    command: str,
    parse: Callable[[Sequence[str]], Namespace],
    arguments: Sequence[str] | None = None,
    extend: bool = False,
) -> None:
    """Decodes, measures and reports; a mistake ends the process with one line on stderr and exit code 2.

    Args:
        command: as errors name it.
        parse: turns a command line into the options of `eval/fid.py`.
        arguments: the command line; None for that of this process.
        extend: add arms to the run that the folder holds.
    """
    started = time.perf_counter()
    end_with_parent()
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        job = prepare(options, started, extend)
    except (ValueError, TypeError, OSError) as error:
        _stop(command, error)
    prepared = time.perf_counter()
    try:
        job.trainer.predict(job.predictor, datamodule=job.data, return_predictions=False)
    except (ValueError, OSError) as error:  # NaN, a full disk: what is finished stays, the same command continues
        logging.getLogger("sdvar").debug("stopped", exc_info=True)
        _stop(command, error)
    except RuntimeError as error:
        if not another_ended(error):
            raise
        reason = str(error).splitlines()[0]
        _stop(command, f"another process of the run has ended; the same command again continues ({reason})")
    decoded = time.perf_counter()
    _leave_process_group()
    if not job.trainer.is_global_zero:
        return

    from eval.cli.finished_run import end_session, load_record
    from eval.metrics.measuring import Measurement, measure_run
    from eval.report.page import write_report
    from eval.report.terminal import print_table

    try:
        end_session(job.folder, decoded - prepared)
        record = load_record(job.folder.path)
        metrics = measure_run(Measurement.of(options), as_config(options), record, job.reference)
        report = write_report(job.folder.path)
    except (ValueError, OSError) as error:
        _stop(command, error)
    print_table(metrics, report)


def _stop(command: str, error: Exception | str) -> NoReturn:
    let_the_first_speak()
    print(f"{command}: error: {error}", file=sys.stderr)
    sys.exit(2)


def prepare(options: Namespace, started: float, extend: bool = False) -> Job:
    """Checks the options against the models and the files, before any model runs.

    Args:
        options: of the command, completed in place.
        started: time (`time.perf_counter`) when the command began.
        extend: add arms to the run that the folder holds; they then stand in the options too.

    Raises:
        ValueError, TypeError, OSError: with one line that says what is wrong.
    """
    import torch
    from lightning.pytorch import Trainer

    import sdvar
    from eval.cli.arms import build_arms, describe_arms
    from eval.cli.engine_options import engine_of
    from eval.cli.progress import ProgressBar
    from lightning_modules.pair_source import PairFiles
    from lightning_modules.predictor import SDVARPredictor
    from lightning_modules.run.folder import RunFolder
    from lightning_modules.run.writer import ImageWriter
    from lightning_modules.stopping import StopOnSignal

    _quieten_libraries()
    _resolve_accelerator(options)
    sampling = sdvar.Sampling(**options.sampling.as_dict())
    arms = build_arms(options.strategy, sampling)
    options.strategy = describe_arms(arms)
    if options.labels is not None:
        _images_of(options)  # a mistake here should not wait for the models
    source = options.pair or PairFiles(options.draft, options.target, options.tokenizer)
    engine = engine_of(options)
    predictor = SDVARPredictor(source, arms, sampling, options.precision, engine)
    for pair in predictor.pairs.values():
        predictor.engine.check(pair, torch.device(options.accelerator))
    if options.labels is None:
        options.labels = f"0-{predictor.pair.num_classes - 1}"
    data = _images_of(options)
    data.check_classes(predictor.pair.num_classes)

    writer = ImageWriter(options.out, options.overwrite, extend=extend)
    shown = sys.stderr.isatty() and not options.quiet
    trainer = Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        benchmark=False,  # timing the convolutions at hand would choose among them by chance
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        plugins=cluster_environment(),
        enable_progress_bar=shown,
        callbacks=[*([ProgressBar()] if shown else []), writer, StopOnSignal()],
    )
    job = Job(trainer, data, predictor, RunFolder(options.out))
    if trainer.is_global_zero:
        from eval.cli.finished_run import earlier_arms, start_session
        from eval.metrics.measuring import Measurement, prepare_measuring
        from lightning_modules import pair_source
        from lightning_modules.run.environment import describe_environment, describe_numerics
        from sdvar.engine import tf32_allowed

        writer.folder.check(writer.settings(trainer, predictor, data), options.overwrite, extend)
        if extend and not options.overwrite:
            options.strategy = describe_arms(earlier_arms(writer.folder, arms)) | options.strategy
        job.reference = prepare_measuring(Measurement.of(options), predictor.pair.tokenizer.image_size)
        writer.open(trainer, predictor, data)
        writer.folder.write("config.yaml", as_config(options))
        drafts = {f"draft {arm.draft}": pair_source.digest(arm.draft) for arm in arms if arm.draft}
        digests = pair_source.digests(predictor.source) | drafts
        environment = describe_environment(options.accelerator, options.threads, digests)
        with tf32_allowed(options.tf32):
            environment |= describe_numerics(predictor.pair, predictor.engine)
        seconds = time.perf_counter() - started
        start_session(writer.folder, environment, seconds, options.overwrite)
    return job


def _images_of(options: Namespace) -> ClassLabelDataModule:
    from lightning_modules.data.labels import ClassLabelDataModule

    images_per_class = options.images_per_class  # of each repeat, one after the other; None: the labels give the images
    if images_per_class is not None:
        images_per_class *= options.repeats
    return ClassLabelDataModule(options.labels, images_per_class, options.batch_size, options.seed)


def _resolve_accelerator(options: Namespace) -> None:
    import torch

    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if options.accelerator == "auto":
        options.accelerator = "cuda" if available else "cpu"
    options.accelerator = options.accelerator.replace("gpu", "cuda")
    if options.accelerator == "cuda" and available < options.devices:
        raise ValueError(f"devices: {options.devices} GPUs asked for, {available} found; --accelerator cpu needs none")


def _quieten_libraries() -> None:
    """Leaves the warnings that concern the user. Lightning sets its level on import: this comes after."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*srun.*is not used.*")  # a login node, or a step of one task


def _leave_process_group() -> None:
    """No process waits for another from here on: the first measures, the others end."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
