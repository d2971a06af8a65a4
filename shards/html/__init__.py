"""Pages that are one file: charts, pictures and sounds inside, nothing from the network."""
