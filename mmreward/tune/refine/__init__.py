"""Draw, let critics say what is wrong, revise the prompt, draw again."""
