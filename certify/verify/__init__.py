"""Verification: the numbered steps from bytes that somebody sent to what is shown (docs/verification.md)."""
