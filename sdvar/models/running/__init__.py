"""How a model's passes run: workspaces and their memory, CUDA graphs, what is computed once per class."""
