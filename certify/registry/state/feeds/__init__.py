"""What schedulers and people take as a whole: the feed of nodes, positions of followers, filters, and lists as CSV."""
