"""The commands that work on files alone: ``package``, ``bundle``, ``audit retest``."""
