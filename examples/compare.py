"""The first prototype's comparison: the target alone and speculative decoding side by side, same classes, same seeds.

Prints range, mean absolute difference, L2 distance and correlation, and draws baseline | speculative | difference. The
hand-off without verification (the prototype's test3) shows what a difference looks like.

    python examples/compare.py                                    # the bundled pair, in seconds
    python examples/compare.py --label_B 1 --gamma 5 --verbose    # another class; what each round drafted and accepted
    python examples/compare.py --draft var_d16.pth --target var_d30.pth --tokenizer vae_ch160v4096z32.pth \\
        --label_B 980 --top_k 900 --top_p 0.96 --device cuda
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdvar.system import steps
from sdvar.system.command_line import ArgumentParser, threads
from sdvar.system.interrupts import well_behaved

if TYPE_CHECKING:
    import torch

    import sdvar

PICTURES = (".png", ".pdf", ".svg", ".jpg")


@well_behaved("examples/compare.py", "no picture was drawn, give the command again")
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see its --help."""
    options = build_parser().parse_args(arguments)

    import sdvar
    from sdvar.selftest.__main__ import find_device

    files = {name: getattr(options, name) for name in ("draft", "target", "tokenizer")}
    if options.out.suffix not in PICTURES:
        raise ValueError(f"--out: expected a name that ends in {', '.join(PICTURES)}, got {options.out}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    device = find_device(options.device)
    pair = sdvar.load_pair(None if any(files.values()) else "tiny", **files, device=device)
    with sdvar.Engine(threads=options.threads).numerics():
        steps.log.info("decoding by each method, then drawing")
        images = decode_all(pair, options)
    draw(images, options.out)
    print_metrics(images)
    print(f"picture: {options.out}")


def build_parser() -> argparse.ArgumentParser:
    """The command line of the script."""
    parser = ArgumentParser("examples/compare.py", description=__doc__)
    add = parser.add_argument
    for name in ("draft", "target", "tokenizer"):
        add(f"--{name}", metavar="FILE", help=f"checkpoint of the {name}; default: the bundled pair's")
    add("--device", help="cpu, cuda, cuda:1, …; default: cuda if there is one, else cpu")
    add("--threads", type=threads, metavar="N", help="CPU threads; default: OMP_NUM_THREADS or all cores")
    add("--B", type=int, default=4, help="images; default %(default)s")
    add("--label_B", type=int, default=8, metavar="CLASS", help="their class; default %(default)s, a bag")
    add("--g_seed", type=int, default=42, help="seed; default %(default)s")
    add("--gamma", type=int, default=2, help="scales drafted per round; default %(default)s")
    add("--entry_num", type=int, help="scales from the draft in the hand-off; default: half of the pyramid")
    add("--cfg", type=float, default=1.5, help="guidance; default %(default)s")
    add("--top_k", type=int, default=0, help="keep the k best tokens; default %(default)s, all")
    add("--top_p", type=float, default=0.0, help="keep the likeliest tokens up to this mass; default %(default)s, all")
    add("--verbose", action="store_true", help="print what each round drafts and accepts")
    add("--out", type=Path, default=Path("runs/compare.png"), help="picture to draw or replace; default %(default)s")
    return parser


def decode_all(pair: sdvar.ModelPair, options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """The same classes and seeds by each method: name -> float32 (B, 3, H, W) in [0, 1], on the CPU.

    Raises:
        ValueError, TypeError: naming the argument that is wrong, before a model runs.
    """
    import sdvar

    sdvar_model = sdvar.SDVAR(pair.draft, pair.target, pair.tokenizer)
    scales = len(pair.pyramid)
    entry_num = scales // 2 if options.entry_num is None else options.entry_num
    sdvar.Speculative(options.gamma)  # checked here: the baseline would run first
    if not 0 <= entry_num <= scales:
        raise ValueError(f"entry_num: expected 0 to {scales}, the number of scales, got {entry_num}")
    given = {name: getattr(options, name) for name in ("B", "label_B", "g_seed", "cfg", "top_k", "top_p")}
    images = {
        "baseline": sdvar_model.target_model.autoregressive_infer_cfg(**given),
        "speculative": sdvar_model.sdvar_autoregressive_infer_cfg_parallel_v1(
            **given, gamma=options.gamma, verbose=options.verbose
        ),
        "hand-off": sdvar_model.sdvar_autoregressive_infer_cfg_sd_test3(**given, entry_num=entry_num, sd_mask=3),
    }
    return {name: batch.cpu() for name, batch in images.items()}


def metrics(images: torch.Tensor, baseline: torch.Tensor) -> dict[str, float]:
    """How far images (B, 3, H, W) in [0, 1] are from the baseline's."""
    import torch

    difference = images - baseline
    return {
        "lowest value": images.min().item(),
        "highest value": images.max().item(),
        "mean absolute difference": difference.abs().mean().item(),
        "L2 distance": difference.norm().item(),
        "correlation": torch.corrcoef(torch.stack((images.flatten(), baseline.flatten())))[0, 1].item(),
        "images that differ": int(difference.flatten(1).any(1).sum()),
    }


def print_metrics(images: dict[str, torch.Tensor]) -> None:
    """A row per metric, a column per method, on stdout."""
    columns = {name: metrics(batch, images["baseline"]) for name, batch in images.items()}
    print(f"{len(images['baseline'])} images, compared with the baseline's")
    print(f"{'':24}" + "".join(f"{name:>14}" for name in columns))
    for metric in columns["baseline"]:
        values = (column[metric] for column in columns.values())
        cells = (f"{value:14d}" if isinstance(value, int) else f"{value:14.5f}" for value in values)
        print(f"{metric:24}" + "".join(cells))


def draw(images: dict[str, torch.Tensor], file: Path) -> None:
    """Draws a row per image: the baseline, then each other method and its absolute difference from the baseline."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    baseline = images["baseline"]
    columns = {"baseline": baseline}
    for name, batch in images.items():
        if name != "baseline":
            columns |= {name: batch, f"difference of {name}": (batch - baseline).abs().mean(1, keepdim=True)}
    figure, axes = plt.subplots(
        len(baseline), len(columns), figsize=(1.9 * len(columns), 1.9 * len(baseline) + 0.3), squeeze=False
    )
    for column, (name, batch) in zip(axes.T, columns.items()):
        column[0].set_title(name.replace(" of ", "\nof "), fontsize=9)
        for axis, image in zip(column, batch):
            axis.imshow(image.permute(1, 2, 0), cmap="magma", vmin=0, vmax=1)
            axis.set_axis_off()
    figure.tight_layout(pad=0.4)
    figure.savefig(file, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
