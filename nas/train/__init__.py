"""Training a chosen variant for real: the paper's recipe, timm's parts, Lightning Fabric's devices and processes."""
