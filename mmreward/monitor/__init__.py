"""Monitoring of training: metrics by data source, statistics of pictures, and alarms on both. Knows no
reward.

A trainer's `Outcome`s (`outcomes`) become flat metrics overall and by source (`by_source`), pictures become a
few numbers about colour, texture and diversity (`pictures`), and `alarms` says when their course looks like a
reward that is gamed. `intervals` is how sure a mean is, `tables` the scores of a run as text.
"""
