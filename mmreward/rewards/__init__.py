"""Rewards: every registered reward in a room of its kind; README.md lists them all with their arguments.

`rules` checks answers without a model, `learned` asks a trained network, `judged` a vision-language model.
`peers` computes what other suites pay, for comparison. `oracle` is the held-out judge of the miniature. A
reward is one file, or shares one with those that share its parser: docstring, parser, then the factory under
`@reward`, which is all that registration takes (`mmreward.registry`).
"""
