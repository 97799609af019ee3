"""One YAML file per recipe; data only."""
