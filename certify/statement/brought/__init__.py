"""What other tools measured and somebody signed: opening its documents, and what a statement says of them."""
