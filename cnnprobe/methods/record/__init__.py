"""record: how every unit responds to every image, and what the network answers."""
