"""A campaign's life in files: its opening, its roster of nodes and their keys, and the collection of records."""
