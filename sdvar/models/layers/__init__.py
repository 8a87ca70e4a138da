"""Layers: attention, products and convolutions whose bits do not depend on what shares a call with them."""
