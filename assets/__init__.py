"""The miniature's weights, sample media and golden numbers; data only."""
