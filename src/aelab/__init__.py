"""aelab: a laboratory for autoencoders of small images."""
