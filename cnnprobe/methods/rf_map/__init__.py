"""rf-map: receptive fields of units, by exact incremental occlusion."""
