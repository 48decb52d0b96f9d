"""Studies: measurements that say whether refinement helps, for which guide and which settings."""
