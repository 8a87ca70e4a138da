"""Before anything is timed: kernels are loaded, what is captured is captured, and class prefixes are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from sdvar.models.protocol import NextScaleModel
from sdvar.sampling import Sampling

MOST_DECODES = 8


def warm_up(decode: Callable[[int], object], models: Iterable[NextScaleModel]) -> None:
    """Decode once; where passes are captured as CUDA graphs, until a decode captures none, at most 8 times.

    Which passes a decode takes depends on what is accepted. A pass that no warm-up took runs without a graph in timed
    code, see `sdvar.models.running.cuda_graphs.no_captures`.

    Args:
        decode: decodes a batch; its argument is the number of decodes before it, so that their seeds can differ.
        models: that it runs.
    """
    models = list(models)
    for number in range(MOST_DECODES):
        before = [model.capture_seconds for model in models]
        decode(number)
        if before == [model.capture_seconds for model in models]:
            return


def learn_classes(labels: Tensor | Iterable[int], models: Iterable[NextScaleModel], sampling: Sampling) -> None:
    """Compute what models make of classes alone, so that no decode of these has to.

    Args:
        labels: of the classes.
        models: that are going to decode them.
        sampling: of the decodes; with guidance the null class is needed too.
    """
    classes = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    for model in models:
        null = [model.num_classes] if model.guided_scales(sampling) else []
        model.prefixes.ready([*null, *classes])
