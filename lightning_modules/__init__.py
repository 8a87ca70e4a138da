"""Lightning modules around sdvar: data, prediction and the training of the bundled weights."""

import sdvar  # noqa: F401  it sets how OpenMP waits, before Lightning loads torch
