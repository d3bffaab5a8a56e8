"""The watch: runs an unmodified script and follows its training, without touching what it computes."""
