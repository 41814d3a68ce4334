"""What a user holds: the result, its files, prediction, names, the Hub, the report."""
