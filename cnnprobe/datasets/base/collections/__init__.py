"""Collections: images that large lists name, with their objects."""
