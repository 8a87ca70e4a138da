"""The section of the classes that each arm gets wrong most often, by the feature network's classifier."""

from __future__ import annotations

from eval.report.run import Run
from eval.report.words import first_network, further_networks, share
from lightning_modules.run.names import BASELINE

WORST = 5  # classes shown of each arm
KEY = "class_accuracy_per_class"


def section(run: Run) -> dict | None:
    """Values of the section's template; None where no image is missed, or no network tells the run's classes apart."""
    network, accuracies = _accuracies(run)
    if not accuracies:
        return None
    names, base = run.metrics.get("class_names"), accuracies.get(BASELINE)
    rows = []
    for arm, of_class in accuracies.items():
        missed = [label for label, accuracy in enumerate(of_class) if accuracy is not None and accuracy < 1]
        for label in sorted(missed, key=lambda label: of_class[label])[:WORST]:
            compared = share(base[label]) if base and arm != BASELINE else ""
            rows.append([arm, names[label] if names else f"class {label}", share(of_class[label]), compared])
    if not rows:
        return None
    return {"network": network, "worst": WORST, "rows": rows, "compared": base is not None and len(accuracies) > 1}


def _accuracies(run: Run) -> tuple[str, dict[str, list[float | None]]]:
    """The first network that recognises classes, and what it found, by arm."""
    first = first_network(run.arms) or ""
    for network in (first, *further_networks(run.arms)):
        found = {
            name: values[KEY]
            for name, arm in run.arms.items()
            if KEY in (values := arm if network == first else arm.get("networks", {}).get(network, {}))
        }
        if found:
            return network, found
    return "", {}
