"""What changes a registry: statements, records, campaigns, heartbeats, revocations, and the decision on each."""
