"""The commands of Lightning, `fit`, `validate`, `test` and `predict`: model, data and trainer come from a config."""

from __future__ import annotations

import pickle
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from lightning_modules.options.command_line import PROG, HelpFormatter, PlainErrors
from lightning_modules.predictor import log as statistics
from lightning_modules.processes.launcher import an_ended_process_says, check_launcher, let_the_first_speak
from lightning_modules.processes.quiet import quieten_libraries
from lightning_modules.processes.stopping import StopOnSignal, end_with_parent
from lightning_modules.writer import ImageWriter
from sdvar.checkpoints.reading import unpickling
from sdvar.system.command_line import stop
from sdvar.system.log_lines import on_stderr
from sdvar.system.memory import out_of_memory_says

WRITTEN = f"written by {PROG}"  # the first line of a config that a run leaves
PATHS = [f"pathlib.{module}{kind}Path" for module in ("", "_local.") for kind in ("Posix", "Windows")]  # of our options
OF_THE_MAIN_JOB = re.compile(r"does not accept option '(pair|strategy|grid|labels|sampling|metrics|reference)\b")
OPTIONS = {  # of other commands, in messages that they share, as `predict` has them
    "--overwrite": "--trainer.callbacks.init_args.overwrite true",
    "--tokenizer_dtype": "--model.engine.tokenizer_dtype",
    **{f"--{name}": f"--trainer.{name}" for name in ("devices", "num_nodes", "accelerator")},
}
SPAWNS = re.compile("spawn|fork|notebook")  # strategies whose processes get the models pickled
MAIN_JOB = "the main job: python eval/fid.py --config FILE, or eval/sweep.py where it has a grid"
DESCRIPTION = """Decode the images of a class list (predict), or train the parts of the bundled pair (fit). Model, data
and trainer come from a config file; options on the command line override it. A draft for a target of your own:
`distil`, see `python -m lightning_modules distil --help`."""
EXAMPLES = """examples:
  python -m lightning_modules predict --config configs/predict_tiny.yaml
  python -m lightning_modules predict --config configs/predict_tiny.yaml --data.images_per_class 2 --trainer.devices 2
  python -m lightning_modules fit --config configs/train_target.yaml --ckpt_path last
  python -m lightning_modules distil --depth 2 --out runs/distilled"""


class Parser(PlainErrors, LightningArgumentParser):
    """Lightning's, but options have no abbreviations and an invalid command line is reported in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        key = OF_THE_MAIN_JOB.search(message)
        super().error(f"config: {key[1]} belongs to the config of {MAIN_JOB}" if key else message, ex)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ours = {"formatter_class": HelpFormatter, "allow_abbrev": False}
        super().__init__(*args, **ours | kwargs | {"dump_header": [WRITTEN]})


class SaveConfig(SaveConfigCallback):
    """Saves the config beside the results: over that of the run it continues, never over a file of the user's."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        file = Path(trainer.log_dir, self.config_filename)
        if trainer.is_global_zero and not self.already_saved and not self._is_ours(file):
            stop(
                PROG,
                f"trainer.default_root_dir: {file} is not the config of a run; move it away, or give another folder",
            )
        super().setup(trainer, pl_module, stage)

    @staticmethod
    def _is_ours(file: Path) -> bool:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            return False
        return not file.exists() or file.read_bytes().startswith(f"# {WRITTEN}\n".encode())


