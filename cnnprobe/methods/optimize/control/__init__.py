"""Population control: images found in one network that drive units of another."""
