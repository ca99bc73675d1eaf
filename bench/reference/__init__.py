"""Reference measurements beside a figure, and the checks of its products."""
