"""Families of diffusion models behind one protocol (`tune.generator`). mmreward never imports them."""
