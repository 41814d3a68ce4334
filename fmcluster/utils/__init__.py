"""What every floor needs: files, errors, input validation, seeds, processes, progress bars."""
