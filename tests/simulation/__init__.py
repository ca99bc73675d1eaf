"""Simulations whose tables stand in the documentation, with their seeds; tests repeat them with others."""
