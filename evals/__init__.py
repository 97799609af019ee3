"""Benchmarks, audits and reports; imports mmreward, which never imports this."""
