"""Peer rewards: what other suites pay for boxes, defects included, for comparison and never for training.

`v_triune` and `vlm_r1` are registered under those names; `average_precision` is a measure that both compute.
The formats that peers pay for are presets of the reward `format` (`rules.form`).
"""
