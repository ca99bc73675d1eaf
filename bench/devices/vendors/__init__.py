"""The back ends of the vendors: what only one vendor has, such as its visibility variables and its plug-in of torch."""
