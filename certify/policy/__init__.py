"""Data that a claim is judged by: policies, centre files, ratings, reason codes; and the verdicts of conditions."""
