"""Cities: what is known of each class, who is absent, who reached a value, and how the sums came about."""
