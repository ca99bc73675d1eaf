"""Sources that are the vendors' command-line tools: what is read where no library answers."""
