"""Networks for signals (channel, time)."""
