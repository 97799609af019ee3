"""Rewards of GUI agents: clicks, actions and episodes under every published rule, and training rewards by
name.

`targets` reads the truth, `rules` holds the published rules of a match; the grammar of responses is
`verifiers.actions`.
"""
