"""What each method is worth: every cell is one adapter trained and scored, and one JSON file."""
