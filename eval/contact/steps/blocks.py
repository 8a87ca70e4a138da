"""Step: the Triton kernels between products, of blocks and of f-hat, against torch's operations."""

from __future__ import annotations

from types import ModuleType

import torch

from eval.contact.step import SKIPPED, Outcome, Place, judged

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
SIZES = ((1024, 16), (1920, 30), (2304, 36))  # width and heads of d16, d30 and d36
ROWS, TOKENS = 5, 77


def run(place: Place) -> Outcome:
    """Passed where they give torch's numbers but for rounding, and a token's alone; skipped where they do not run."""
    try:
        from sdvar.kernels import blocks, f_hat, trial

        problems = trial.f_hat_problems(f_hat, place.device)
        for dtype in DTYPES:
            for width, heads in SIZES:
                name = f"{str(dtype).removeprefix('torch.')}, width {width}"
                found = trial.problems(blocks, place.device, dtype, width, heads, ROWS, TOKENS)
                problems += [f"{name}: {problem}" for problem in found]
            if not _same_alone(blocks, place.device, dtype):
                problems.append(f"{dtype}: a token's numbers change with the tokens beside it")
    except Exception as error:  # no Triton, no C compiler, an old driver, each with an error of its own
        reason = " ".join(str(error).split())[:300]
        return Outcome(f"they do not run here, torch's operations do the same, slower: {reason}", SKIPPED)
    return judged(
        problems, f"norms, sums, heads and cache of {len(SIZES)} sizes in {len(DTYPES)} dtypes are torch's, and f-hat"
    )


def _same_alone(kernels: ModuleType, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the sum and its norm have the same bits for the last token by itself."""
    width, generator = SIZES[0][0], torch.Generator().manual_seed(1)
    x, branch = (torch.randn(ROWS, TOKENS, width, generator=generator).to(device) for _ in range(2))
    gain, scale, shift = torch.randn(ROWS, 3, 1, width, generator=generator).to(device, dtype).unbind(1)
    alone, branch = x[-1:, -1:].clone(), branch.to(dtype).flatten(0, 1)
    together = kernels.added(x, branch, gain, scale, shift, dtype)[ROWS * TOKENS - 1]
    by_itself = kernels.added(alone, branch[-1:], gain[-1:], scale[-1:], shift[-1:], dtype)[0]
    return torch.equal(together, by_itself) and torch.equal(alone[0, 0], x[-1, -1])
