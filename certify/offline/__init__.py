"""Bundles that install petaseal on nodes without a network."""
