"""What runs on a node of a campaign: it reports, prepares, waits for the agreed start, measures, leaves its record."""
