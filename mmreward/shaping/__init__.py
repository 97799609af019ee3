"""Pure functions over scores: gates, bonuses, weights and pairs that need no model. `compose` combines whole
rewards."""
