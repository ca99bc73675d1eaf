"""One node's measurement: the node and its workers, the timed loop, and the record that comes out."""
