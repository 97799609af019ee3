"""Training a VLM to judge two pictures: comparisons, rationales worth learning from, and rows for trainers.
Knows no trainer."""
