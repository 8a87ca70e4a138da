"""Each training module lowers its loss on a tiny problem, resumes where it stopped, drops labels only in training."""

from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader

from lightning_modules.data.fashion_mnist import BatchedTensors, as_is
from lightning_modules.data.fashion_mnist_tokens import FashionMNISTTokens
from lightning_modules.lightning_command import PATHS
from lightning_modules.training import DraftDistillation, FeatureNetTraining, TokenizerTraining, VARTraining
from lightning_modules.training.export_weights import weights
from lightning_modules.training.feature_net import flip_and_shift
from lightning_modules.training.optimizers import muon_and_adamw, trapezoid
from sdvar.checkpoints import load_tokenizer, load_var
from sdvar.checkpoints.reading.unpickling import harmless

PATCH_NUMS = (1, 2)
CODES, CHANNELS, BATCH = 16, 8, 8
TOKENS = sum(side * side for side in PATCH_NUMS)
VAR_SHAPE = {
    "patch_nums": PATCH_NUMS,
    "num_classes": 10,
    "codebook_size": CODES,
    "latent_channels": CHANNELS,
    "shared_adaln": True,
    "depth": 1,
    "width": 32,
    "heads": 1,
    "warmup": 1,
    "compile_model": False,
}
TOKENIZER_SHAPE = {
    "patch_nums": (1, 2, 3, 4, 6, 8),
    "codebook_size": CODES,
    "latent_channels": 16,
    "base_channels": 32,
    "channel_multipliers": (1, 2, 2),
    "res_blocks": 1,
    "compile_model": False,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    seed_everything(0)


def images() -> DataLoader:
    """Squares whose side depends on the label."""
    labels = torch.arange(10).repeat(4)
    pixels = torch.zeros(len(labels), 1, 32, 32, dtype=torch.uint8)
    for pixel, label in zip(pixels, labels.tolist(), strict=True):
        pixel[:, 4 : 8 + 2 * label, 4 : 8 + 2 * label] = 200
    return DataLoader(BatchedTensors(pixels, labels), BATCH, collate_fn=as_is)


def tokens() -> DataLoader:
    """Token maps that the label determines."""
    labels = torch.arange(10).repeat(4)
    maps = (labels[:, None] + torch.arange(TOKENS)) % CODES
    return DataLoader(
        BatchedTensors(labels, maps.short(), torch.randn(len(labels), TOKENS - 1, CHANNELS)), BATCH, collate_fn=as_is
    )


class Losses(LightningModule):
    """Mixed into a module under test: keeps every step's loss."""

    def on_train_batch_end(self, outputs: dict, batch: tuple, batch_idx: int) -> None:
        self.__dict__.setdefault("losses", []).append(float(outputs["loss"]))


def fit(module: LightningModule, loader: DataLoader, folder: Path, steps: int, **options: object) -> Trainer:
    """`steps` steps on the CPU without any output."""
    checkpoint, safe = options.pop("checkpoint", None), options.pop("safe", None)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=safe)
    return trainer


def recording(kind: type[LightningModule], **arguments: object) -> LightningModule:
    """A module of `kind` that also keeps its losses."""
    return type(f"Recording{kind.__name__}", (Losses, kind), {})(**arguments)


def assert_falls(losses: list[float], to: float) -> None:
    first, last = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    assert last < to * first, f"the loss went from {first:.3f} to {last:.3f}"


def test_feature_net_learns(tmp_path: Path) -> None:
    module = recording(FeatureNetTraining, shift=0)
    fit(module, images(), tmp_path, 25)
    assert_falls(module.losses, 0.5)


def test_tokenizer_learns_through_its_codes(tmp_path: Path) -> None:
    module = recording(
        TokenizerTraining,
        **TOKENIZER_SHAPE | {"patch_nums": (1, 2, 8), "latent_channels": CHANNELS, "channel_multipliers": (1, 1, 1)},
        codebook_start=5,
        reseed_every=5,
        lr=3e-3,
    )
    fit(module, images(), tmp_path, 20)
    assert_falls(module.losses, 0.7)
    assert module.tokenizer.quantize.embedding.weight.abs().max() < 100, "a code was never filled"


def test_resizing_matrices_are_the_quantisers_own_resizing() -> None:
    module = TokenizerTraining(**TOKENIZER_SHAPE)
    quantizer = module.tokenizer.quantize
    for scale, count in enumerate(quantizer.pyramid.tokens):
        maps = torch.randint(module.tokenizer.codebook_size, (2, count))
        torch.testing.assert_close(module.contribution(maps, scale), quantizer.contribution(maps, scale))


def test_straight_through_hands_the_gradient_to_the_features() -> None:
    module = TokenizerTraining(**TOKENIZER_SHAPE)
    features = torch.randn(2, 16, 8, 8, requires_grad=True)
    module.fill_codebook(features.detach())
    quantised, _ = module.quantise(features)
    encoded = module.tokenizer.quantize.encode(features.detach())
    torch.testing.assert_close(quantised, module.tokenizer.quantize.f_hats(encoded)[-1])
    gradient = torch.randn_like(quantised)
    quantised.backward(gradient)
    torch.testing.assert_close(features.grad, gradient)


def test_var_learns(tmp_path: Path) -> None:
    module = recording(VARTraining, lr=1e-2, **VAR_SHAPE)
    fit(module, tokens(), tmp_path, 60)
    assert_falls(module.losses, 0.5)


