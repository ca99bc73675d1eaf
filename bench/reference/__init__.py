"""Reference measurements of a figure, and the checks of its products."""
