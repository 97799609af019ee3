"""Rewards of GUI agents: clicks, actions and episodes under every published rule, training rewards by name,
and judges of steps and trajectories.

`targets` reads the truth, `rules` holds the published rules of a match; the grammar of responses is
`verifiers.actions`. What a judge is told of a history is in `history`, what a candidate for a step is in
`candidates`. A history's budget is in characters (`history`) or, of a judge in this process, in tokens of its
own (`history_tokens`); the first step and the newest are kept, and a notice says how many are left out.
"""
