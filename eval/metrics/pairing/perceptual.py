"""LPIPS, the learned perceptual distance (Zhang et al., 2018), to the baseline's image of the same seed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from eval.metrics.intervals import around, standard_error, stated
from eval.metrics.metric import Column, Metric, Result

if TYPE_CHECKING:
    from torch import Tensor, nn

    from eval.metrics.images.sets import ImagePairs

BATCH = 50  # pairs compared at once
LEAST = 32  # pixels per side; of smaller images AlexNet's last layers see nothing
FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}  # as torchvision names them
FIRST, ALEX_KERNEL = "features.0.weight", (64, 3, 11, 11)


def check_weights(weights: str | None) -> Path:
    """The weights file, which must be there.

    Raises:
        ValueError: there is none.
    """
    files = " or ".join(f"https://download.pytorch.org/models/{file}" for file in FILES.values())
    if not weights:
        raise ValueError(f"lpips_weights: the metric lpips needs a file, {files}; got none")
    file = Path(weights).expanduser()
    if not file.is_file():
        raise ValueError(f"lpips_weights: expected a file, {files}; there is no {weights}")
    return file


@functools.lru_cache(maxsize=1)
def load(weights: Path) -> tuple[str, nn.Module]:
    """The network's name, alex or vgg, and LPIPS on it, ready to run.

    The small linear layers on top come with torchmetrics, the network's weights from a file as torchvision has them.

    Raises:
        ValueError: the file holds something else.
    """
    import torch
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    from sdvar.checkpoints.reading.files import read

    tensors = read(weights)
    if FIRST not in tensors:
        raise _unfit(weights, f"it lacks {FIRST}")
    name = "alex" if tuple(tensors[FIRST].shape) == ALEX_KERNEL else "vgg"
    network = _NoTrainLpips(net=name, pnet_rand=True)  # not downloaded
    # slice2.3.weight is features.3.weight
    named = {key: f"features.{key.partition('.')[2]}" for key in network.net.state_dict()}
    if missing := next((theirs for theirs in named.values() if theirs not in tensors), None):
        raise _unfit(weights, f"it lacks {missing}")
    try:
        network.net.load_state_dict({key: tensors[theirs] for key, theirs in named.items()})
    except RuntimeError as error:
        raise _unfit(weights, " ".join(str(error).split())) from None
    return name, network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _unfit(weights: Path, reason: str) -> ValueError:
    files = " or ".join(FILES.values())
    return ValueError(f"lpips_weights: expected torchvision's AlexNet or VGG16, {files}, got {weights}: {reason}")


def compute(pairs: ImagePairs, weights: Path) -> Result:
    """Mean LPIPS over all pairs.

    Raises:
        ValueError: an image or the weights cannot be read.
    """
    import numpy as np
    import torch
    from torch.utils.data import DataLoader

    from sdvar.engine import tf32_allowed

    if min(pairs.shape[1:]) < LEAST:
        return {}, [f"no LPIPS: it needs images of {LEAST} pixels a side, got {min(pairs.shape[1:])}"]
    name, network = load(weights)
    device = next(network.parameters()).device
    found: list[Tensor] = []
    with torch.no_grad(), tf32_allowed(False):
        for batch in DataLoader(pairs, batch_size=BATCH):
            ours, theirs = (side.to(device).float().div(255) for side in batch)
            found.append(network(ours, theirs, normalize=True).flatten().cpu())
    distances = torch.cat(found).double().numpy()
    mean = float(np.mean(distances))
    interval = stated("lpips_mean", around(mean, standard_error(distances)), len(distances))
    return {"lpips_mean": mean, **interval, "lpips_network": name}, []


PERCEPTUAL = Metric(
    name="lpips",
    title="Perceptual distance to the baseline's image of the same seed",
    help="LPIPS to the baseline's image of the same seed, needs --lpips_weights",
    needs="perceptual",
    compute=compute,
    columns=(
        Column(
            "lpips_mean",
            "LPIPS, mean over all images",
            title="LPIPS",
            decimals=4,
            better="lower",
            minimum=0,
            interval=True,
        ),
        Column("lpips_network", "the network below it", "string", choices=tuple(FILES)),
    ),
    default=False,
)
