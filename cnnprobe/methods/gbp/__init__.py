"""gbp: gradient maps of units, guided or plain, and how far they can be trusted."""
