"""Scores over HTTP, for trainers that call a reward server: `app` is the application, one file per wire
protocol beside it.

Needs `mmreward[server]`; started by `mmreward serve`, see the README.
"""
