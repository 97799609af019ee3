"""`mmreward search` and `mmreward refine`: configs, methods by name, and the folder they leave."""
