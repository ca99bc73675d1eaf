"""The project's own speed, as ratios of what is timed side by side in one run: ``make perf``. Never part of a test."""
