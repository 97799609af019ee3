"""The engine: batches over samples, rewards and callers; start with `engine.Engine`.

`engine` (the loop: score, submit, failures), `batching` (costs, budgets, packing), `queues` (which batch is
next), `local` (where batches run: threads and the device), `cache` (results kept by bytes).
"""
