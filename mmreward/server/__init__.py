"""Scores over HTTP, for trainers that ask a reward server. Needs `mmreward[server]`."""
