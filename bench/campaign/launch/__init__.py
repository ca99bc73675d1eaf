"""What runs where a campaign is launched: the coordinator, and what it knows of gangs, nodes, clocks and disk space."""
