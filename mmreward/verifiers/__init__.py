"""Reading and checking what models write, without a model: pure functions, linear in the length of the
text."""
