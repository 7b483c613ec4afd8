"""Exact incremental occlusion: only the windows that an occluder changes pass through the network."""
