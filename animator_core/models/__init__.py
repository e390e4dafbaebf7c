"""Networks. They take and return tensors and know nothing of files or devices."""
