"""Keys and signatures: key files, signature algorithms, keys that another program holds."""
