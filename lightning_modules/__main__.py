"""`python -m lightning_modules fit|validate|test|predict --config FILE`: model, data and trainer come from the YAML."""

from lightning.pytorch.cli import LightningCLI

from lightning_modules.orphans import end_with_parent


def main() -> None:
    """Run the sub-command of the command line; `model` and `data` are given in the config by their `class_path`."""
    end_with_parent()
    # A resumed fit writes its config over that of the run it continues.
    LightningCLI(save_config_kwargs={"overwrite": True})


if __name__ == "__main__":
    main()
