"""Metrics by data source: what a trainer should see of every kind of task it trains on."""
