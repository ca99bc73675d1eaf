"""A small signed set that every later version must accept, until the format says otherwise."""