def test_labels_are_dropped_in_training_only() -> None:
    module = VARTraining(drop_label=1.0, **VAR_SHAPE)
    nn.init.normal_(module.var.head.weight)
    inputs = torch.randn(1, TOKENS - 1, CHANNELS)

    def logits(label: int) -> torch.Tensor:
        return module.var(torch.tensor([label]), inputs)

    module.train()
    torch.testing.assert_close(logits(3), logits(10))
    module.eval()
    assert (logits(3) - logits(10)).abs().max() > 1e-3


@pytest.fixture
def var_file(tmp_path: Path) -> Path:
    """Weights of a small VAR whose logits are not flat."""
    module = VARTraining(**VAR_SHAPE)
    nn.init.normal_(module.var.head.weight)
    save_file(
        {k: v for k, v in module.var.state_dict().items() if k != "attn_bias_for_masking"}, tmp_path / "var.safetensors"
    )
    return tmp_path / "var.safetensors"


def test_distilling_a_model_from_itself_costs_nothing(var_file: Path) -> None:
    module = DraftDistillation(target=var_file, start=var_file, compile_model=False).train()
    module.log = lambda *_, **__: None
    assert float(module.training_step(next(iter(tokens())))) == pytest.approx(0, abs=1e-5)


def test_distillation_approaches_the_target(var_file: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_file(VARTraining(**VAR_SHAPE).var.state_dict(), start)
    module = recording(DraftDistillation, target=var_file, start=start, lr=1e-2, warmup=1, compile_model=False)
    before = load_file(var_file)
    fit(module, tokens(), tmp_path, 60)
    assert_falls(module.losses, 0.5)
    assert not any(name.startswith("teacher") for name in module.state_dict())
    torch.testing.assert_close(module.teacher[0].state_dict()["head.weight"], before["head.weight"])


def test_a_checkpoint_of_distillation_loads_and_resumes(var_file: Path, tmp_path: Path) -> None:
    """Its options are paths, which are objects in the file."""
    made = {"target": var_file, "start": var_file, "warmup": 1, "compile_model": False}
    fit(DraftDistillation(**made), tokens(), tmp_path, 1).save_checkpoint(tmp_path / "last.ckpt")
    assert load_var(tmp_path / "last.ckpt").depth == 1
    with harmless(PATHS):  # as the command does
        trainer = fit(DraftDistillation(**made), tokens(), tmp_path, 2, checkpoint=tmp_path / "last.ckpt", safe=True)
    assert trainer.global_step == 2


def test_resuming_continues_steps_rate_and_optimisers(tmp_path: Path) -> None:
    averaging = {"callbacks": [EMAWeightAveraging(decay=0.9, use_buffers=False)]}
    whole = fit(VARTraining(**VAR_SHAPE), tokens(), tmp_path, 6)
    first = fit(VARTraining(**VAR_SHAPE), tokens(), tmp_path, 3, **averaging)
    first.save_checkpoint(tmp_path / "three.ckpt")
    resumed = fit(VARTraining(**VAR_SHAPE), tokens(), tmp_path, 6, checkpoint=tmp_path / "three.ckpt", **averaging)
    assert resumed.global_step == whole.global_step == 6
    rates = [[group["lr"] for group in trainer.optimizers[0].param_groups] for trainer in (whole, resumed)]
    assert rates[0] == rates[1]
    muon, adamw = resumed.optimizers[0].optimizers
    assert all(state["step"] == 6 for state in adamw.state.values())
    assert muon.state, "Muon's momentum was lost"


def test_learning_rate_is_level_until_the_decay() -> None:
    rates = [trapezoid(step, warmup=10, total=100, decay_share=0.5) for step in range(101)]
    assert rates[0] == 0.1 and rates[10:50] == [1.0] * 40 and rates[75] == 0.5 and rates[100] == 0.0


def test_every_parameter_has_exactly_one_optimiser() -> None:
    module = VARTraining(**VAR_SHAPE)
    optimizer = muon_and_adamw(module.var, 1e-3, 0.0)
    listed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in module.var.parameters())


def test_shift_moves_by_at_most_its_pixels() -> None:
    picture = torch.zeros(64, 1, 9, 9)
    picture[:, :, 4, 4] = 1
    moved = flip_and_shift(picture, 2)
    rows, columns = moved.flatten(1).argmax(1).div(9, rounding_mode="floor"), moved.flatten(1).argmax(1) % 9
    assert moved.sum() == 64
    assert rows.min() == columns.min() == 2 and rows.max() == columns.max() == 6


def test_exported_weights_load_through_the_public_loaders(tmp_path: Path) -> None:
    for module, loader, load in (
        (VARTraining(**VAR_SHAPE), tokens(), load_var),
        (TokenizerTraining(**TOKENIZER_SHAPE), images(), lambda path: load_tokenizer(path, (1, 2, 3, 4, 6, 8))),
    ):
        fit(module, loader, tmp_path, 1).save_checkpoint(tmp_path / "one.ckpt")
        weights(tmp_path / "one.ckpt", tmp_path / "one.safetensors", "float16")
        network = next(module.children())
        for loaded, trained in zip(load(tmp_path / "one.ckpt").parameters(), network.parameters(), strict=True):
            assert torch.equal(loaded, trained)  # without the export
        for loaded, trained in zip(load(tmp_path / "one.safetensors").parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(loaded, trained, atol=1e-3, rtol=1e-3, check_stride=False)


def test_token_data_names_the_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer: no such file.*train_tokenizer\.yaml"):
        FashionMNISTTokens(tokenizer=tmp_path / "none.safetensors")
