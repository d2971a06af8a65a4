"""The demo corpus: six minutes of free sound, committed, with the script that made it."""
