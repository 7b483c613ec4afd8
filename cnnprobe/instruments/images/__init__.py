"""Images on their way into a network and into a store."""
