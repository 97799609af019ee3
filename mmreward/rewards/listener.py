"""placeholder, being written"""
PROMPT = """{prompt}
Another viewer reasoned as follows:
{reasoning}
Look for yourself. Answer {labels}."""
