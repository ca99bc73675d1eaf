"""What a registry says now: the latest statements, their pools, sums and feed, and lists of what is stored."""
