"""Labels: the class of an image, from folders, tables and arrays."""
