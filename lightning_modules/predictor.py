"""Decodes batches with every arm of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

import sdvar
from lightning_modules import pair_source
from lightning_modules.arms.arm import Arm
from lightning_modules.arms.tuning import tune, unresolved
from lightning_modules.columns import PER_IMAGE, PER_ROUND, PER_SCALE
from lightning_modules.data.image_list import RESEED_OFFSET
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.decode_statistics import DecodeStatistics
from lightning_modules.decoded_batch import DecodedBatch
from lightning_modules.options.sampling import say_if_all_are_kept
from lightning_modules.pair_source import BundledPair, PairFiles, PairSource
from lightning_modules.run.names import BASELINE
from sdvar.decoding import check_fit
from sdvar.decoding.guidance_inside import inside_of, mismatch
from sdvar.decoding.timing import Clock, now, seconds_per_scale
from sdvar.decoding.warmup import learn_classes, warm_up
from sdvar.engine import tf32_allowed
from sdvar.guidance import plain
from sdvar.models.protocol import NextScaleModel
from sdvar.models.running.cuda_graphs import no_captures
from sdvar.pictures import rounded

log = logging.getLogger("sdvar.predictor")

TIMED_AGAIN = 5  # a finished baseline is timed again in so many batches of a run, then in every tenth


@contextmanager
def _named(arm: Arm) -> Iterator[None]:
    """Puts the arm's name before an error of its block."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"strategy {arm.name!r}: {error}") from None


def _check_names(arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"arms: expected one or more with different names, got {', '.join(names) or 'none'}")


