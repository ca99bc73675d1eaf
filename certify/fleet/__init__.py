"""Nodes side by side: which are slow or changed, what a spot check shows, and the page of a fleet."""
