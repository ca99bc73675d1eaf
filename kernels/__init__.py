"""What is computed: operands, matrix products and the checks of those products.

This room imports nothing of petaseal's other rooms and knows nothing of devices, windows or claims.
"""

PETASEAL = True  # another distribution also installs a package named ``kernels``; this marks ours