class SDVARPredictor(LightningModule):
    """Lightning module whose predict step decodes a batch with every arm.

    The arms take turns in an order that rotates from batch to batch, so that a machine that warms up or slows down
    treats them alike. The first decode of each arm in a process is repeated and not counted.

    Args:
        pair: name of a bundled pair, checkpoint files, or models in memory.
        arms: how to decode, or what makes the arms for a number of scales. The arm named ``baseline``, if there is one,
            is what the others are compared with.
        sampling: guidance and filters, the same for all arms.
        precision: number format of the models: 64-true, 32-true, bf16-true or 16-true.
        engine: kernels, graphs, the tokenizer's dtype, threads, TF32; rounding depends on it.

    Raises:
        ValueError: naming the argument.
    """

    def __init__(
        self,
        pair: PairSource | sdvar.ModelPair,
        arms: Sequence[Arm] | Callable[[int], Sequence[Arm]],
        sampling: sdvar.Sampling | None = None,
        precision: str = "32-true",
        engine: sdvar.Engine | None = None,
    ) -> None:
        super().__init__()
        if precision not in pair_source.DTYPES:
            raise ValueError(f"precision: expected one of {', '.join(pair_source.DTYPES)}, got {precision!r}")
        if not callable(arms):
            _check_names(arms)
        self.sampling = sampling or sdvar.Sampling()
        self.precision = precision
        self.engine = engine or sdvar.Engine()
        self.source = None if isinstance(pair, sdvar.ModelPair) else pair
        self.pair = pair_source.load(pair, precision) if self.source else pair
        if self.source:
            self.pair.tokenizer.drop_encoder()
        self.pairs = {None: self.pair}  # by an arm's own draft
        if isinstance(pair, PairFiles | BundledPair):
            self.pairs[pair.draft] = self.pair
        scales = len(self.pair.pyramid)
        self.arms = list(arms(scales) if callable(arms) else arms)
        _check_names(self.arms)
        self.sampling.check_scales(scales)
        self._say_what_is_off()
        for arm in self.arms:
            with _named(arm):
                check_fit(arm.decoding, arm.sampling or self.sampling, scales)
        for arm in self.arms:
            if arm.draft not in self.pairs:
                with _named(arm):
                    self.pairs[arm.draft] = pair_source.with_draft(self.pair, arm.draft, precision)
        self._say_what_differs()
        self.statistics = nn.ModuleList(DecodeStatistics(scales) for _ in self.arms)
        self._ready: set[str] = set()  # arms that have nothing left to do before they are timed
        self._warm: set[str] = set()  # what has decoded: arms that differ in their seeds alone run the same passes

    def _say_what_is_off(self) -> None:
        """Logs what is likely meant for other models."""
        given = {"": self.sampling} | {f"strategy {arm.name!r}: ": arm.sampling for arm in self.arms if arm.sampling}
        for where, sampling in given.items():
            say_if_all_are_kept(sampling, self.pair.target, where)

    def _say_what_differs(self) -> None:
        """Logs the arms whose draft has another guidance inside than they decode for."""
        for arm in self.arms:
            text = self._guidance_mismatch(arm)
            if text and rank_zero_only.rank == 0:
                log.warning("strategy %r: %s", arm.name, text)

    def _guidance_mismatch(self, arm: Arm) -> str | None:
        return mismatch(arm.decoding, arm.sampling or self.sampling, self.pairs[arm.draft])

    def _described(self, arm: Arm) -> dict:
        """An arm with what its draft adds."""
        inside, text = inside_of(arm.decoding, self.pairs[arm.draft]), self._guidance_mismatch(arm)
        added = {"guidance_inside": plain(inside)} if inside else {}
        return arm.describe() | added | ({"warnings": [text]} if text else {})

    def settings(self) -> dict:
        """What the images depend on, in plain values."""
        settings = {
            "arms": {arm.name: self._described(arm) for arm in self.arms},
            "sampling": asdict(self.sampling),
            "precision": self.precision,
            "engine": {key: value for key, value in asdict(self.engine).items() if key != "prefix_bytes"},
            "patch_nums": list(self.pair.pyramid.patch_nums),
            "num_classes": self.pair.num_classes,
        }
        if self.source:
            pair = self.source if isinstance(self.source, str) else asdict(self.source)
            settings = {"pair": pair, "weights": pair_source.digests(self.source)} | settings
        return settings

    def setup(self, stage: str) -> None:
        if self.trainer.precision != "32-true":  # the models have their number format; autocast would change it unseen
            raise ValueError(f"trainer.precision: expected none, got {self.trainer.precision}; give model.precision")
        if self.trainer.world_size > 1 and (first := self.trainer.strategy.broadcast(self.precision)) != self.precision:
            raise ValueError(  # "auto", on machines of different kinds
                f"precision: {first} in the first process and {self.precision} in process {self.trainer.global_rank}; "
                "give one of them by name"
            )
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ClassLabelDataModule):
            data.check_classes(self.pair.num_classes)
        self._place(self.trainer.strategy.root_device)
        if isinstance(data, ClassLabelDataModule) and any(map(unresolved, self.arms)):  # where no writer has asked
            if self.trainer.is_global_zero:
                self.tune(self.trainer.strategy.root_device, data, self.trainer.world_size)
            self.arms = self.trainer.strategy.broadcast(self.arms)

    def _place(self, device: torch.device) -> None:
        for pair in self.pairs.values():
            for model in (pair.draft, pair.target, pair.tokenizer):
                model.to(device)
            self.engine.apply(pair)

    def tune(self, device: torch.device, data: ClassLabelDataModule, processes: int) -> None:
        """Choose how the arms decode whose gamma is "auto", for all of the run.

        Args:
            device: where the models are to run.
            data: the images.
            processes: that share them.
        """
        if any(map(unresolved, self.arms)):
            self._place(device)
            with self.engine.numerics():
                batches = data.batches / processes
                tuned = tune(self.arms, self.pairs, self.sampling, data.batch_size, batches)
            if device.type == "cpu":  # a GPU has passes to capture, as many as a decode takes
                self._warm |= {_passes(arm) for arm, asked in zip(tuned, self.arms) if unresolved(asked)}
            self.arms = tuned

    def on_predict_start(self) -> None:
        if self.engine.threads is not None:
            torch.set_num_threads(self.engine.threads)

    def predict_step(self, batch: dict, batch_idx: int) -> dict[str, DecodedBatch]:
        """Decodes a batch with every arm.

        Args:
            batch: an item of `LabelBatches`. If it was planned, only the arms in its `missing` decode it, and
                `baseline_tokens`, int64 (B, L), are those of the baseline's images if the baseline is not among them.

        Returns:
            What each of these arms made of it, by name; nothing if no image of the batch is wanted.
        """
        # torch's own default would let f-hat depend on how a batch size is convolved
        with tf32_allowed(self.engine.tf32):
            return self._decode_all(batch)

    def _decode_all(self, batch: dict) -> dict[str, DecodedBatch]:
        wanted = batch["mask"].cpu()
        order = self._order(batch) if wanted.any() else []
        for arm in order:
            self._make_ready(arm, batch)
        with no_captures():
            decoded = {arm.name: self._decode(arm, batch) for arm in order}
        baseline = decoded.get(BASELINE)
        for ours in decoded.values():
            ours.baseline_seconds = baseline.seconds if baseline else None
        tokens = self._baseline_tokens(batch, baseline)
        if BASELINE not in self._missing(batch):
            decoded.pop(BASELINE, None)  # only its time was wanted
        for arm, statistics in zip(self.arms, self.statistics):
            ours = decoded.get(arm.name)
            statistics.update(  # also by a process that decodes nothing: computing is for those that have updated
                {name: ours.per_image[name][wanted] if ours else torch.zeros(0) for name in PER_IMAGE},
                {name: ours.per_scale[name] if ours else torch.tensor(0) for name in PER_SCALE},
            )
            if ours and tokens and not arm.reseed:
                self._compare(arm, batch, ours, tokens)
        return decoded

    def on_predict_epoch_end(self) -> None:
        for arm, statistics in zip(self.arms, self.statistics):
            means = statistics.compute()  # sums over all processes: every one of them has to come here
            if int(statistics.images):
                target, draft = means["target_calls_mean"], means["draft_calls_mean"]
                if rank_zero_only.rank == 0:
                    log.info("%s: %.2f calls of the target and %.2f of the draft per image", arm.name, target, draft)

    def _make_ready(self, arm: Arm, batch: dict) -> None:
        """Once per arm: class prefixes of the run's classes and a decode, so that no timed decode includes either."""
        if arm.name in self._ready:
            return
        self._ready.add(arm.name)
        data = getattr(self._trainer, "datamodule", None)  # none where a step is run by itself
        if isinstance(data, ClassLabelDataModule):
            learn_classes(data.classes.labels, self._models(arm), arm.sampling or self.sampling)
        if _passes(arm) not in self._warm:
            self._warm.add(_passes(arm))
            warm_up(lambda number: self._decode(arm, batch, number), self._models(arm))

    def _models(self, arm: Arm) -> list[NextScaleModel]:
        return arm.decoding.models_of(self.pairs[arm.draft])

    def prefix_seconds(self) -> dict[str, float]:
        """Seconds that this process has spent on the class prefixes of each arm's models."""
        return {arm.name: sum(model.prefixes.seconds for model in self._models(arm)) for arm in self.arms}

    def _missing(self, batch: dict) -> Collection[str]:
        """Names of the arms that have yet to decode a batch: all of them where nothing was planned."""
        return batch.get("missing", [arm.name for arm in self.arms])

    def _order(self, batch: dict) -> list[Arm]:
        """The arms that decode a batch now, in turns: those that have yet to, and the baseline for its time."""
        names, number = set(self._missing(batch)), batch["batch"]
        if names and (number < TIMED_AGAIN or number % 10 == 0):
            names.add(BASELINE)
        turn = number % len(self.arms)
        return [arm for arm in self.arms[turn:] + self.arms[:turn] if arm.name in names]

    def _baseline_tokens(self, batch: dict, now: DecodedBatch | None) -> list[Tensor] | None:
        """The tokens that the arms are compared with, those of the baseline's images; None without a baseline."""
        kept = batch.get("baseline_tokens")
        if kept is None:
            return now.tokens if now else None
        if now and not torch.equal(torch.cat(now.tokens, dim=1), kept):
            log.warning(
                "batch %d: the baseline has other tokens now than when its images were made; added arms are compared "
                "with the earlier ones, so that their difference includes what changed since (hardware, versions)",
                batch["batch"],
            )
        return self.pair.pyramid.split(kept)

    def _decode(self, arm: Arm, batch: dict, warmup: int = 0) -> DecodedBatch:
        """Decode a batch, in the warm-up with other seeds in each of its decodes."""
        seeds = batch["seed"] + warmup + (RESEED_OFFSET if arm.reseed else 0)
        clock = Clock(self.device)  # it takes some microseconds a pass; no pass is made to wait
        started = now(self.device)
        sampling, pair = arm.sampling or self.sampling, self.pairs[arm.draft]
        result = sdvar.decode(pair, batch["label"], seeds, arm.decoding, sampling, clock=clock)
        seconds = now(self.device) - started
        finite = result.images.isfinite().flatten(1).all(1).cpu()
        if not finite.all():
            bad = batch["index"][~finite][0].item()
            raise ValueError(
                f"{arm.name}: image {bad} holds NaN or infinite pixels; check the tokenizer's weights, and its dtype: "
                "float16 overflows where --tokenizer_dtype float32 does not"
            )
        images = rounded(result.images)
        columns = ({name: getattr(result.stats, name) for name in each} for each in (PER_IMAGE, PER_SCALE, PER_ROUND))
        parts = seconds_per_scale(clock.stretches(), self.pair.pyramid.tokens)
        return DecodedBatch(images.cpu(), seeds, result.tokens, *columns, seconds, parts)

    def _compare(self, arm: Arm, batch: dict, ours: DecodedBatch, baseline: list[Tensor]) -> None:
        ours.agreeing_tokens = sum((a == b).sum(1) for a, b in zip(ours.tokens, baseline)).cpu()
        if arm.exact and arm.name != BASELINE:
            inputs = batch["label"], batch["seed"], self.sampling
            ours.score_gap = sdvar.first_differences(self.pair, *inputs, ours.tokens, baseline)


def _passes(arm: Arm) -> str:
    """The same for arms that run the same passes."""
    return repr((arm.decoding, arm.draft, arm.sampling))
