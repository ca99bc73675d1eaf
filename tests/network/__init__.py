"""The network's share of a campaign, over a relay whose delay and rate are known."""
