"""A second judge, written from the text of the rules and policies, against which the product's own is held.

Nothing here may import the product's rules, sums, bounds or verdicts; what is compared are figures and sums of every
kind. The readers of samples are those of the standard library.
"""
