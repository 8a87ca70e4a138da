"""The options of `python -m lightning_modules distil`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

from jsonargparse import Namespace
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt

from lightning_modules.distilling.role import DRAFT, ROLES
from lightning_modules.distilling.shared_options import add_machine, add_teacher, read
from lightning_modules.distilling.student import Shape
from lightning_modules.distilling.teaching.images import MOST_SEEDS
from lightning_modules.options.command_line import Above, ArgumentParser, Count, number
from lightning_modules.processes.devices import count
from sdvar.models.quantized import WEIGHT_KINDS
from sdvar.system.command_line import did_you_mean

OUTSIDE, INSIDE = "outside", "inside"
PROG = "python -m lightning_modules distil"
DESCRIPTION = """Train a draft for a target of your own, by the target alone: it samples the images, and its guided and
filtered distributions are what the draft learns. The same command continues a training that was interrupted."""
EXAMPLES = """examples:
  python -m lightning_modules distil --depth 2 --steps 500 --out runs/distilled      # for the bundled target
  python -m lightning_modules distil --target var_d30.pth --tokenizer vae_ch160v4096z32.pth --depth 12 \\
      --role tail --from_scale 6 --devices 8 --precision bf16-mixed --out drafts/d30_tail"""

WRITERS = ("tensorboard", "tensorboardX")  # Lightning takes either
UNIFORM, SAVINGS = "uniform", "savings"
Decay = number("number from 0, below 1", float, (">=", 0), ("<", 1))
Seed = number(f"int from 0 to {MOST_SEEDS - 1}", int, (">=", 0), ("<", MOST_SEEDS))
# what may differ between two calls of one training: the machine, and what changes no weight
PLACES = ("config", "tokens", "out")  # what tokens are decides, not where they lie
OF_ONE_CALL = (*PLACES, "accelerator", "devices", "num_nodes", "threads", "save_every", "plan_seconds", "logger")


def build_parser() -> ArgumentParser:
    """The command line; every option is also a key of the config file."""
    parser = ArgumentParser(prog=PROG, description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("--config", action="config", help="YAML file of options; the command line overrides it")
    add_teacher(parser)
    add(
        "--init",
        type=str,
        default="scratch",
        help="scratch, a checkpoint, or layers of the target or of one: layers=0,4,8, FILE:layers=0,2",
    )
    add("--depth", type=Count | None, help="blocks of the draft (those of --init)")
    add("--width", type=Count | None, help="its width (64 depth, or that of --init)")
    add("--heads", type=Count | None, help="its attention heads (width / 64, or those of --init)")
    add("--role", type=str, default=DRAFT, help=f"what it will decode: {', '.join(ROLES)} (docs/distilling.md)")
    add("--from_scale", type=int | None, help="coarse is trained on the scales before it, tail on those from it on")
    add(
        "--guidance",
        type=Literal["outside", "inside"],
        default=OUTSIDE,
        help="inside: the draft learns what guidance makes of the target, and needs no null branch",
    )
    add(
        "--rounded",
        type=str | None,
        help=f"its blocks run, and are trained, with weights rounded to {', '.join(WEIGHT_KINDS)} (as they are)",
    )
    add("--steps", type=Count, default=2000, help="of the optimiser")
    add("--batch_size", type=Count, default=64, help="images of a step, of all processes together")
    add("--accumulate", type=Count, default=1, help="parts in which each process computes its images of a step")
    add("--lr", type=Above, default=1e-3, help="highest learning rate of AdamW")
    add("--weight_decay", type=NonNegativeFloat, default=0.05, help="of the matrices")
    add("--warmup", type=NonNegativeInt, default=100, help="steps in which the learning rate rises, before its cosine")
    add("--clip", type=NonNegativeFloat, default=1.0, help="norm to which gradients are clipped, 0 is off")
    add("--ema", type=Decay, default=0.999, help="decay of the averaged weights, which are written; 0 is off")
    add(
        "--on_policy",
        type=ClosedUnitInterval,
        default=0.0,
        help="share of the steps, at the end, on prefixes of the draft's own",
    )
    add(
        "--loss_weights",
        type=Literal[UNIFORM, SAVINGS],
        default=UNIFORM,
        help="what a token counts: all alike, or by the seconds that its scale saves where it is accepted",
    )
    add(
        "--tokens",
        type=str | None,
        help="a folder of eval/tokens.py, or a finished run with a baseline, whose images are taken (none: new ones)",
    )
    add("--held_out", type=Count, default=256, help="images that validate, of seeds of their own")
    add("--validate_every", type=Count, default=250, help="steps between two validations")
    add("--patience", type=Count | None, help="stop after so many validations without more agreement (never)")
    add("--save_every", type=Count, default=100, help="steps between two checkpoints to continue from")
    add("--seed", type=Seed, default=0, help="of the images and of new weights")
    add("--precision", type=Literal["32-true", "bf16-mixed"], default="32-true", help="of training and target")
    add_machine(parser)
    add(
        "--plan_seconds",
        type=NonNegativeFloat,
        default=10.0,
        help="time to measure the passes that expected speeds follow from, of each of two batch sizes; 0: none",
    )
    add(
        "--logger",
        type=Literal["csv", "tensorboard"],
        default="csv",
        help="of the curves; tensorboard has to be installed for the second",
    )
    add("--out", type=str, default="runs/distilled", help="folder of the draft, its card, logs and checkpoint")
    return parser


def parse(arguments: Sequence[str]) -> Namespace:
    """Options from a command line, checked as far as they do not depend on the models.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    given = read(build_parser(), arguments)
    processes = count(given.devices) * given.num_nodes
    if given.logger == "tensorboard" and not any(map(find_spec, WRITERS)):
        raise ValueError("logger: tensorboard is not installed: pip install tensorboard, or give --logger csv")
    if given.role not in ROLES:
        raise ValueError(f"role: expected one of {', '.join(ROLES)}, got {given.role!r}")
    if (given.from_scale is None) != (given.role == DRAFT):
        expected = "none with role draft" if given.role == DRAFT else f"an int >= 1 with role {given.role}"
        raise ValueError(f"from_scale: expected {expected}, got {given.from_scale}")
    if given.rounded not in (None, *WEIGHT_KINDS):
        near = did_you_mean(given.rounded, WEIGHT_KINDS)
        raise ValueError(f"rounded: expected one of {', '.join(WEIGHT_KINDS)}, got {given.rounded!r}{near}")
    shape_of(given)
    parts = processes * given.accumulate
    if given.batch_size % parts:
        raise ValueError(
            f"batch_size: expected a multiple of devices x num_nodes x accumulate, {parts}; got {given.batch_size}"
        )
    if given.loss_weights == SAVINGS and not given.plan_seconds:
        raise ValueError("loss_weights: savings follow from measured passes; give --plan_seconds above 0, got 0")
    if given.held_out < processes:
        raise ValueError(f"held_out: expected at least one image per process, {processes}")
    return given


def shape_of(options: Namespace) -> Shape:
    """What is asked of the student; ValueError if that cannot be."""
    return Shape(options.init, options.depth, options.width, options.heads)


def lasting(options: Namespace) -> dict[str, Any]:
    """What the weights depend on, in plain values; a training is continued with the same alone."""
    values = {name: value for name, value in options.as_dict().items() if name not in OF_ONE_CALL}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return next((kind(value) for kind in (int, float) if isinstance(value, kind) and type(value) is not bool), value)
