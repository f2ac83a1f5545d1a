"""The sources of images, one module each, and the readers of file formats that they use."""
