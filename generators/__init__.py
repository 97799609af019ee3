"""Generators: families of diffusion models behind one protocol, `mmreward.generator`.

Start at `loading`, whose table says which pipeline of diffusers belongs to which family. One file per family;
`latents`, `conditioning`, `clips` and `diffusion` are what families share, and README.md says how one is
added. Nothing in mmreward imports this package but the commands, when they need a model.
"""
