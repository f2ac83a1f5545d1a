"""What a model writes compared with what it should: characters, and pictures of them."""
