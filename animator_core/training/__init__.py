"""Training of the networks; nothing here is needed to use them."""
