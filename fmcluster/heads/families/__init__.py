"""What several published methods share: representation learning, transport."""
