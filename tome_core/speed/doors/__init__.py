"""Who calls: diffusers, hosts of the patcher protocol, plain torch modules. A door translates, and holds no merging."""
