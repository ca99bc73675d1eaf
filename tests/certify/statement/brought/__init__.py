"""Evidence that others bring: import, certify, verify, page."""
