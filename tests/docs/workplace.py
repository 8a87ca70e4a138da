"""A folder like a user's: the repository, and files by the names that the documents give them, small and random."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

import sdvar
from tests.docs import documents
from tests.eval.stand_in import write_stand_in
from tests.paths import ROOT

PATCH_NUMS = (1, 2, 3, 4)
CLASSES = 1000  # the documents name ImageNet's
LINKED = ("configs", "eval", "examples", "lightning_modules", "sdvar")
DRAFT, TARGET, TOKENIZER = "var_d16.pth", "var_d30.pth", "vae_ch160v4096z32.pth"


def make_workplace(folder: Path) -> Path:
    """Makes the folder, and beside it `VAR`, a stand-in for the original code; returns the folder."""
    folder.mkdir()
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "docs", folder / "docs")  # benchmarks write into it
    write_stand_in(folder.parent / "VAR")
    torch.manual_seed(0)
    sizes = {"codebook_size": 32, "latent_channels": 8}
    draft = sdvar.VAR(PATCH_NUMS, CLASSES, depth=1, width=32, heads=2, **sizes).state_dict()
    target = sdvar.VAR(PATCH_NUMS, CLASSES, depth=2, width=32, heads=2, **sizes).state_dict()
    tokenizer = sdvar.VQVAE(
        PATCH_NUMS, base_channels=32, channel_multipliers=(1, 1, 1, 1), res_blocks=1, **sizes
    ).state_dict()
    for name, state in ((DRAFT, draft), (TARGET, target), (TOKENIZER, tokenizer), ("vae.safetensors", tokenizer)):
        torch.save(state, folder / name) if name.endswith(".pth") else _save(state, folder / name)
    compiled = {f"_orig_mod.{key}": value for key, value in target.items()}
    trainer = {"var_wo_ddp": compiled, "vae_local": tokenizer}
    torch.save({"epoch": 1, "trainer": trainer, "ema": compiled}, folder / "last.pth")
    _write_images(folder / "imagenet_val")
    rule = documents.blocks(ROOT / "docs" / "acceptance-rules.md")[0].text
    (folder / "my_rules.py").write_text(rule.partition("\npair = ")[0])
    shutil.copy(ROOT / "configs" / "fid_tiny.yaml", folder / "plan.yaml")  # in place of what eval/plan.py writes
    return folder


def _save(state: dict[str, torch.Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in state.items()}, file)


def _write_images(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for index in range(4):
        pixels = torch.randint(256, (32, 32, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")
