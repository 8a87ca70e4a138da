"""A training from its options: models, trainer, checkpoint to continue from, files at the end."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

import sdvar
from lightning_modules.distilling.card import WEIGHTS, write_draft
from lightning_modules.distilling.distiller import Distiller, Schedule
from lightning_modules.distilling.expected import Worth
from lightning_modules.distilling.options import INSIDE, SAVINGS, lasting, shape_of
from lightning_modules.distilling.progress import Progress
from lightning_modules.distilling.role import Role
from lightning_modules.distilling.shared_options import teacher_files
from lightning_modules.distilling.student import make_student
from lightning_modules.distilling.teaching.batches import Batches
from lightning_modules.distilling.teaching.images import Images, held_out
from lightning_modules.distilling.teaching.teacher import Teacher
from lightning_modules.distilling.tokens.stored import StoredImages, Wanted, read_stored
from lightning_modules.processes.devices import accelerator_of, count
from lightning_modules.processes.launcher import cluster_environment
from lightning_modules.run.environment import describe_environment
from lightning_modules.run.lock import RunLock
from lightning_modules.run.room import check_writable
from sdvar import checkpoints
from sdvar.checkpoints.reading import unpickling
from sdvar.guidance import guidance_of, words
from sdvar.models.quantized import WEIGHT_KINDS, lacks_package, runs
from sdvar.system.atomic import write_atomically
from sdvar.system.command_line import check_folder

SETTINGS, CHECKPOINT = "settings.json", "last.ckpt"
LOCKS = ".locks"  # another process of the same training may have made it already
HELD_OUT_TOGETHER = 64


class Job:
    """Builds all that a training needs, and refuses what does not fit before anything is trained or written.

    Args:
        options: see `lightning_modules.distilling.options.parse`.

    Raises:
        ValueError: with one line that says what is wrong.
    """

    def __init__(self, options: Namespace) -> None:
        self.options, self.folder = options, Path(options.out).expanduser()
        if options.threads:
            torch.set_num_threads(options.threads)
        self.accelerator = accelerator_of(options.accelerator, options.devices)
        self._check_rounding()
        self.files = teacher_files(options)
        self.weights = {name: checkpoints.digest(file) for name, file in self.files.items()}
        self._check_folder()
        self.checkpoint = self._checkpoint()
        self.teacher = self._teacher()
        self.settings = lasting(options) | {"weights": self.weights}
        stored = self._stored()
        self.settings["tokens"] = stored.digest() if stored else None  # what they are, wherever they lie
        self._check_settings()
        pyramid = self.teacher.pair.pyramid
        self.role = Role(options.role, options.from_scale, len(pyramid))
        torch.manual_seed(options.seed)
        target, shape = self.teacher.pair.target, shape_of(options)
        student = make_student(shape, target, self.files["target"], self._inside(), options.rounded)
        sdvar.ModelPair(student, target, self.teacher.pair.tokenizer)  # or says why they are none
        worth = Worth(self.teacher.sampling, self.role, options.plan_seconds)
        self.progress = Progress(self.role, worth if options.plan_seconds else None)
        weigh = worth.savings if options.loss_weights == SAVINGS and not self.checkpoint else None
        self.trainer = self._trainer()
        world, rank = self.trainer.world_size, self.trainer.global_rank
        together = options.batch_size // (world * options.accumulate)
        images = Images(options.seed, self.teacher.pair.num_classes, together, rank, world)
        self.module = Distiller(student, self.teacher, self.role, images, self._schedule(), stored, weigh)
        self.training = Batches(range(options.steps * options.accumulate))
        self.validation = Batches(held_out(options.held_out, rank, world, HELD_OUT_TOGETHER))

    def _check_rounding(self) -> None:
        """Refuse a rounding that does not run where the draft is trained."""
        kind, device = self.options.rounded, torch.device(self.accelerator)
        if kind and (lacking := lacks_package()):
            raise ValueError(f"rounded: {kind} {lacking}")
        if kind and not runs(kind, device, torch.float32):
            able = ", ".join(other for other in WEIGHT_KINDS if runs(other, device, torch.float32)) or "none"
            raise ValueError(f"rounded: {kind} does not run on {device.type}; expected {able}")

    def _check_folder(self) -> None:
        """Refuse a folder with a finished draft, or with files of something else than a training."""
        check_folder(self.options.out)
        check_writable(self.folder)
        if (self.folder / WEIGHTS).exists():
            raise ValueError(f"out: {self.folder / WEIGHTS} exists, its training is finished; give another folder")
        new = not self.folder.exists() or (self.folder.is_dir() and set(os.listdir(self.folder)) <= {LOCKS})
        if not new and not (self.folder / SETTINGS).is_file():
            raise ValueError(f"out: expected a new or empty folder, or that of a training; got {self.folder}")

    def _check_settings(self) -> None:
        """Refuse a folder with another training."""
        file = self.folder / SETTINGS
        if not file.is_file():
            return
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(f"out: {file} is damaged; give another folder") from None
        names = sorted({*before, *self.settings}) if isinstance(before, dict) else []
        other = [name for name in names if before.get(name) != self.settings.get(name)]
        if other or not names:
            told = "; ".join(f"{name} {before.get(name)}, now {self.settings.get(name)}" for name in other[:3])
            raise ValueError(f"out: {self.folder} has a training with other settings ({told}); give another folder")

    def _checkpoint(self) -> str | None:
        """The file to continue from, if there is one."""
        file = self.folder / CHECKPOINT
        if not file.exists():
            return None
        try:
            if "pytorch-lightning_version" in unpickling.load(file):
                return str(file)
        except (pickle.UnpicklingError, EOFError, RuntimeError, OSError, TypeError):
            pass
        raise ValueError(f"out: {file} is damaged or no checkpoint of a training; remove it to begin again")

    def _teacher(self) -> Teacher:
        dtype = torch.bfloat16 if self.options.precision == "bf16-mixed" else torch.float32
        target = sdvar.load_var(self.files["target"], dtype=dtype)
        tokenizer = sdvar.load_tokenizer(self.files["tokenizer"], target.pyramid).drop_encoder()
        return Teacher(target, tokenizer, sdvar.Sampling(**self.options.sampling.as_dict()))

    def _stored(self) -> StoredImages | None:
        if self.options.tokens is None:
            return None
        pair = self.teacher.pair
        wanted = Wanted(self.weights, self.settings["sampling"], pair.pyramid.patch_nums, pair.num_classes)
        return read_stored(self.options.tokens, wanted, self.options.seed)

    def _inside(self) -> sdvar.Sampling | None:
        """The guidance that the student is to give by itself, if it is."""
        sampling = self.teacher.sampling
        if self.options.guidance != INSIDE:
            return None
        if not sampling.guided_scales(len(self.teacher.pair.pyramid)):
            raise ValueError(f"guidance: expected outside with {words(sampling)}, which guides no scale, got inside")
        return guidance_of(sampling)

    def _schedule(self) -> Schedule:
        options = self.options
        return Schedule(
            options.steps,
            float(options.lr),  # of no class of jsonargparse's: they go into checkpoints
            float(options.weight_decay),
            min(options.warmup, options.steps),
            options.on_policy,
            options.steps * options.accumulate,
        )

    def _trainer(self) -> Trainer:
        options, processes = self.options, count(self.options.devices) * self.options.num_nodes
        callbacks: list[Callback] = [self.progress]
        if options.ema:
            callbacks.append(EMAWeightAveraging(decay=options.ema, use_buffers=False))
        if options.patience:
            callbacks.append(EarlyStopping("val_agreement", mode="max", patience=options.patience))
        callbacks.append(
            ModelCheckpoint(self.folder, "last", every_n_train_steps=options.save_every, enable_version_counter=False)
        )
        logger = TensorBoardLogger if options.logger == "tensorboard" else CSVLogger
        return Trainer(
            accelerator=self.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy="ddp" if processes > 1 else "auto",
            precision=options.precision,
            max_steps=options.steps,
            max_epochs=1,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=options.clip or None,
            val_check_interval=options.validate_every * options.accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=min(50, options.steps),
            logger=logger(self.folder, name="logs"),
            plugins=cluster_environment(),
            callbacks=callbacks,
            use_distributed_sampler=False,
            inference_mode=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=self.folder,
        )

    def run(self) -> None:
        """Train, or go on from the last checkpoint; the first process writes the files.

        Raises:
            ValueError: another training runs in the folder.
        """
        lock = RunLock(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(self.trainer.global_rank)
        try:
            self._train()
        finally:
            lock.release()

    def _train(self) -> None:
        if self.trainer.is_global_zero:
            write_atomically(self.folder / SETTINGS, (json.dumps(self.settings, indent=2) + "\n").encode())
        started = time.perf_counter()
        self.trainer.fit(self.module, self.training, self.validation, ckpt_path=self.checkpoint, weights_only=True)
        for callback in self.trainer.callbacks:
            if isinstance(callback, EMAWeightAveraging):  # Lightning does not, where no step was left to train
                callback.on_train_end(self.trainer, self.module)
        seconds = time.perf_counter() - started
        (scores,) = self.trainer.validate(self.module, self.validation, verbose=False)
        if self.trainer.is_global_zero:
            self._write(scores, seconds)

    def _write(self, scores: dict[str, float], seconds: float) -> None:
        student, teacher = self.module.student.eval(), self.teacher
        device = self.trainer.strategy.root_device
        student.to(device)
        teacher.to(device)
        figures: dict[str, Any] = {name: round(value, 6) for name, value in scores.items()}
        for batch, at in self.progress.expected.items():
            figures.setdefault("expected", {})[f"batch_{batch}"] = at._asdict()
        environment = describe_environment(device.type, torch.get_num_threads(), self.weights)
        card = {
            "teacher": self.weights["target"],
            "tokenizer": self.weights["tokenizer"],
            "sampling": self.settings["sampling"],
            "guidance": self.options.guidance,
            "rounded": self.options.rounded,
            "role": self.role.name,
            "from_scale": self.role.from_scale,
            "shape": {name: getattr(student, name) for name in ("depth", "width", "heads")},
            "steps": self.trainer.global_step,
            "scale_weights": [round(weight, 4) for weight in self.module.scale_weights.tolist()],
            "last_session_seconds": round(seconds, 1),
            "figures": figures,
            "settings": self.settings,
            "environment": environment,
        }
        write_draft(self.folder, student, card)
        print(f"{self.folder / WEIGHTS}: agreement {scores['val_agreement']:.4f}; give it as --draft", flush=True)
