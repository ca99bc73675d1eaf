"""The statement and what belongs to it: records, samples, campaign, baseline, package and page."""
