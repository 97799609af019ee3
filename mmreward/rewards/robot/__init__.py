"""Rewards of robots and other agents by what a camera sees."""
