"""What other tools printed: parsers by labels, and the checks of what they say, from bytes to runs with codes."""
