"""What all edits share: a source text and its names, a patch of it, where values and inputs come from."""
