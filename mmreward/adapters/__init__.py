"""Rewards for trainers: trl, verl, easyr1, ms_swift and openrlhf, each in the form that one calls.

No trainer is imported here or by any of them: what is called is known from the call alone.
"""
