"""The options of a command that say how the models run; they make a `sdvar.Engine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

if TYPE_CHECKING:
    from sdvar import Engine

# those of sdvar.engine, which --help should not import torch for
ATTENTION = ("auto", "math", "efficient", "flash", "products", "flex")
DTYPES = ("float64", "float32", "bfloat16", "float16")
NAMES = ("attention", "graphs", "compile", "tokenizer_dtype", "threads", "tf32")


def add_engine_options(parser: ArgumentParser, graphs: bool) -> None:
    """Adds them; ``graphs`` is what is taken where --graphs is not given."""
    add = parser.add_argument
    add("--attention", type=str, default="auto", help=f"kernel of all attention: {', '.join(ATTENTION)}")
    add("--graphs", type=bool, default=graphs, help="replay passes as CUDA graphs; a CPU has none")
    add("--compile", type=bool, default=False, help="run the transformer blocks by torch.compile")
    add("--tokenizer_dtype", type=str | None, help=f"of the tokenizer's decoder: {', '.join(DTYPES)} (as loaded)")


def check_engine_options(options: Namespace) -> None:
    """Raises ValueError, naming the option and what is allowed, before torch is imported."""
    for name, allowed in (("attention", ATTENTION), ("tokenizer_dtype", (None, *DTYPES))):
        if options[name] not in allowed:
            named = ", ".join(value for value in allowed if value)
            raise ValueError(f"{name}: expected one of {named}, got {options[name]!r}")


def engine_of(options: Namespace) -> Engine:
    """The engine that the options name."""
    from sdvar import Engine

    return Engine(**{name: options.get(name) or False if name == "tf32" else options[name] for name in NAMES})
