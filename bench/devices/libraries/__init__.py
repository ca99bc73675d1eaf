"""Sources that start no process: the vendors' management libraries and the files of kernel drivers.

A module is a source, or what sources share. What a vendor's sources are made of has a folder from three modules on.
"""
