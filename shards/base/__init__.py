"""What every room stands on: errors, the command line, complete files, places."""
