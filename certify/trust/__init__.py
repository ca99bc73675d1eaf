"""Whose signature counts: the trusted set, roots and their memory, witnesses and receipts."""
