"""How FastViT configurations are measured, scored and searched."""
