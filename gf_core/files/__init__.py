"""Files, ours and other people's: written whole or not at all, opened without trust, told by what is in them."""
