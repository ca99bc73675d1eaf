"""What a running registry consists of: settings, key, processes, tokens; every room above is given it."""
