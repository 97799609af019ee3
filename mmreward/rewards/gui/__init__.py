"""Rewards of GUI agents: clicks, actions and episodes under every published rule, training rewards by name,
and judges of steps and trajectories.

`targets` reads the truth, `rules` holds the published rules of a match; the grammar of responses is
`verifiers.actions`. What a judge is told of a history is in `history`, what a candidate for a step is in
`candidates`.
"""
