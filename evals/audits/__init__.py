"""Audits: what breaks a verifier (`fuzz`), games a reward (`hacking`), or moves a score (`drift`).

Each is a command, `python -m mmreward.evals.audits.NAME`; its figures are in the Markdown file it names.
"""
