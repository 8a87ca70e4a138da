"""The models: the tokenizer (VQVAE) and the transformer (VAR)."""
