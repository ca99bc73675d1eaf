"""A record's raw samples: their strict reader, what they come to, and whether they bear the record's figures out."""
