"""The commands of petaseal: the composition root, the only room of `certify` that may import all of ``bench``."""
