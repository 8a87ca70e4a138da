"""`python -m lightning_modules fit|validate|test|predict --config FILE`: model, data and trainer come from the YAML.

`distil` is a command of its own, see `lightning_modules.distilling`.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from lightning_modules.command_line import HelpFormatter, PlainErrors
from lightning_modules.distilling.command import main as distil
from lightning_modules.stopping import StopOnSignal, end_with_parent
from sdvar.checkpoints import unpickling
from sdvar.command_line import stop
from sdvar.interrupts import well_behaved

PROG = "python -m lightning_modules"
WRITTEN = f"written by {PROG}"  # the first line of a config that a run leaves
PATHS = [f"pathlib.{module}{kind}Path" for module in ("", "_local.") for kind in ("Posix", "Windows")]  # of our options
OF_THE_MAIN_JOB = re.compile(r"does not accept option '(pair|strategy|grid|labels|sampling|metrics|reference)\b")
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

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, OSError) as error:
            stop(self.parser.prog, error.__cause__ or error)  # jsonargparse wraps the errors of our classes

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
        """Decodes."""
        try:
            with unpickling.harmless(self._saved):
                self.trainer.predict(**arguments | {"weights_only": True})
        except pickle.UnpicklingError:
            self._refuse()
        except (ValueError, OSError) as error:
            stop(self.parser.prog, error)

    def _refuse(self) -> NoReturn:
        # torch's own message advises to run the code in the file
        stop(
            self.parser.prog,
            "ckpt_path: expected a checkpoint of Lightning, of weights and plain values alone; this one is damaged, "
            "or of another kind, or holds objects whose loading would run code, which was not run",
        )


@well_behaved(
    PROG, "what is finished is kept: predict and distil continue with the same command, fit with --ckpt_path last"
)
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sub-command of the command line; `model` and `data` are given in the config by their `class_path`."""
    end_with_parent()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["distil"]:
        distil(words[1:])
        return
    CommandLine(
        args=arguments,
        parser_class=Parser,
        parser_kwargs={"prog": PROG, "description": DESCRIPTION, "epilog": EXAMPLES},
        save_config_callback=SaveConfig,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={"callbacks": StopOnSignal()},
    )


if __name__ == "__main__":
    main()
