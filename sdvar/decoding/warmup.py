"""Decoding before anything is timed: kernels are loaded, and what is captured is captured."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sdvar.models.protocol import NextScaleModel

MOST_DECODES = 8


def warm_up(decode: Callable[[int], object], models: Iterable[NextScaleModel]) -> None:
    """Decode once; where passes are captured as CUDA graphs, until a decode captures none, at most 8 times.

    Which passes a decode takes depends on what is accepted. A pass that no warm-up took runs without a graph in timed
    code, see `sdvar.models.cuda_graphs.no_captures`.

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
