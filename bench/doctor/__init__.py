"""What is wrong with a node before it is measured, and what that does to its figures: ``petaseal doctor``.

`gather` reads the node, the checks are pure functions of what was read, and each of them is a row of
``configs/doctor.yaml``, which says why it moves the figure, by which rule, and what to do. Nothing is ever set.
"""
