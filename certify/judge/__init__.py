"""What a figure is worth: the run rules, R12, and the sums of what counts. Pure functions of values."""
