"""Lightning modules around sdvar: data, prediction and the training of the bundled weights."""
