"""Tuning and searching generators with rewards. Knows no family of generators: see `generator.Generator`."""
