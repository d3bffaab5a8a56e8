"""What is connected to what, and with which sign."""
