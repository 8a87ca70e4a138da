"""For tests that make runs: their reports go without plots, which take longer than all else of a small run."""

import pytest


@pytest.fixture(autouse=True)
def unplotted(monkeypatch) -> None:
    """Plots are not drawn; tests/eval/report draws them."""
    from eval.report import scales, tradeoff

    for module in (scales, tradeoff):
        monkeypatch.setattr(module, "to_svg", lambda figure, name: f'<svg data-name="{name}"></svg>')
    monkeypatch.setattr(tradeoff, "lay_out", lambda figure: None)
