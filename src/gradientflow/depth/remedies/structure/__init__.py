"""How a network is built: ways past a block, normalisations put in and taken out."""