class CommandLine(LightningCLI):
    """Lightning's; an invalid config and an error that ends a prediction are reported in one line as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._saved = list(PATHS)  # harmless classes in the checkpoint to continue from
        super().__init__(*args, **kwargs)

    def _set_seed(self) -> None:
        """Prediction draws nothing at random: its seeds are the images'."""
        if self.subcommand != "predict" or self._get(self.config, "seed_everything") is not True:
            super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Predicts as quietly as the main job."""
        if self.subcommand != "predict":
            return
        quieten_libraries()
        trainer = self.config.predict.trainer
        if not (sys.stderr and sys.stderr.isatty()) and trainer.enable_progress_bar is None:
            trainer.enable_progress_bar = False

    def instantiate_classes(self) -> None:
        if self.subcommand == "predict":
            self._refuse_trainers(self.config.predict.trainer)
        try:
            super().instantiate_classes()
            if self.subcommand == "predict":
                check_launcher(self.trainer.num_devices, self.trainer.num_nodes)
        except (ValueError, TypeError, OSError, MisconfigurationException) as error:
            self._stop(error.__cause__ or error)  # jsonargparse wraps the errors of our classes

    def _refuse_trainers(self, trainer: Any) -> None:
        """Refuses what would end in a traceback."""
        if isinstance(trainer.strategy, str) and SPAWNS.search(trainer.strategy):
            self._stop(f"trainer.strategy: {trainer.strategy} cannot hand the models to its processes; give ddp")
        if trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            self._stop(f"trainer.accelerator: {trainer.accelerator} asked for, 0 found; --accelerator cpu needs none")

    def _parse_ckpt_path(self) -> None:
        """Reads a checkpoint once, to refuse it now.

        The model is the config's: Lightning's own method takes its options from the file, and imports the class that is
        named there.
        """
        given = self.config[self.config.subcommand].get("ckpt_path")
        file = Path(given or "")
        if not given or not file.exists() or file.is_dir():  # a keyword such as last
            return
        try:
            content = unpickling.load(file, names=self._saved) if file.is_file() else None
        except (pickle.UnpicklingError, EOFError, RuntimeError, OSError):
            self._refuse()
        if not isinstance(content, dict) or "pytorch-lightning_version" not in content:
            self._refuse()

    def fit(self, **arguments: Any) -> None:
        """Trains; a checkpoint to continue from is read as weights alone, so it cannot run code."""
        try:
            with unpickling.harmless(self._saved):
                self.trainer.fit(**arguments | {"weights_only": True})
        except pickle.UnpicklingError:
            self._refuse()

    def predict(self, **arguments: Any) -> None:
        """Decodes, and says where the images are."""
        try:
            with unpickling.harmless(self._saved), out_of_memory_says(self._smaller_batch), an_ended_process_says():
                self.trainer.predict(**arguments | {"weights_only": True})
        except pickle.UnpicklingError:
            self._refuse()
        except (ValueError, OSError, MisconfigurationException) as error:
            self._stop(error)
        for writer in self.trainer.callbacks if self.trainer.is_global_zero else ():
            if isinstance(writer, ImageWriter):
                path, arms = writer.folder.path, [arm.name for arm in self.model.arms]
                print(f"images: {self.datamodule.images:,} of each arm in {path} ({', '.join(arms)})")
                print(f"to measure them: python eval/measure.py --out {shlex.quote(str(path))}")

    def _smaller_batch(self) -> str:
        return f"data.batch_size: {self.datamodule.batch_size} ran out of memory; halve it"

    def _stop(self, error: Exception | str) -> NoReturn:
        let_the_first_speak()
        words = re.sub(r"--\w+", lambda option: OPTIONS.get(option[0], option[0]), str(error))
        stop(self.parser.prog, words if self.subcommand == "predict" else error)

    def _refuse(self) -> NoReturn:
        # torch's own message advises to run the code in the file
        stop(
            self.parser.prog,
            "ckpt_path: expected a checkpoint of Lightning, of weights and plain values alone; this one is damaged, "
            "or of another kind, or holds objects whose loading would run code, which was not run",
        )


def run(arguments: Sequence[str] | None) -> None:
    """Runs the sub-command; `model` and `data` are given in the config by their `class_path`."""
    end_with_parent()
    with on_stderr(statistics.name):
        CommandLine(
            args=arguments,
            parser_class=Parser,
            parser_kwargs={"prog": PROG, "description": DESCRIPTION, "epilog": EXAMPLES},
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"callbacks": StopOnSignal()},
        )
