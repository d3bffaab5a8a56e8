"""What enters, and what the answer is held against: standardised, or repaired."""
