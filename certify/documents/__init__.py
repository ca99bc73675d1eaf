"""Documents as bytes and types: canonical JSON, DSSE envelopes, the table of kinds, Merkle trees, caps."""
